package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lockport/lockport/fido2/fido2test"
	"github.com/lockport/lockport/secret"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"lockport":            counted,
		"systemd-cryptenroll": counted,
		"systemd-cryptsetup":  counted,
		"portablectl":         counted,
		// Helpers.
		"new-volume":  newVolume,
		"unpack":      unpack,
		"poke":        poke,
		"add-token":   tokenTool,
		"serve-key":   serveKey,
		"with-stdout": withStdout,
		"as-nobody":   asNobody,
		"low-memory":  lowMemory,
		"typist":      typist,
		"new-uki":     newUKI,
		"on-host":     onHost,
	})
}

// counted is main with a check that all secrets were wiped, in builds that
// count them.
func counted() {
	a := newApp(filepath.Base(os.Args[0]))
	if dir := os.Getenv("SOFTKEYS"); dir != "" {
		a.keys = &fido2test.Folder{Dir: dir}
	}
	code := a.run(os.Args[1:])
	for _, stack := range secret.Live() {
		fmt.Fprintf(os.Stderr, "secret never wiped, made at:\n%s\n", stack)
		code = 100
	}
	os.Exit(code)
}

// TestScripts runs one file per behaviour. In each, $ITER and $MEM are the
// options of a keyslot that costs little, and $VECTORS has the volumes of the
// originals.
func TestScripts(t *testing.T) {
	t.Parallel()
	vectors, err := filepath.Abs("../../testdata/vectors")
	if err != nil {
		t.Fatal(err)
	}
	compiled := os.Getenv("GOCACHE")
	if compiled == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		compiled = filepath.Join(dir, "go-build")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Condition:           condition,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"tpm": softwareTPM, "card": softwareCard},
		Setup: func(e *testscript.Env) error {
			e.Values[scriptTPM{}] = &scriptState{}
			e.Setenv("VECTORS", vectors)
			e.Setenv("ITER", "--pbkdf-force-iterations=4")
			e.Setenv("MEM", "--pbkdf-memory=32")
			e.Setenv("TZ", "UTC")
			// The race detector's second of waiting at each exit adds up.
			e.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
			// What is typed in one script must not answer in another.
			e.Setenv("SYSTEMD_ASK_PASSWORD_KEYRING_TIMEOUT_SEC", "0")
			e.Setenv("LANG", "C.UTF-8")
			// Scripts have no home, and what they compile is small.
			e.Setenv("GOCACHE", compiled)
			e.Setenv("GOPROXY", "off")
			e.Setenv("GOTOOLCHAIN", "local")
			return nil
		},
	})
}

// condition tells what this machine has: [dm] device-mapper, [luksvar] a LUKS2
// volume under /var, [peer:NAME] one of the originals, which CI must have.
func condition(name string) (bool, error) {
	if peer, ok := strings.CutPrefix(name, "peer:"); ok {
		_, err := exec.LookPath(peer)
		if err != nil && os.Getenv("CI") != "" {
			return false, err
		}
		return err == nil, nil
	}
	a := newApp("lockport")
	switch name {
	case "dm":
		_, err := a.mapper().Mapped(ctx(), "lockport-script-test")
		return err == nil, nil
	case "luksvar":
		_, err := a.mapper().Backing("/var")
		return err == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}
