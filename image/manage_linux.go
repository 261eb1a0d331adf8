package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lockFolder is where systemd's tools lock images by what they are instead of by
// name.
const lockFolder = "run/systemd/nspawn/locks"

// lock takes the two locks of systemd's tools, without waiting.
//
// Source: systemd, src/shared/discover-image.c: image_path_lock.
func (h *held) lock() (unlock func(), err error) {
	byName := func() {}
	if !strings.HasPrefix(h.at, "dev/") { // devices are locked by their number alone
		if byName, err = h.lockFile(path.Join(path.Dir(h.at), ".#"+path.Base(h.at)+".lck")); err != nil {
			return nil, err
		}
	}
	f, err := h.openSelf()
	if err != nil {
		byName()
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		byName()
		return nil, err
	}
	id := fmt.Sprintf("inode-%d:%d", st.Dev, st.Ino)
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		id = fmt.Sprintf("block-%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	// In a tree that does not run, there is nobody to keep out by this one.
	if _, err := h.root.Stat("run/systemd"); err != nil {
		return byName, nil
	}
	if err := h.root.MkdirAll(lockFolder, 0o700); err != nil {
		byName()
		return nil, err
	}
	byID, err := h.lockFile(path.Join(lockFolder, id))
	if err != nil {
		byName()
		return nil, err
	}
	return func() { byID(); byName() }, nil
}

// lockFile makes and locks a file, which is removed with the lock. Whoever had it
// before may have removed it meanwhile, and then it locks nothing.
func (h *held) lockFile(name string) (unlock func(), err error) {
	for range 100 {
		f, err := h.root.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("locking: %w", err)
		}
		whole := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &whole); err != nil {
			_ = f.Close()
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
				err = ErrBusy
			}
			return nil, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err == nil && st.Nlink > 0 {
			return func() {
				_ = h.root.Remove(name)
				_ = f.Close()
			}, nil
		}
		_ = f.Close()
	}
	return nil, ErrBusy
}

// isMount tells whether something is mounted at a directory.
func isMount(f *os.File) bool {
	var x unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, 0, &x)
	return err == nil && x.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// The ioctls of btrfs that this package uses.
//
// Source: Linux, include/uapi/linux/btrfs.h.
const (
	btrfsSnapDestroy = 0x5000940f // _IOW(0x94, 15, 4096 bytes)
	btrfsSetFlags    = 0x4008941a // _IOW(0x94, 26, u64)
	btrfsQuotaCtl    = 0xc0109428 // _IOWR(0x94, 40, two u64)
	btrfsQgroupLimit = 0x8030942b // _IOR(0x94, 43, six u64)

	quotaEnable     = 1
	limitReferenced = 1 << 0
)

func ioctl(f *os.File, request uint, arg unsafe.Pointer) error {
	defer runtime.KeepAlive(f)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// isSubvolume tells whether a directory is the top of a subvolume of btrfs.
func isSubvolume(f *os.File) bool {
	var s unix.Statfs_t
	var st unix.Stat_t
	return unix.Fstatfs(int(f.Fd()), &s) == nil && int64(s.Type) == unix.BTRFS_SUPER_MAGIC &&
		unix.Fstat(int(f.Fd()), &st) == nil && st.Ino == subvolumeInode
}

// deleteSubvolume deletes a subvolume at once, if the image is one.
func (h *held) deleteSubvolume() error {
	f, err := h.root.Open(h.at)
	if err != nil {
		return err
	}
	is := isSubvolume(f)
	_ = f.Close()
	if !is {
		return errors.ErrUnsupported
	}
	dir, err := h.root.Open(path.Dir(h.at))
	if err != nil {
		return err
	}
	defer dir.Close()
	var args struct {
		fd   int64
		name [4088]byte
	}
	copy(args.name[:4087], path.Base(h.at))
	return ioctl(dir, btrfsSnapDestroy, unsafe.Pointer(&args))
}

// markDirectory sets what forbids to change a directory: the flag of a subvolume,
// or an attribute, which only root may set and not all file systems have.
func markDirectory(f *os.File, on bool) error {
	if isSubvolume(f) {
		var flags uint64
		if err := ioctl(f, subvolumeFlags, unsafe.Pointer(&flags)); err != nil {
			return err
		}
		if (flags&subvolumeReadOnly != 0) == on {
			return nil
		}
		flags ^= subvolumeReadOnly
		return ioctl(f, btrfsSetFlags, unsafe.Pointer(&flags))
	}
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return unsupported(err)
	}
	want := flags &^ immutable
	if on {
		want |= immutable
	}
	if want == flags {
		return nil
	}
	return unsupported(unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, want))
}

// immutable is FS_IMMUTABLE_FL of include/uapi/linux/fs.h.
const immutable = 0x10

// unsupported lets callers tell what a file system can't do.
func unsupported(err error) error {
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("the file system has no such attribute: %w", errors.ErrUnsupported)
	}
	return err
}

func markDevice(f *os.File, on bool) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeDevice {
		return ErrNotImage
	}
	value := 0
	if on {
		value = 1
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, value)
}

// limitSubvolume switches quotas on, and sets that of a subvolume itself.
func limitSubvolume(f *os.File, limit uint64) error {
	if !isSubvolume(f) {
		return ErrNoLimit
	}
	enable := [2]uint64{quotaEnable, 0}
	if err := ioctl(f, btrfsQuotaCtl, unsafe.Pointer(&enable)); err != nil {
		return fmt.Errorf("switching quotas on: %w", err)
	}
	// A group of 0 is that of the subvolume; then which limit, and the limits.
	args := [6]uint64{0, limitReferenced, limit, 0, 0, 0}
	return ioctl(f, btrfsQgroupLimit, unsafe.Pointer(&args))
}
