package luks2_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/luks2"
)

// TestLockOfFile has cryptsetup wait for our lock on an image, and us for ours.
func TestLockOfFile(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	path := blank(t, peerImage)
	mustCryptsetup(t, "first", append([]string{"luksFormat", "--type", "luks2", path, "-"}, quick...)...)
	checkLock(t, path)
}

// TestLockOfDevice does the same with a block device, whose lock is a file of
// its own.
func TestLockOfDevice(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	path := blank(t, peerImage)
	mustCryptsetup(t, "first", append([]string{"luksFormat", "--type", "luks2", path, "-"}, quick...)...)
	out, err := run(t, "", "losetup", "--find", "--show", path)
	if err != nil {
		t.Skip("no loop device:", err)
	}
	device := strings.TrimSpace(out)
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	lockFile := fmt.Sprintf("/run/cryptsetup/L_%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	f, h := openFile(t, device)
	if size, err := f.Size(); err != nil || size != peerImage || !f.Block() {
		t.Errorf("%d bytes, block device: %t, %v", size, f.Block(), err)
	}
	unlock, err := f.Lock(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(lockFile); err != nil {
		t.Error(err)
	}
	unlock()
	if _, err := os.Stat(lockFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock's file is left behind: %v", err)
	}
	checkLock(t, device)
	if err := errors.Join(h.SetLabel("on a device"), h.Commit(t.Context()), theyOpen(t, device, 0, "first")); err != nil {
		t.Error(err)
	}
	if dump := mustCryptsetup(t, "", "luksDump", device); !strings.Contains(dump, "on a device") {
		t.Error("cryptsetup does not see the label")
	}
}

func checkLock(t *testing.T, path string) {
	t.Helper()
	f, err := luks2.OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Readers don't keep each other out.
	unlock, err := f.Lock(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	mustCryptsetup(t, "", "luksDump", path)
	if _, err := luks2.Open(t.Context(), f); err != nil {
		t.Error(err)
	}
	unlock()

	unlock, err = f.Lock(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	// Another opener of ours waits no longer than it may.
	other, err := luks2.OpenFile(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := luks2.Open(ctx, other); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("opening what is locked: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "cryptsetup", "luksDump", path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !waitsForLock(t, cmd.Process.Pid) {
		select {
		case err := <-ended:
			t.Fatalf("cryptsetup did not wait for our lock: %v", err)
		case <-tick.C:
		}
	}
	unlock()
	if err := <-ended; err != nil {
		t.Errorf("after the lock was released: %v", err)
	}
	if _, err := luks2.Open(t.Context(), other); err != nil {
		t.Error(err)
	}
}

// waitsForLock looks for a process among the waiters in /proc/locks, whose lines
// have "->" in their second field.
func waitsForLock(t *testing.T, pid int) bool {
	t.Helper()
	f, err := os.Open("/proc/locks")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 5 && fields[1] == "->" && fields[5] == strconv.Itoa(pid) {
			return true
		}
	}
	return false
}

// TestOpenFile refuses what can't be a volume, and never makes a file longer.
func TestOpenFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, "/dev/null", filepath.Join(dir, "absent")} {
		if _, err := luks2.OpenFile(path, false); err == nil {
			t.Errorf("%s was opened", path)
		}
	}
	if _, err := luks2.OpenFile(dir, true); err == nil || !strings.Contains(err.Error(), "neither a block device nor a regular file") {
		t.Errorf("a directory: %v", err)
	}
	path := filepath.Join(dir, "image")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := luks2.OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 2), 4095); err == nil {
		t.Error("the file was made longer")
	}
	if f.Name() != path || f.Block() || f.SectorSize() != 4096 {
		t.Errorf("%s, block device: %t, sectors of %d bytes", f.Name(), f.Block(), f.SectorSize())
	}
	if _, _, err := luks2.Format(t.Context(), f, text(t, "x"), luks2.FormatOptions{KDF: cheap, Fast: true}); !errors.Is(err, luks2.ErrDamaged) {
		t.Errorf("formatting 4096 bytes: %v", err)
	}
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	if f.SectorSize() != 512 {
		t.Errorf("sectors of %d bytes in a file of 5000", f.SectorSize())
	}
}

// TestQueue waits for the derivations of others that need much memory.
func TestQueue(t *testing.T) {
	t.Parallel()
	const name = "/run/cryptsetup/LN_memory-hard-access"
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Skip("no lock directory:", err)
	}
	s, _, _ := formatted(t, luks2.FormatOptions{KDF: luks2.KDF{Type: luks2.Argon2id, Time: 4, Memory: 33 << 10, CPUs: 1}})
	other, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Skip(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	h, err := luks2.Open(t.Context(), s, luks2.WithQueue())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.VolumeKey(ctx, 0, text(t, "first")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another derives: %v", err)
	}
	if err := unix.Flock(int(other.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := weOpen(t, h, 0, "first"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
