package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

var (
	// ErrNotRegular: a directory, a device or the like stands where a file should.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge: a file is larger than anything of its kind would be.
	ErrTooLarge = errors.New("too large")
)

// readAll does not trust the size that was told before.
func readAll(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: cause(err)}
	}
	return data, nil
}
