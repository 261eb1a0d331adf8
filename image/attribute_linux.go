package image

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// maxAttribute is the most that the kernel keeps in one.
const maxAttribute = 64 << 10

func getAttribute(f *os.File, attribute string) ([]byte, error) {
	value := make([]byte, maxAttribute)
	n, err := unix.Fgetxattr(int(f.Fd()), attribute, value)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil, errNoAttribute
	}
	if err != nil {
		return nil, &os.PathError{Op: "reading attributes of", Path: f.Name(), Err: err}
	}
	return value[:n], nil
}
