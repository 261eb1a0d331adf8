package image

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// newDirectory takes one call of the kernel for a path where others take two for
// each part of it. Linux has it since 5.6.
func newDirectory(root *os.Root) directory {
	slow := stepwise{below{root}}
	top, err := root.Open(".")
	if err != nil {
		return slow
	}
	d := &atOnce{root, top}
	if _, err := d.Lstat("."); err != nil {
		_ = top.Close()
		return slow
	}
	return d
}

// atOnce is a directory of which a path is opened by openat2(2).
type atOnce struct {
	root *os.Root
	top  *os.File
}

func (d *atOnce) close() error { return d.top.Close() }

// maxTries bounds how often a path is looked at again that is changed meanwhile.
const maxTries = 16

func (d *atOnce) open(op, name string, flags uint64) (*os.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	how := &unix.OpenHow{Flags: flags | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(int(d.top.Fd()), name, how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case try < maxTries && (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)):
			continue
		}
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
}

func (d *atOnce) Open(name string) (fs.File, error) {
	f, err := d.open("open", name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err // and not a nil *os.File
	}
	// What is in a directory is described by way of the root that it is opened from.
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close() // only looked at
		return below{d.root}.Open(name)
	}
	return f, nil
}

func (d *atOnce) Lstat(name string) (fs.FileInfo, error) {
	f, err := d.open("lstat", name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

func (d *atOnce) ReadLink(name string) (string, error) {
	f, err := d.open("readlink", name, unix.O_PATH)
	if err != nil {
		return "", err
	}
	defer f.Close()
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", target)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(target[:n]), nil
}
