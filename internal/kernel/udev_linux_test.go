//go:build !386 && !mips && !mipsle && !ppc

package kernel

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lower is what udev's rule does with a cookie.
func lower(t *testing.T, id uintptr) {
	t.Helper()
	op := struct {
		number          uint16
		operation, flag int16
	}{operation: -1, flag: unix.IPC_NOWAIT}
	limit := unix.Timespec{}
	_, _, errno := unix.Syscall6(unix.SYS_SEMTIMEDOP, id, uintptr(unsafe.Pointer(&op)), 1, uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno != 0 {
		t.Errorf("lowering semaphore %d: %v", id, errno)
	}
}

// withUdev is a Mapper that believes that udev runs.
func withUdev(t *testing.T, o Options) *Mapper {
	t.Helper()
	o.Udev, o.Rules = t.TempDir(), []string{t.TempDir(), t.TempDir()}
	write(t, filepath.Join(o.Udev, "control"))
	write(t, filepath.Join(o.Udev, "queue"))
	write(t, filepath.Join(o.Rules[1], "95-dm-notify.rules"))
	return New(o)
}

// cookie makes a cookie whose semaphore must be gone when the test ends.
func cookie(t *testing.T, m *Mapper) *udevWait {
	t.Helper()
	w := m.newCookie()
	if w.cookie == 0 {
		t.Fatal("no cookie")
	}
	t.Cleanup(func() {
		w.drop()
		if err := semWaitZero(w.id, 0); !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EIDRM) {
			t.Errorf("semaphore is still there: %v", err)
		}
	})
	return w
}

func TestCookie(t *testing.T) {
	t.Parallel()
	m := withUdev(t, Options{})
	t.Run("answered before", func(t *testing.T) {
		t.Parallel()
		w := cookie(t, m)
		lower(t, w.id)
		if err := w.done(t.Context(), true); err != nil {
			t.Error(err)
		}
	})
	t.Run("answered while waiting", func(t *testing.T) {
		t.Parallel()
		w := cookie(t, m)
		go lower(t, w.id)
		if err := w.done(t.Context(), true); err != nil {
			t.Error(err)
		}
	})
	t.Run("nothing sent", func(t *testing.T) {
		t.Parallel()
		if err := cookie(t, m).done(t.Context(), false); err != nil {
			t.Error(err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		w := cookie(t, m)
		go cancel()
		if err := w.done(ctx, true); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		t.Parallel()
		seen := map[uint16]bool{}
		for range 50 {
			w := cookie(t, m)
			if seen[w.cookie] {
				t.Errorf("cookie %#x twice", w.cookie)
			}
			seen[w.cookie] = true
		}
	})
}

func TestCookieWithoutAnswer(t *testing.T) {
	t.Parallel()
	log := new(bytes.Buffer)
	m := withUdev(t, Options{UdevTimeout: time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err := cookie(t, m).done(t.Context(), true); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "udev did not finish") {
		t.Errorf("log: %s", log)
	}
}

func TestNoCookieWithoutUdev(t *testing.T) {
	t.Parallel()
	norules := withUdev(t, Options{})
	norules.o.Rules = nil
	for _, m := range []*Mapper{norules, New(Options{Udev: t.TempDir()})} {
		w := m.newCookie()
		if w.cookie != 0 {
			t.Errorf("cookie %#x", w.cookie)
		}
		if err := w.done(t.Context(), true); err != nil {
			t.Error(err)
		}
		w.drop()
	}
}
