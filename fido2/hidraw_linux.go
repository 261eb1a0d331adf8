package fido2

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockWait is until the next attempt to get a key that another program uses, which
// may wait for a person to touch it.
const lockWait = 50 * time.Millisecond

// node is a hidraw device.
type node struct {
	f *os.File
	*HID
}

// Close closes the device.
func (n *node) Close() error { return n.f.Close() }

func openNode(ctx context.Context, path string) (Conn, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("%w: %w", ErrGone, &os.PathError{Op: "open", Path: path, Err: err})
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	sizes, err := sizesOf(fd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), path)
	n := &node{f: f}
	if err = lock(ctx, fd); err == nil {
		n.HID, err = OpenHID(ctx, &hidraw{f, sizes}, sizes)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return n, nil
}

// sizesOf asks the kernel for the report descriptor.
func sizesOf(fd int) (Sizes, error) {
	size, err := unix.IoctlGetUint32(fd, unix.HIDIOCGRDESCSIZE)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
		return Sizes{}, ErrNotFIDO2
	}
	if err != nil {
		return Sizes{}, err
	}
	d := &unix.HIDRawReportDescriptor{Size: min(size, uint32(len(unix.HIDRawReportDescriptor{}.Value)))}
	if err := unix.IoctlHIDGetDesc(fd, d); err != nil {
		return Sizes{}, err
	}
	return parseDescriptor(d.Value[:min(int(d.Size), len(d.Value))])
}

// lock keeps programs that do the same, libfido2's among them, from using the key
// at the same time. It waits for its turn.
func lock(ctx context.Context, fd int) error {
	limited, cancel := context.WithTimeoutCause(ctx, callTime, ErrBusy)
	defer cancel()
	for {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-limited.Done():
			return context.Cause(limited)
		case <-time.After(lockWait):
		}
	}
}

// hidraw are the reports of a node.
type hidraw struct {
	f     *os.File
	sizes Sizes
}

// Send writes a report. The number of reports without numbers is 0.
func (h *hidraw) Send(report []byte) error {
	if err := h.f.SetWriteDeadline(time.Now().Add(initTime)); err != nil {
		return err
	}
	_, err := h.f.Write(append([]byte{0}, report...))
	return gone(err)
}

// Receive reads a report.
func (h *hidraw) Receive(ctx context.Context) ([]byte, error) {
	deadline, _ := ctx.Deadline() // the zero time is none
	if err := h.f.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = h.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, h.sizes.In)
	n, err := h.f.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// The file's clock and the context's are not quite the same.
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return b[:n], gone(err)
}

// gone marks the errors of a key that was pulled out.
func gone(err error) error {
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESHUTDOWN) || errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}
