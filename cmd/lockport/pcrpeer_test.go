package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPeerPCR wants from 'pcr predict' what scripts get from 'systemd-measure
// calculate', byte for byte.
func TestPeerPCR(t *testing.T) {
	t.Parallel()
	measure := originalProgram(t, "/usr/lib/systemd/systemd-measure")
	dir := t.TempDir()
	for name, content := range map[string]string{"linux": "KERNEL", "initrd": strings.Repeat("I", 70_000), "osrel": "ID=x\n", "cmdline": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{
		"--linux=linux",
		"--linux=linux --initrd=initrd --osrel=osrel --cmdline=cmdline",
		"--linux=linux --bank=sha512 --bank=SHA1 --bank=sha1 --phase=b::c --phase=a:b --phase=: --phase=a:b:",
		"--linux=linux --osrel=osrel --json=short --bank=sha256 --bank=sha1",
		"--linux=linux --json=short --phase= --phase=z",
		"--linux=linux --json=off --bank=sha384",
		"--linux=none",
		"--initrd=initrd",
		"--linux=linux --bank=none",
		"--linux=.",
		"--linux=linux extra",
	} {
		ours := runHere(t, dir, append([]string{"lockport", "pcr", "predict"}, strings.Fields(args)...))
		theirs := runHere(t, dir, append([]string{measure, "calculate"}, strings.Fields(args)...))
		if theirs.code != 0 {
			ours.stderr, theirs.stderr = "", "" // in words of our own
		}
		if diff := cmp.Diff(theirs, ours, cmp.AllowUnexported(ran{})); diff != "" {
			t.Errorf("%s: %s", args, diff)
		}
	}
}

type ran struct {
	code           int
	stdout, stderr string
}

// runHere runs a program in a folder.
func runHere(t *testing.T, dir string, call []string) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(call[0], call[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
