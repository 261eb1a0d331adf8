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
	})
	return yes
}
