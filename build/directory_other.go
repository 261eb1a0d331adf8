//go:build !linux

package build

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

func setAttribute(string, string, []byte) error { return errors.ErrUnsupported }

// setTime sets when a file was changed. Links have the time at which they are made.
func setTime(path string, at time.Time) error {
	if s, err := os.Lstat(path); err != nil || s.Mode().Type() == fs.ModeSymlink {
		return err
	}
	return os.Chtimes(path, at, at)
}
