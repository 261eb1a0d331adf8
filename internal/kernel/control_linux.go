package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlNumber is the device number of the control node: misc, 236.
var controlNumber = unix.Mkdev(10, 236)

// control is the open control node of the device-mapper.
type control struct{ *os.File }

// openControl opens the control node, and makes it first where nothing else
// does, as in a bare initramfs.
func (m *Mapper) openControl() (control, error) {
	path := m.nodePath("control")
	f, err := openNode(path, os.O_RDWR, unix.S_IFCHR, controlNumber)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist) {
		return control{}, fmt.Errorf("device-mapper is %w", ErrUnsupported)
	}
	if err != nil {
		return control{}, fmt.Errorf("opening the device-mapper: %w", err)
	}
	return control{f}, nil
}

// openNode opens a device node. A missing one is made; it is removed again when
// there is no such device.
func openNode(path string, flag int, kind uint32, dev uint64) (*os.File, error) {
	f, err := os.OpenFile(path, flag, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mknod(path, kind|0o600, int(dev)); err != nil && err != unix.EEXIST {
		return nil, &fs.PathError{Op: "mknod", Path: path, Err: err}
	}
	f, err = os.OpenFile(path, flag, 0)
	if err != nil {
		_ = os.Remove(path)
	}
	return f, err
}

// call sends a message that carries no data and returns the reply.
func (c control) call(request uint, m message) (message, error) {
	buf := make([]byte, headerSize)
	m.put(buf)
	return c.send(request, buf)
}

// ask sends a message whose reply carries data.
func (c control) ask(request uint, m message) (message, error) {
	buf := make([]byte, 16<<10)
	m.put(buf)
	return c.send(request, buf)
}

func (c control) send(request uint, buf []byte) (message, error) {
	if err := ioctl(c.File, request, unsafe.Pointer(&buf[0])); err != nil {
		return message{}, err
	}
	return parseReply(buf)
}

// ioctl repeats the call when a signal, such as the runtime's own, cuts it short.
func ioctl(f *os.File, request uint, arg unsafe.Pointer) error {
	defer runtime.KeepAlive(f)
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// cryptVersion returns the version of the kernel's crypt target, and loads its
// module where that is needed. ok is false when an old kernel can't tell before
// the first table has been loaded.
func (c control) cryptVersion() (v version, ok bool, err error) {
	reply, err := c.ask(unix.DM_GET_TARGET_VERSION, message{name: "crypt"})
	switch {
	case errors.Is(err, unix.ENOTTY): // before 5.5
		reply, err = c.ask(unix.DM_LIST_VERSIONS, message{})
	case errors.Is(err, unix.EINVAL):
		return v, false, fmt.Errorf("dm-crypt is %w", ErrUnsupported)
	}
	if err != nil {
		return v, false, fmt.Errorf("asking for the version of dm-crypt: %w", err)
	}
	return findVersion(reply.data, "crypt")
}
