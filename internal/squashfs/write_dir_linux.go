package squashfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// DirTree is the tree of a folder on disk, with all that an image can hold of
// it. What that cannot are attributes of other namespaces than user, trusted and
// security, like access control lists, and Linux lists trusted ones to root
// only; these are not in the tree. Other file systems mounted in it are.
func DirTree(dir string) Tree { return dirTree(dir) }

type dirTree string

func (t dirTree) Root() (Node, error) {
	info, err := os.Stat(string(t))
	if err != nil {
		return Node{}, err
	}
	// Where the path is a link, what counts is where it leads to.
	return describe(string(t)+"/.", info)
}

func (t dirTree) ReadDir(path string) ([]Node, error) {
	dir := filepath.Join(string(t), path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	list := make([]Node, 0, len(entries))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		n, err := describe(dir+"/"+e.Name(), info)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

func describe(path string, info fs.FileInfo) (n Node, err error) {
	s := info.Sys().(*syscall.Stat_t)
	n = Node{Name: info.Name(), Mode: info.Mode(), UID: s.Uid, GID: s.Gid, ModTime: info.ModTime(), Size: info.Size()}
	if n.Mode&fs.ModeDevice != 0 {
		n.Major, n.Minor = unix.Major(s.Rdev), unix.Minor(s.Rdev)
	}
	if s.Nlink > 1 && !n.Mode.IsDir() {
		n.Link = LinkID{s.Dev, s.Ino}
	}
	if n.Mode.Type() == fs.ModeSymlink {
		if n.Target, err = os.Readlink(path); err != nil {
			return n, err
		}
	}
	n.Attrs, err = readAttrs(path)
	return n, err
}

// readAttrs reads the attributes that an image can hold.
func readAttrs(path string) ([]Attr, error) {
	names, err := sized(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("attributes of %s: %w", path, err)
	}
	var list []Attr
	for name := range strings.SplitSeq(string(names), "\x00") {
		if space, _ := splitAttr(name); space < 0 {
			continue
		}
		value, err := sized(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if err != nil {
			return nil, fmt.Errorf("attribute %q of %s: %w", name, path, err)
		}
		list = append(list, Attr{name, value})
	}
	return list, nil
}

// sized calls f for the size that is needed, and again to fill it. No answer of
// Linux's is greater than 64 KiB.
func sized(f func([]byte) (int, error)) ([]byte, error) {
	n, err := f(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	b := make([]byte, 64<<10)
	if n, err = f(b); err != nil {
		return nil, err
	}
	return append([]byte{}, b[:n]...), nil
}

// Open opens what still is a regular file: another thing may be there by now,
// and to open a fifo would wait for a writer.
func (t dirTree) Open(path string) (io.ReadCloser, error) {
	full := filepath.Join(string(t), path)
	f, err := os.OpenFile(full, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errChanged
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	if s := info.Sys().(*syscall.Stat_t); s.Blocks*512 < s.Size {
		return sparseFile{f}, nil
	}
	return f, nil
}

// sparseFile is a file with holes.
type sparseFile struct{ *os.File }

var _ DataSeeker = sparseFile{}

// NextData is Linux's SEEK_DATA.
func (f sparseFile) NextData(off int64) (int64, error) {
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, io.EOF
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSUP):
		return off, nil // a file system that does not tell
	}
	return at, err
}
