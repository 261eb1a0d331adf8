package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// remove removes the mapping that which names, and its node. It bears with
// somebody who has the device open without a lasting use of it, such as udev
// after a close for writing, for a while.
func (m *Mapper) remove(ctx context.Context, ctl control, which message, node string) error {
	wait := m.newCookie()
	defer wait.drop()
	which.event = event(wait.cookie)
	reply, err := ctl.call(unix.DM_DEV_REMOVE, which)
	if errors.Is(err, unix.EBUSY) {
		reply, err = m.removeBusy(ctx, ctl, which, node)
	}
	if errors.Is(err, unix.ENXIO) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	if err := wait.done(ctx, reply.flags&flagUevent != 0); err != nil {
		return err
	}
	return m.dropNode(node)
}

// removeBusy tries again whenever the device is closed by somebody.
func (m *Mapper) removeBusy(ctx context.Context, ctl control, which message, node string) (message, error) {
	closed, err := watchCloses(m.nodePath(node))
	if err != nil {
		return message{}, err
	}
	defer closed.stop()
	ctx, stop := context.WithTimeout(ctx, m.o.BusyTimeout)
	defer stop()
	// The close is reported just before the kernel counts it, and a node of
	// another path is not watched at all: so the wait is short at first.
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		status, err := ctl.call(unix.DM_DEV_STATUS, which)
		if err != nil {
			return message{}, err
		}
		if users := m.lastingUsers(status, node); len(users) > 0 {
			return message{}, fmt.Errorf("volume is %w%s", ErrBusy, because(users))
		}
		reply, err := ctl.call(unix.DM_DEV_REMOVE, which)
		if !errors.Is(err, unix.EBUSY) {
			return reply, err
		}
		if !closed.wait(ctx, pause) {
			return message{}, m.stillBusy(ctx, status)
		}
	}
}

// stillBusy is the error of a device that stayed open too long.
func (m *Mapper) stillBusy(ctx context.Context, status message) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	users := m.processes(majorMinor(status.dev))
	if len(users) == 0 {
		users = []string{fmt.Sprintf("open %d times", status.open)}
	}
	return fmt.Errorf("volume is %w%s", ErrBusy, because(users))
}

// closes wakes up when somebody closes a file.
type closes struct{ fd int }

func watchCloses(path string) (closes, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return closes{}, err
	}
	// A missing node is no reason to give up: then only the clock wakes us.
	_, _ = unix.InotifyAddWatch(fd, path, unix.IN_CLOSE_WRITE|unix.IN_CLOSE_NOWRITE)
	return closes{fd}, nil
}

// wait returns after a close, at the latest after d. It is false when the
// context has ended.
func (c closes) wait(ctx context.Context, d time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(fds, int(d.Milliseconds())); n > 0 {
		var events [4096]byte
		_, _ = unix.Read(c.fd, events[:])
	}
	return ctx.Err() == nil
}

func (c closes) stop() { _ = unix.Close(c.fd) }
