//go:build vm

package guest

import (
	"strings"
	"testing"
)

// The machine is what the other tests take for granted.
func TestMachine(t *testing.T) {
	for _, path := range []string{"/dev/mapper/control", "/dev/tpmrm0", "/dev/uhid", "/run/udev/control"} {
		if !exists(path) {
			t.Errorf("%s is missing", path)
		}
	}
	for _, tool := range []string{"systemctl", "systemd-cryptenroll", "/usr/bin/systemd-cryptsetup"} {
		if first, _, _ := strings.Cut(run(t, tool, "--version"), "\n"); !strings.HasPrefix(first, "systemd 257") {
			t.Errorf("%s --version says %q", tool, first)
		}
	}
	waitFor(t, func() bool {
		return try(t, "", nil, "systemctl", "is-system-running").stdout == "running\n"
	}, "systemd has started everything without a failure")
}

func TestLockportRuns(t *testing.T) {
	if out := mustLockport(t, "--version"); !strings.Contains(out, "lockport") {
		t.Errorf("lockport --version printed %q", out)
	}
	if r := lockport(t, "no-such-verb"); r.code == 0 || r.stderr == "" {
		t.Errorf("an unknown verb: exit code %d, stderr %q", r.code, r.stderr)
	}
}

// A spare disk can be written, is clean again for the next test, and a
// passphrase prompt can be answered: the originals show that the harness works.
func TestHarness(t *testing.T) {
	t.Run("volume", func(t *testing.T) {
		dev := disk(t)
		key := write(t, "key", "correct horse")
		run(t, "cryptsetup", "luksFormat", "--batch-mode", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", dev, key)
		c := startConsole(t, "cryptsetup", "open", dev, "harness")
		c.expect("Enter passphrase")
		c.send("correct horse\n")
		if code, text := c.wait(); code != 0 {
			t.Fatalf("cryptsetup open: exit code %d\n%s", code, text)
		}
		if !exists("/dev/mapper/harness") {
			t.Error("/dev/mapper/harness is missing")
		}
		run(t, "cryptsetup", "close", "harness")
	})
	t.Run("wiped", func(t *testing.T) {
		// The pool is first in, first out: take every disk to meet the used one.
		for range cap(spares) {
			dev := disk(t)
			if r := try(t, "", nil, "cryptsetup", "isLuks", dev); r.code == 0 {
				t.Errorf("%s still holds a volume", dev)
			}
		}
	})
}
