//go:build vm

package guest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// spares are the machine's empty disks of 256 MiB; a test takes one out and
// its cleanup puts it back.
var spares = findSpares()

func findSpares() chan string {
	found, _ := filepath.Glob("/dev/disk/by-id/virtio-spare?")
	c := make(chan string, len(found))
	for _, path := range found {
		c <- path
	}
	return c
}

// disk lends the test an empty disk and returns its path, /dev/disk/by-id/….
// Parallel tests get different ones. When the test ends, nothing may hold the
// disk any more: a mapping that was left behind fails the test and is removed.
func disk(t testing.TB) string {
	t.Helper()
	if cap(spares) == 0 {
		t.Fatal("the machine has no spare disks")
	}
	var path string
	select {
	case path = <-spares:
	case <-t.Context().Done():
		t.Fatal("no spare disk was given back")
	}
	// Cleanups run last in, first out.
	t.Cleanup(func() {
		cleanup(t, "blkdiscard", "--force", "--zeroout", path)
		cleanup(t, "udevadm", "settle")
		spares <- path
	})
	freeAtEnd(t, path)
	return path
}

// freeAtEnd fails the test when something holds the disk at the test's end,
// and removes that.
func freeAtEnd(t testing.TB, path string) {
	t.Helper()
	dev, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, holder := range holders(t, dev) {
			t.Errorf("%s is still held by %s", path, holder)
			cleanup(t, "dmsetup", "remove", "--force", "--retry", holder)
		}
	})
}

// cleanup runs a command in a test's cleanup, where the test's own context is over.
func cleanup(t testing.TB, argv ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// holders names the mappings that stand on a block device.
func holders(t testing.TB, dev string) []string {
	t.Helper()
	dir := filepath.Join("/sys/class/block", filepath.Base(dev), "holders")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		name, err := os.ReadFile(filepath.Join(dir, e.Name(), "dm/name"))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, string(name[:len(name)-1]))
	}
	return names
}
