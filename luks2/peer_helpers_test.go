package luks2_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// peer wants one of the original tools: without it the test is skipped, and
// fails where CI is set.
func peer(t testing.TB, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// run starts a tool with text as its standard input and returns what it prints.
func run(t testing.TB, input, name string, args ...string) (string, error) {
	t.Helper()
	return runWith(t, nil, input, name, args...)
}

func runWith(t testing.TB, env []string, input, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// cryptsetup runs it without questions.
func cryptsetup(t testing.TB, input string, args ...string) (string, error) {
	t.Helper()
	return run(t, input, "cryptsetup", append([]string{"--batch-mode"}, args...)...)
}

func mustCryptsetup(t testing.TB, input string, args ...string) string {
	t.Helper()
	out, err := cryptsetup(t, input, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// theyOpen has cryptsetup try a passphrase on one keyslot, or on any for -1.
func theyOpen(t testing.TB, path string, slot int, pass string) error {
	t.Helper()
	args := []string{"open", "--test-passphrase", "--key-file", "-", path}
	if slot >= 0 {
		args = append(args, "--key-slot", strconv.Itoa(slot))
	}
	_, err := cryptsetup(t, pass, args...)
	return err
}

// weOpen tries a passphrase on a keyslot, or on any for -1.
func weOpen(t testing.TB, h *luks2.Header, slot int, pass string) error {
	t.Helper()
	var key *secret.Bytes
	var err error
	if slot < 0 {
		_, key, err = h.Find(t.Context(), text(t, pass))
	} else {
		key, err = h.VolumeKey(t.Context(), slot, text(t, pass))
	}
	key.Wipe()
	return err
}
