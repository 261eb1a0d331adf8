//go:build vm

package guest

import (
	"strings"
	"testing"
)

// Formatting leaves a device alone that is mounted or mapped.
func TestFormatInUse(t *testing.T) {
	dev, key := formatDisk(t)
	attached(t, "inuse")
	mustLockport(t, "attach", "inuse", dev, key)
	makeFS(t, "inuse", "still here")
	refused := func(target string) {
		t.Helper()
		r := try(t, "", []string{"NEWPASSWORD=x"}, "lockport", "format", "--batch-mode", "--pbkdf-force-iterations=4", "--pbkdf-memory=1024", target)
		if r.code != 1 || !strings.Contains(r.stderr, "in use") || !strings.Contains(r.stderr, "hint:") {
			t.Errorf("formatting %s: exit code %d, %s", target, r.code, r.stderr)
		}
	}
	refused(dev)
	mounted(t, "inuse", "rw", func(string) { refused("/dev/mapper/inuse") })
	checkFS(t, "inuse", "still here")
	mustLockport(t, "detach", "inuse")
	nothingLeft(t)
}

// A new user swaps the arguments.
func TestAttachSwapped(t *testing.T) {
	dev, _ := formatDisk(t)
	r := lockport(t, "attach", dev, "data")
	if r.code != 1 || !strings.Contains(r.stderr, "slash") || !strings.Contains(r.stderr, "attach NAME DEVICE") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
	nothingLeft(t)
}

// What is encrypted without the kernel is what systemd's volume holds.
func TestFormatContent(t *testing.T) {
	dev, key := disk(t), write(t, "key", "first")
	content := write(t, "content", strings.Repeat("All work and no play.\n", 100_000))
	run(t, "lockport", "format", "--batch-mode", "--content="+content, "--key-file="+key, "--pbkdf-force-iterations=4", "--pbkdf-memory=1024", dev)
	attached(t, "filled")
	run(t, systemdCryptsetup, "attach", "filled", dev, key, "read-only")
	run(t, "cmp", "-n", "2200000", content, "/dev/mapper/filled")
	run(t, systemdCryptsetup, "detach", "filled")
	nothingLeft(t)
}
