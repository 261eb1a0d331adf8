package kernel

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// udevAnswers reports whether udev runs and has the rules by which it says that
// it is done with a mapping. Without both we make the nodes ourselves.
func (m *Mapper) udevAnswers() bool {
	if !exists(filepath.Join(m.o.Udev, "control")) {
		return false
	}
	for _, folder := range m.o.Rules {
		if exists(filepath.Join(folder, "95-dm-notify.rules")) {
			return true
		}
	}
	return false
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// udevWait is a semaphore that udev lowers to zero once it has finished with
// an event. Its cookie is 0 where there is nobody to wait for.
type udevWait struct {
	m      *Mapper
	cookie uint16
	id     uintptr
}

// newCookie makes the semaphore for one operation. Where semaphores are not to
// be had, the operation goes on without.
func (m *Mapper) newCookie() *udevWait {
	w := &udevWait{m: m}
	if !m.udevAnswers() {
		return w
	}
	for range 100 {
		var random [2]byte
		_, _ = rand.Read(random[:])
		cookie := binary.NativeEndian.Uint16(random[:])
		if cookie == 0 {
			continue
		}
		id, err := semCreate(semKey(cookie))
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			m.o.Log.Warn("no semaphore to wait for udev with", "error", err)
			return w
		}
		w.cookie, w.id = cookie, id
		return w
	}
	return w
}

// drop removes the semaphore; it may be called after done.
func (w *udevWait) drop() {
	if w.cookie != 0 {
		semRemove(w.id)
	}
}

// done waits until udev has finished; sent says whether the kernel has told
// udev of the change at all. A udev that does not answer in time is logged and
// not waited for any longer: the mapping works without it.
func (w *udevWait) done(ctx context.Context, sent bool) error {
	if w.cookie == 0 || !sent {
		return ctx.Err()
	}
	// Removing the semaphore is what wakes the waiting thread.
	defer context.AfterFunc(ctx, w.drop)()
	deadline := time.Now().Add(w.m.o.UdevTimeout)
	for slice := 2 * time.Second; ; {
		err := semWaitZero(w.id, min(slice, time.Until(deadline)))
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && time.Now().Before(deadline) && w.m.udevWorks():
		case errors.Is(err, unix.EAGAIN):
			w.m.o.Log.Warn("udev did not finish with the volume's device, going on without")
			return nil
		default:
			return fmt.Errorf("waiting for udev: %w", err)
		}
	}
}

// udevWorks reports whether udev still has events to handle. If it has none and
// yet has not answered, it never will: it lives in another IPC namespace, or a
// rule went wrong.
func (m *Mapper) udevWorks() bool { return exists(filepath.Join(m.o.Udev, "queue")) }
