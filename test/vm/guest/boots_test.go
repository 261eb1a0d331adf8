//go:build vm

package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What the host's program and the tests agree on: the number of the boot in
// the environment, the file with the names of tests that want another one, and
// a folder that outlives the boot.
const (
	bootVariable = "LOCKPORT_BOOT"
	againFile    = "/share/again"
	keepFolder   = "/share/keep"
)

// boots runs the nth part of a test in the nth boot of the machine, as a
// subtest. The next part comes once this boot's tests are over, if this one
// was no failure and was not skipped; nothing but such tests runs again.
func boots(t *testing.T, parts ...func(*testing.T)) {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(bootVariable))
	if err != nil || n < 1 || n > len(parts) {
		t.Fatalf("boot %q of a test that has %d parts", os.Getenv(bootVariable), len(parts))
	}
	done := false
	ok := t.Run(fmt.Sprint("boot ", n), func(t *testing.T) {
		parts[n-1](t)
		done = true
	})
	if !ok || !done || n == len(parts) {
		return
	}
	f, err := os.OpenFile(againFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintln(f, t.Name())
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// kept is the path of a file that the test's next parts find as this one left it.
func kept(t testing.TB, name string) string {
	t.Helper()
	test, _, _ := strings.Cut(t.Name(), "/")
	dir := filepath.Join(keepFolder, test)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// keptDisk is disk for tests of several parts: each gets the same disk, as the
// part before has left it. There are two, for two tests.
func keptDisk(t testing.TB) string {
	t.Helper()
	name := kept(t, "disk")
	path, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		path = []byte(claimDisk(t))
		err = os.WriteFile(name, path, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	freeAtEnd(t, string(path))
	return string(path)
}

// claimDisk returns a disk that no other test of this run has.
func claimDisk(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/dev/disk/by-id/virtio-kept?")
	for _, path := range found {
		err := os.Mkdir(filepath.Join(keepFolder, filepath.Base(path)), 0o700)
		if err == nil {
			return path
		}
		if !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	t.Fatalf("no disk is left of %d; more in ../run/machine.go", len(found))
	return ""
}

// A boot finds the TPM, the disk and the files as the last one left them; the
// firmware is another one from the second boot on.
func TestBoots(t *testing.T) {
	pcr := func(t *testing.T, n int) string {
		value, err := os.ReadFile(fmt.Sprintf("/sys/class/tpm/tpm0/pcr-sha256/%d", n))
		if err != nil {
			t.Fatal(err)
		}
		return string(value)
	}
	// firmware are the two values that tests of a changed firmware build on.
	firmware := func(t *testing.T) string { return pcr(t, 1) + pcr(t, 7) }
	same := func(t *testing.T, name, now string) bool {
		before, err := os.ReadFile(kept(t, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(before) == now
	}
	keep := func(t *testing.T, name, now string) {
		if err := os.WriteFile(kept(t, name), []byte(now), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const handle = "0x81010001"
	boots(t, func(t *testing.T) {
		run(t, "tpm2_createprimary", "-Q", "-C", "o", "-c", kept(t, "context"))
		run(t, "tpm2_evictcontrol", "-Q", "-C", "o", "-c", kept(t, "context"), handle)
		keep(t, "key", run(t, "tpm2_readpublic", "-c", handle))
		keep(t, "secure boot", pcr(t, 7))
		keep(t, "firmware", firmware(t))
		keep(t, "which disk", keptDisk(t))
		runInput(t, "left by boot 1", "dd", "of="+keptDisk(t), "conv=fsync")
	}, func(t *testing.T) {
		if !same(t, "key", run(t, "tpm2_readpublic", "-c", handle)) {
			t.Error("the TPM has another key than in the boot before")
		}
		if same(t, "firmware", firmware(t)) {
			t.Error("the firmware of the second boot is that of the first")
		}
		if !same(t, "secure boot", pcr(t, 7)) {
			t.Error("PCR 7 has changed with the firmware")
		}
		keep(t, "firmware", firmware(t))
	}, func(t *testing.T) {
		if !same(t, "firmware", firmware(t)) {
			t.Error("the firmware of the third boot is not that of the second")
		}
		if !same(t, "which disk", keptDisk(t)) || run(t, "head", "-c", "14", keptDisk(t)) != "left by boot 1" {
			t.Error("the disk is not as the first boot left it")
		}
		run(t, "tpm2_evictcontrol", "-Q", "-C", "o", "-c", handle)
	})
}
