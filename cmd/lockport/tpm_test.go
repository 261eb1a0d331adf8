package main

import (
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lockport/lockport/pkcs11/pkcs11test"
	"github.com/lockport/lockport/tpm2/tpm2test"
)

// scriptT lets a script run a software TPM.
type scriptT struct{ ts *testscript.TestScript }

func (scriptT) Helper()                             {}
func (s scriptT) Fatal(args ...any)                 { s.ts.Fatalf("%s", fmt.Sprint(args...)) }
func (s scriptT) Fatalf(format string, args ...any) { s.ts.Fatalf(format, args...) }
func (s scriptT) Skip(args ...any)                  { s.Fatal(args...) }
func (s scriptT) Cleanup(f func())                  { s.ts.Defer(f) }

// scriptTPM is the key of a script's TPM among its values.
type scriptTPM struct{}

// softwareTPM is the script command tpm: "tpm start [ARCHIVE]" powers one on that
// lockport finds as "auto", a new one or that of a vector; "tpm measure PCR TEXT"
// extends a PCR, and "tpm reset PCR" sets 16 or 23 back.
func softwareTPM(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: tpm start|measure|reset …")
	}
	args = append(args, "", "")
	if args[0] == "start" {
		archive := args[1]
		if archive != "" {
			archive = filepath.Join(ts.Getenv("VECTORS"), archive)
		}
		tpm := tpm2test.Start(scriptT{ts}, archive)
		ts.Setenv("SYSTEMD_TPM2_DEVICE", "swtpm:path="+tpm.Socket())
		ts.Value(scriptTPM{}).(*scriptState).tpm = tpm
		return
	}
	tpm := ts.Value(scriptTPM{}).(*scriptState).tpm
	pcr, err := strconv.Atoi(args[1])
	switch {
	case err != nil || tpm == nil:
		ts.Fatalf("tpm %s: %v", args, err)
	case args[0] == "measure":
		tpm.Event(pcr, args[2])
	case args[0] == "reset":
		tpm.Reset(pcr)
	default:
		ts.Fatalf("tpm knows no %q", args[0])
	}
}

// scriptState is what a script keeps between its commands.
type scriptState struct {
	tpm   *tpm2test.Software
	cards *pkcs11test.SoftHSM
}
