package squashfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

var errNotDir = errors.New("not a directory")

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

// find is walk with the errors of [io/fs].
func (f *FS) find(op, name string) (*inode, error) {
	n, err := f.walk(name)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n, nil
}

// Open opens what is at a path: a [*File], whatever its kind. It follows no
// link: a path through one is an error, and one that ends at one gives the link
// itself, which can be asked what it is but has nothing to read, like devices,
// fifos and sockets.
func (f *FS) Open(name string) (fs.File, error) {
	n, err := f.find("open", name)
	if err != nil {
		return nil, err
	}
	return &File{name: name, n: n, list: blockList{n: n}}, nil
}

// Stat is [FS.Lstat]: links are not followed.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.stat("stat", name) }

// Lstat describes what is at a path. The info's Sys is a [*Stat].
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.stat("lstat", name) }

func (f *FS) stat(op, name string) (fs.FileInfo, error) {
	n, err := f.find(op, name)
	if err != nil {
		return nil, err
	}
	return info{path.Base(name), n}, nil
}

// ReadLink returns the target of a link as it is in the image.
func (f *FS) ReadLink(name string) (string, error) {
	n, err := f.find("readlink", name)
	if err != nil {
		return "", err
	}
	if n.kind != kindLink {
		err := fmt.Errorf("a %s: %w", n.kind, fs.ErrInvalid)
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return n.target, nil
}

// ReadDir lists a directory, by name. The entries' Type needs no more reading,
// their Info does.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.find("readdir", name)
	if err != nil {
		return nil, err
	}
	list, err := n.entries()
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return list, nil
}

func (n *inode) entries() ([]fs.DirEntry, error) {
	if n.kind != kindDir {
		return nil, fmt.Errorf("inode %d is a %s: %w", n.number, n.kind, errNotDir)
	}
	return n.readDir()
}

// ReadFile returns the content of a file of at most 64 MiB; bigger ones are for
// [FS.Open]. Without that bound a hole of any size would become memory.
func (f *FS) ReadFile(name string) ([]byte, error) {
	n, err := f.find("read", name)
	if err != nil {
		return nil, err
	}
	data, err := n.readAll()
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, nil
}

func (n *inode) readAll() ([]byte, error) {
	if n.kind != kindFile {
		return nil, n.noContent()
	}
	if n.size > maxReadFile {
		return nil, fmt.Errorf("%d bytes, more than the %d that are read at once", n.size, maxReadFile)
	}
	p := make([]byte, n.size)
	_, err := (&blockList{n: n}).readAt(p, 0)
	return p, err
}

// noContent is the error of reading what is not a regular file.
func (n *inode) noContent() error { return fmt.Errorf("a %s: %w", n.kind, fs.ErrInvalid) }

// File is an open file, directory or other thing of an image. ReadAt may be
// called by several goroutines, the others not. To close it frees nothing.
type File struct {
	name   string
	n      *inode
	list   blockList
	off    int64
	rest   []fs.DirEntry // of a directory that is being read
	listed bool
	closed bool
}

var (
	_ fs.ReadDirFile = (*File)(nil)
	_ io.ReaderAt    = (*File)(nil)
	_ io.ReadSeeker  = (*File)(nil)
)

// fail is what a method returns for an error. The end of a file is no error of
// the path's.
func (f *File) fail(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// readable refuses to read what is closed or has no content.
func (f *File) readable() error {
	switch {
	case f.closed:
		return fs.ErrClosed
	case f.n.kind != kindFile:
		return f.n.noContent()
	}
	return nil
}

// Stat describes the file.
func (f *File) Stat() (fs.FileInfo, error) {
	if f.closed {
		return nil, f.fail("stat", fs.ErrClosed)
	}
	return info{path.Base(f.name), f.n}, nil
}

// Read reads on from the current offset.
func (f *File) Read(p []byte) (int, error) {
	if err := f.readable(); err != nil {
		return 0, f.fail("read", err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.list.readAt(p, f.off)
	f.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, f.fail("read", err)
}

// ReadAt reads from an offset.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	err := f.readable()
	if err == nil && off < 0 {
		err = fs.ErrInvalid
	}
	if err != nil {
		return 0, f.fail("read", err)
	}
	n, err := f.list.readAt(p, off)
	return n, f.fail("read", err)
}

// Seek sets the offset from which Read goes on. It may be behind the end.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	if err := f.readable(); err != nil {
		return 0, f.fail("seek", err)
	}
	from := int64(-1)
	switch whence {
	case io.SeekStart:
		from = 0
	case io.SeekCurrent:
		from = f.off
	case io.SeekEnd:
		from = f.n.size
	}
	if from < 0 || from+offset < 0 {
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	f.off = from + offset
	return f.off, nil
}

// ReadDir returns the next n entries of a directory, or all that are left.
func (f *File) ReadDir(n int) ([]fs.DirEntry, error) {
	if f.closed {
		return nil, f.fail("readdir", fs.ErrClosed)
	}
	if !f.listed {
		list, err := f.n.entries()
		if err != nil {
			return nil, f.fail("readdir", err)
		}
		f.rest, f.listed = list, true
	}
	if n <= 0 {
		n = len(f.rest)
	} else if len(f.rest) == 0 {
		return nil, io.EOF
	}
	list := f.rest[:min(n, len(f.rest))]
	f.rest = f.rest[len(list):]
	return list, nil
}

// Close makes every other call an error.
func (f *File) Close() error {
	if f.closed {
		return f.fail("close", fs.ErrClosed)
	}
	f.closed, f.rest = true, nil
	return nil
}
