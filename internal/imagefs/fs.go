package imagefs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
)

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

// find is walk with the errors of [io/fs].
func (f *FS) find(op, name string) (Node, error) {
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
	return &File{f: f, name: name, n: n, mode: n.Info().Mode, size: n.Info().Size}, nil
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
	return describe(path.Base(name), n), nil
}

// ReadLink returns the target of a link as it is in the image.
func (f *FS) ReadLink(name string) (string, error) {
	n, err := f.find("readlink", name)
	if err != nil {
		return "", err
	}
	target, err := f.target(n)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

func (f *FS) target(n Node) (string, error) {
	if n.Info().Mode.Type() != fs.ModeSymlink {
		return "", noContent(n.Info().Mode)
	}
	b, err := f.blocks.Content(n, maxTarget)
	switch {
	case err != nil:
		return "", err
	case len(b) == 0:
		return "", f.damage("a link without a target")
	case bytes.IndexByte(b, 0) >= 0: // the kernel would see less of it
		return "", f.damage("a link to %.300q", b)
	}
	return string(b), nil
}

// ReadDir lists a directory, by name. The entries' Type needs no more reading,
// their Info does.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.find("readdir", name)
	if err != nil {
		return nil, err
	}
	list, err := f.entries(n)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return list, nil
}

func (f *FS) entries(n Node) ([]fs.DirEntry, error) {
	list, err := f.list(n)
	if err != nil {
		return nil, err
	}
	entries := make([]fs.DirEntry, len(list))
	for i, e := range list {
		entries[i] = entry{f, n.Info().Inode, e}
	}
	return entries, nil
}

// ReadFile returns the content of a file of at most 64 MiB; bigger ones are for
// [FS.Open]. Without that bound a hole of any size would become memory.
func (f *FS) ReadFile(name string) ([]byte, error) {
	n, err := f.find("read", name)
	if err != nil {
		return nil, err
	}
	data, err := f.readAll(n)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, nil
}

func (f *FS) readAll(n Node) ([]byte, error) {
	info := n.Info()
	if !info.Mode.IsRegular() {
		return nil, noContent(info.Mode)
	}
	if info.Size > maxReadFile {
		return nil, fmt.Errorf("%d bytes, more than the %d that are read at once", info.Size, maxReadFile)
	}
	return f.blocks.Content(n, maxReadFile)
}

// noContent is the error of reading what is not a regular file.
func noContent(m fs.FileMode) error { return fmt.Errorf("a %s: %w", kindOf(m), fs.ErrInvalid) }

// File is an open file, directory or other thing of an image. ReadAt may be
// called by several goroutines, the others not. To close it frees nothing.
type File struct {
	f      *FS
	name   string
	n      Node
	mode   fs.FileMode
	size   int64
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
	case !f.mode.IsRegular():
		return noContent(f.mode)
	}
	return nil
}

// Stat describes the file.
func (f *File) Stat() (fs.FileInfo, error) {
	if f.closed {
		return nil, f.fail("stat", fs.ErrClosed)
	}
	return describe(path.Base(f.name), f.n), nil
}

// Read reads on from the current offset.
func (f *File) Read(p []byte) (int, error) {
	if err := f.readable(); err != nil {
		return 0, f.fail("read", err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.f.blocks.ReadAt(f.n, p, f.off)
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
	n, err := f.f.blocks.ReadAt(f.n, p, off)
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
		from = f.size
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
		list, err := f.f.entries(f.n)
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
