package tpm2

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOpenWaits has a software TPM that is busy with others and lets nobody wait.
func TestOpenWaits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), path)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		busy, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		defer busy.Close()
	}
	time.AfterFunc(2*pollTime, func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	})
	dev, err := Open(t.Context(), "", "swtpm:path="+path)
	if err != nil {
		t.Fatal(err)
	}
	if err := closeDevice(dev); err != nil {
		t.Error(err)
	}
}
