package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lockport/lockport/pkcs11/pkcs11test"
)

// cardT lets a script have security tokens.
type cardT struct{ scriptT }

func (c cardT) TempDir() string {
	dir, err := os.MkdirTemp("", "card")
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// softwareCard is the script command card: "card start" gives the script a place
// for security tokens in software, and the module of them in $MODULE; "card init
// LABEL PIN" makes one, "card key LABEL PIN KIND ID NAME" a key pair on it, and "card
// tool ARGS" runs pkcs11-tool.
func softwareCard(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: card start|init|key|tool …")
	}
	state := ts.Value(scriptTPM{}).(*scriptState)
	if args[0] == "start" {
		state.cards = pkcs11test.NewSoftHSM(cardT{scriptT{ts}})
		ts.Setenv("SOFTHSM2_CONF", state.cards.Config)
		ts.Setenv("MODULE", state.cards.Module)
		return
	}
	switch verb, rest := args[0], args[1:]; {
	case state.cards == nil:
		ts.Fatalf("there is no card yet")
	case verb == "init" && len(rest) == 2:
		state.cards.Init(rest[0], rest[1])
	case verb == "key" && len(rest) == 5:
		state.cards.Key(rest[0], rest[1], rest[2], rest[3], rest[4])
	case verb == "tool":
		for i, a := range rest {
			rest[i] = strings.ReplaceAll(a, "@", ts.Getenv("WORK")+"/")
		}
		state.cards.Tool(rest...)
	default:
		ts.Fatalf("card: %s", fmt.Sprint(args))
	}
}
