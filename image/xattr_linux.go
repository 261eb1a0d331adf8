package image

import (
	"os"

	"golang.org/x/sys/unix"
)

// xattr returns an extended attribute of a file; nil where there is none.
func xattr(f *os.File, name string) []byte {
	value := make([]byte, 4096)
	n, err := unix.Fgetxattr(int(f.Fd()), name, value)
	if err != nil || n == 0 {
		return nil
	}
	return value[:n]
}
