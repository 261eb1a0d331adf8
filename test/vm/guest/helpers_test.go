//go:build vm

// Package guest holds the tests that run on a whole machine with systemd, as
// root: see ../README.md. Each file is a subject, each Test function a case.
package guest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bound is the longest that one command or condition may take. Emulation is
// slow and the host noisy: it ends what hangs, and measures nothing.
const bound = 2 * time.Minute

// result is what a command left behind.
type result struct {
	stdout, stderr string
	code           int // exit code; -1 when ended by a signal
}

// run runs a command to its end and fails the test unless it succeeds. It
// returns what it printed on standard output, without the last newline.
func run(t testing.TB, argv ...string) string {
	t.Helper()
	return runInput(t, "", argv...)
}

// runInput is run with standard input.
func runInput(t testing.TB, input string, argv ...string) string {
	t.Helper()
	r := try(t, input, nil, argv...)
	if r.code != 0 {
		t.Fatalf("%s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(argv, " "), r.code, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// try runs a command to its end, however it ends, with standard input and
// variables added to the environment.
func try(t testing.TB, input string, env []string, argv ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal to ask on
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s: not done after %v\nstdout: %s\nstderr: %s", strings.Join(argv, " "), bound, &stdout, &stderr)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// lockport runs our binary and returns how it ended.
func lockport(t testing.TB, args ...string) result {
	t.Helper()
	return try(t, "", nil, append([]string{"lockport"}, args...)...)
}

// mustLockport runs our binary, which must succeed, and returns its standard output.
func mustLockport(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, append([]string{"lockport"}, args...)...)
}

// waitFor waits until cond holds and fails the test when it never does.
func waitFor(t testing.TB, cond func() bool, what string) {
	t.Helper()
	for end := time.Now().Add(bound); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", bound, what)
		}
	}
}

// exists tells whether there is something at path, following symlinks.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// write makes a file of mode 0600 in a folder of the test and returns its path.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
