package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loopTries bounds the race for a free loop device.
const loopTries = 64

// AttachLoop makes a block device out of a regular file. The device vanishes
// when its last user closes it: release lets go of our own use, so a mapping
// made in between keeps it alive, and takes it along when it goes. release may
// be called more than once.
//
// Errors wrap [ErrUnsupported] where the kernel has no loop devices.
func (m *Mapper) AttachLoop(path string, readOnly bool) (device string, release func() error, err error) {
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	file, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return "", nil, err
	}
	defer file.Close()
	loop, err := m.attachLoop(file, flag, 0, 0)
	if err != nil {
		return "", nil, fmt.Errorf("making a loop device of %s: %w", path, err)
	}
	return loop.Name(), func() error {
		if err := loop.Close(); !errors.Is(err, fs.ErrClosed) {
			return err
		}
		return nil
	}, nil
}

// attachLoop makes a device of a part of a file, in bytes; size 0 is all that
// follows the offset.
func (m *Mapper) attachLoop(file *os.File, flag int, offset, size uint64) (*os.File, error) {
	ctl, err := openNode(filepath.Join(m.o.Dev, "loop-control"), os.O_RDWR, unix.S_IFCHR, unix.Mkdev(10, 237))
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("loop devices are %w", ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	for range loopTries {
		loop, err := m.tryLoop(ctl, file, flag, offset, size)
		if !errors.Is(err, unix.EBUSY) {
			return loop, err
		}
	}
	return nil, errors.New("others take every free loop device first")
}

func (m *Mapper) tryLoop(ctl, file *os.File, flag int, offset, size uint64) (*os.File, error) {
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(m.o.Dev, "loop"+strconv.Itoa(n))
	loop, err := openNode(path, flag, unix.S_IFBLK, unix.Mkdev(7, uint32(n)))
	if err != nil {
		return nil, err
	}
	if err := configureLoop(loop, file, flag, offset, size); err != nil {
		loop.Close()
		return nil, err
	}
	return loop, nil
}

func configureLoop(loop, file *os.File, flag int, offset, size uint64) error {
	c := unix.LoopConfig{Fd: uint32(file.Fd())}
	c.Info = unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR, Offset: offset, Sizelimit: size}
	if flag == os.O_RDONLY {
		c.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	copy(c.Info.File_name[:len(c.Info.File_name)-1], file.Name())
	err := ioctl(loop, unix.LOOP_CONFIGURE, unsafe.Pointer(&c))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) { // before 5.8
		err = configureLoopInSteps(loop, file, &c.Info)
	}
	runtime.KeepAlive(file)
	return err
}

func configureLoopInSteps(loop, file *os.File, info *unix.LoopInfo64) error {
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(file.Fd())); err != nil {
		return err
	}
	if err := unix.IoctlLoopSetStatus64(int(loop.Fd()), info); err != nil {
		_ = unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0)
		return err
	}
	return nil
}
