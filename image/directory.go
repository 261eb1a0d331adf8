package image

import (
	"io/fs"
	"os"
	"syscall"
)

// below gives access below a directory, following no link out of it. One at the
// end of a path is followed, in spite of the flag.
type below struct{ root *os.Root }

func (b below) Open(name string) (fs.File, error) {
	f, err := b.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err // and not a nil *os.File
	}
	return f, nil
}

func (b below) Lstat(name string) (fs.FileInfo, error) { return b.root.Lstat(name) }
func (b below) ReadLink(name string) (string, error)   { return b.root.Readlink(name) }

// stepwise is below a directory, and follows no link at all: it looks at each
// directory on the way to a path.
type stepwise struct{ below }

func (s stepwise) straight(name string) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		info, err := s.root.Lstat(name[:i])
		switch {
		case err != nil:
			return err
		case isLink(info):
			return &fs.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
		}
	}
	return nil
}

func (s stepwise) Open(name string) (fs.File, error) {
	if err := s.straight(name + "/"); err != nil {
		return nil, err
	}
	return s.below.Open(name)
}

func (s stepwise) Lstat(name string) (fs.FileInfo, error) {
	if err := s.straight(name); err != nil {
		return nil, err
	}
	return s.below.Lstat(name)
}

func (s stepwise) ReadLink(name string) (string, error) {
	if err := s.straight(name); err != nil {
		return "", err
	}
	return s.below.ReadLink(name)
}

func (stepwise) close() error { return nil }

// directory is a directory in which no link is followed.
type directory interface {
	fs.ReadLinkFS
	close() error // not the root that it is made of
}
