package image

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// onDisk calls f with a descriptor of a file or directory of a tree on a disk.
func onDisk(t *Tree, p string, f func(fd int)) {
	file, err := t.Open(fsPath(p))
	if err != nil {
		return
	}
	defer file.Close()
	if o, ok := file.(*os.File); ok {
		f(int(o.Fd()))
	}
}

// birth is when a file was made, where the file system knows.
func birth(t *Tree, p string) (made time.Time, ok bool) {
	onDisk(t, p, func(fd int) {
		var s unix.Statx_t
		err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &s)
		if err == nil && s.Mask&unix.STATX_BTIME != 0 {
			made, ok = time.Unix(s.Btime.Sec, int64(s.Btime.Nsec)), true
		}
	})
	return made, ok
}

// writable tells whether neither its file system nor an attribute forbids to
// change a file.
func writable(t *Tree, p string) bool {
	yes := true
	onDisk(t, p, func(fd int) {
		var s unix.Statfs_t
		if unix.Fstatfs(fd, &s) == nil && s.Flags&unix.ST_RDONLY != 0 {
			yes = false
		}
		var x unix.Statx_t
		if unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &x) == nil && x.Attributes&unix.STATX_ATTR_IMMUTABLE != 0 {
			yes = false
		}
		if flags, err := unix.IoctlGetInt(fd, subvolumeFlags); err == nil && flags&subvolumeReadOnly != 0 {
			yes = false
		}
	})
	return yes
}

// Of btrfs: the kernel's include/uapi/linux/btrfs.h.
const (
	subvolumeFlags    = 0x80089419 // BTRFS_IOC_SUBVOL_GETFLAGS
	subvolumeReadOnly = 1 << 1
	subvolumeInode    = 256 // BTRFS_FIRST_FREE_OBJECTID, of each subvolume's root
)

// directoryType tells a subvolume from any other directory.
func directoryType(t *Tree, p string) Type {
	kind := Directory
	onDisk(t, p, func(fd int) {
		var s unix.Statfs_t
		var st unix.Stat_t
		if unix.Fstatfs(fd, &s) == nil && s.Type == unix.BTRFS_SUPER_MAGIC && unix.Fstat(fd, &st) == nil && st.Ino == subvolumeInode {
			kind = Subvolume
		}
	})
	return kind
}

// readOnlyDevice tells whether the kernel refuses to write to a block device.
func readOnlyDevice(t *Tree, p string) bool {
	yes := false
	onDisk(t, p, func(fd int) {
		n, err := unix.IoctlGetInt(fd, unix.BLKROGET)
		yes = err == nil && n != 0
	})
	return yes
}
