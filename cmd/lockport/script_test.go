package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lockport/lockport/secret"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"lockport":            counted,
		"systemd-cryptenroll": counted,
		"systemd-cryptsetup":  counted,
	})
}

// counted is main with a check that all secrets were wiped, in builds that
// count them.
func counted() {
	code := run()
	for _, stack := range secret.Live() {
		fmt.Fprintf(os.Stderr, "secret never wiped, made at:\n%s\n", stack)
		code = 100
	}
	os.Exit(code)
}

// TestScripts runs one file per behaviour. In each, $FAST has the flags of a
// keyslot that costs little, and $VECTORS the volumes of the originals.
func TestScripts(t *testing.T) {
	t.Parallel()
	vectors, err := filepath.Abs("../../testdata/vectors")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("VECTORS", vectors)
			e.Setenv("TZ", "UTC")
			return nil
		},
	})
}
