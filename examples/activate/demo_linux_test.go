package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemo takes the tour: what it shows has to happen, in this order.
func TestDemo(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"bash", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", "../../cmd/lockport", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	scratch := filepath.Join(dir, "scratch")
	if err := os.Mkdir(scratch, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), "bash", "../demo", dir+"/lockport", dir+"/activate")
	cmd.Env = append(os.Environ(), "TMPDIR="+scratch, "LANG=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rest := string(out)
	var tpm []string
	if _, err := exec.LookPath("swtpm"); err == nil {
		tpm = []string{"\nKeyslot 2, tpm2 \"this machine\": opens\n", "keyslot 2 opens (tpm2)"}
	}
	for _, want := range append(tpm,
		"keyslot 1 opens (recovery)", "(exit code 1)", "\nMeet me at the harbour at nine.\n", "(exit code 1)",
		"Written root/walkthrough-go_1.raw", "\nRoot hash: ", "0 errors, 0 warnings", "Copied /etc/systemd/system.attached/walkthrough-go.socket", " attached\n",
		"visitor #1!\n", "visitor #2!\n", "\nthe service has exited\n", "visitor #3!\n", "Removed /etc/portables/walkthrough-go_1.raw",
	) {
		_, behind, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("no %q in\n%s", want, rest)
		}
		rest = behind
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"usage: ":    {},
		"usage: a":   {"serve", "127.0.0.1:0"},
		"usage: ac":  {"get"},
		"usage: act": {"frobnicate", "x"},
		"connect: ":  {"get", "http://127.0.0.1:1"},
		"nosuch":     {"become", "/nosuch/program"},
		"not a port": {"serve", "127.0.0.1:not a port", "true"},
	} {
		if err := run(args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
