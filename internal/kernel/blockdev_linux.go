package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Size returns the length in bytes of a block device or a regular file.
func Size(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Mode().IsRegular() {
		return info.Size(), nil
	}
	var n uint64
	if err := ioctl(f, unix.BLKGETSIZE64, unsafe.Pointer(&n)); err != nil {
		return 0, fmt.Errorf("size of %s: %w", f.Name(), err)
	}
	return int64(n), nil
}

// SectorSizes returns the sector sizes in bytes of a block device: the one by
// which it is addressed and the one in which it stores. Regular files answer
// 512 and 4096, which makes a volume in a file fit for any disk that it may be
// copied to.
func SectorSizes(f *os.File) (logical, physical int, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if info.Mode().IsRegular() {
		return 512, 4096, nil
	}
	if logical, err = blockInt(f, unix.BLKSSZGET); err != nil {
		return 0, 0, fmt.Errorf("sector size of %s: %w", f.Name(), err)
	}
	if physical, err = blockInt(f, unix.BLKPBSZGET); err != nil {
		return 0, 0, fmt.Errorf("physical sector size of %s: %w", f.Name(), err)
	}
	return logical, physical, nil
}

// ReadOnly reports whether the block device refuses writes.
func ReadOnly(f *os.File) (bool, error) {
	n, err := blockInt(f, unix.BLKROGET)
	if err != nil {
		return false, fmt.Errorf("state of %s: %w", f.Name(), err)
	}
	return n != 0, nil
}

// DeviceNumber returns the numbers of an open block device.
func DeviceNumber(f *os.File) (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("%s is not a block device", f.Name())
	}
	return unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)), nil
}

func blockInt(f *os.File, request uint) (int, error) {
	var n int32
	err := ioctl(f, request, unsafe.Pointer(&n))
	return int(n), err
}

// usualReadAhead is what the kernel gives a new device, in sectors.
const usualReadAhead = 256

// keepReadAhead gives the mapping the read-ahead of its data device where
// somebody raised that, as libdevmapper does. It is a matter of speed alone.
func (a *activation) keepReadAhead() {
	var sectors int // a long for the kernel
	if ioctl(a.data, unix.BLKRAGET, unsafe.Pointer(&sectors)) != nil || sectors <= usualReadAhead {
		return
	}
	path := filepath.Join(a.m.o.Sys, "dev/block", number(majorMinor(a.dev)), "queue/read_ahead_kb")
	_ = os.WriteFile(path, []byte(strconv.Itoa(sectors/2)), 0)
}

// LockMemory keeps the pages of this process from being swapped out, as far as
// they are used. An ordinary user may lack the right; nothing has changed then.
func LockMemory() error {
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}
