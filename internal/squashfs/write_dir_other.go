//go:build !linux

package squashfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// DirTree is the tree of a folder on disk. Elsewhere than on Linux everything is
// root's, hard links are files of their own, attributes are not looked at, and
// devices are [ErrSource].
func DirTree(dir string) Tree { return dirTree(dir) }

type dirTree string

func (t dirTree) Root() (Node, error) {
	info, err := os.Stat(string(t))
	if err != nil {
		return Node{}, err
	}
	return describe(string(t), info)
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
		n, err := describe(filepath.Join(dir, e.Name()), info)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

func describe(path string, info fs.FileInfo) (n Node, err error) {
	n = Node{Name: info.Name(), Mode: info.Mode(), ModTime: info.ModTime(), Size: info.Size()}
	switch {
	case n.Mode&fs.ModeDevice != 0:
		return n, fmt.Errorf("%s: %w", path, unsuitable("the numbers of devices are not known here"))
	case n.Mode.Type() == fs.ModeSymlink:
		n.Target, err = os.Readlink(path)
	}
	return n, err
}

// Open opens what still is a regular file.
func (t dirTree) Open(path string) (io.ReadCloser, error) {
	full := filepath.Join(string(t), path)
	if info, err := os.Lstat(full); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errChanged
	}
	return os.Open(full)
}
