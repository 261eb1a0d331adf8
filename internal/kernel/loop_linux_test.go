package kernel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func imageFile(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	write(t, path)
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// backing returns the file behind a loop device, "" when it is free.
func backing(device string) string {
	b, _ := os.ReadFile("/sys/block/" + filepath.Base(device) + "/loop/backing_file")
	return line(b)
}

func attach(t *testing.T, m *Mapper, path string, readOnly bool) (string, func() error) {
	t.Helper()
	device, release, err := m.AttachLoop(path, readOnly)
	if errors.Is(err, ErrUnsupported) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		t.Skip("no loop devices here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = release() })
	return device, release
}

func TestAttachLoop(t *testing.T) {
	t.Parallel()
	root(t)
	m := New(Options{})
	path := imageFile(t, 1<<20)
	device, release := attach(t, m, path, false)
	if got := backing(device); got != path {
		t.Fatalf("%s lies on %q", device, got)
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if err := release(); err != nil {
		t.Error("second release:", err)
	}
	if got := backing(device); got != path {
		t.Errorf("%s is gone although it is in use", device)
	}
	if n, err := Size(f); n != 1<<20 || err != nil {
		t.Errorf("Size: %d, %v", n, err)
	}
	if l, p, err := SectorSizes(f); l != 512 || p < 512 || err != nil {
		t.Errorf("SectorSizes: %d, %d, %v", l, p, err)
	}
	if ro, err := ReadOnly(f); ro || err != nil {
		t.Errorf("ReadOnly: %v, %v", ro, err)
	}
	if major, _, err := DeviceNumber(f); major != 7 || err != nil {
		t.Errorf("DeviceNumber: %d, %v", major, err)
	}
	f.Close()
	for deadline := time.Now().Add(time.Minute); backing(device) == path; {
		if time.Now().After(deadline) {
			t.Fatalf("%s stays after its last close", device)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAttachLoopReadOnly(t *testing.T) {
	t.Parallel()
	root(t)
	device, _ := attach(t, New(Options{}), imageFile(t, 1<<20), true)
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ro, err := ReadOnly(f); !ro || err != nil {
		t.Errorf("ReadOnly: %v, %v", ro, err)
	}
}

// Two at once must not get the same device.
func TestAttachLoopRace(t *testing.T) {
	t.Parallel()
	root(t)
	m := New(Options{})
	first, release := attach(t, m, imageFile(t, 1<<20), false)
	defer release()
	var mu sync.Mutex
	seen := map[string]bool{first: true}
	var all sync.WaitGroup
	for range 4 {
		path := imageFile(t, 1<<20)
		all.Go(func() {
			device, release, err := m.AttachLoop(path, false)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if backing(device) != path {
				t.Errorf("%s lies on %q", device, backing(device))
			}
			mu.Lock()
			defer mu.Unlock()
			seen[device] = true
		})
	}
	all.Wait()
	if len(seen) < 2 {
		t.Errorf("devices: %v", seen)
	}
}

func TestAttachLoopMissingFile(t *testing.T) {
	t.Parallel()
	if _, _, err := New(Options{}).AttachLoop("/nonexistent", false); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRegularFile(t *testing.T) {
	t.Parallel()
	f, err := os.Open(imageFile(t, 12345))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := Size(f); n != 12345 || err != nil {
		t.Errorf("Size: %d, %v", n, err)
	}
	if l, p, err := SectorSizes(f); l != 512 || p != 4096 || err != nil {
		t.Errorf("SectorSizes: %d, %d, %v", l, p, err)
	}
	if _, _, err := DeviceNumber(f); err == nil {
		t.Error("a file has a device number")
	}
	if _, err := ReadOnly(f); err == nil {
		t.Error("a file has a read-only state")
	}
}
