package build

import (
	"time"

	"golang.org/x/sys/unix"
)

// setAttribute sets an extended attribute of a file or link itself.
func setAttribute(path, name string, value []byte) error {
	return unix.Lsetxattr(path, name, value, 0)
}

// setTime sets when a file or link itself was changed.
func setTime(path string, at time.Time) error {
	t, err := unix.TimeToTimespec(at)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}
