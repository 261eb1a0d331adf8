package squashfs

import (
	"fmt"
	"io"
	"io/fs"
	"path"
)

// FSTree is a tree of a file system that describes links, like an [FS] or what
// [os.DirFS] returns. Owners, devices, hard links and attributes are known only
// of an [FS]; otherwise everything is root's, and devices are an error.
func FSTree(fsys fs.ReadLinkFS) Tree { return fsTree{fsys} }

type fsTree struct{ fsys fs.ReadLinkFS }

func (t fsTree) Root() (Node, error) {
	info, err := t.fsys.Lstat(".")
	if err != nil {
		return Node{}, err
	}
	return t.node(".", info)
}

func (t fsTree) ReadDir(dir string) ([]Node, error) {
	entries, err := fs.ReadDir(t.fsys, dir)
	if err != nil {
		return nil, err
	}
	list := make([]Node, 0, len(entries))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		n, err := t.node(path.Join(dir, e.Name()), info)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

func (t fsTree) Open(path string) (io.ReadCloser, error) { return t.fsys.Open(path) }

func (t fsTree) node(path string, info fs.FileInfo) (n Node, err error) {
	n = Node{Name: info.Name(), Mode: info.Mode(), ModTime: info.ModTime(), Size: info.Size()}
	s, ok := info.Sys().(*Stat)
	if ok {
		n.UID, n.GID, n.Major, n.Minor = s.UID, s.GID, s.Major, s.Minor
		if s.Links > 1 {
			n.Link = LinkID{0, uint64(s.Inode)}
		}
		if n.Attrs, err = s.Xattrs(); err != nil {
			return n, fmt.Errorf("%s: %w", path, err)
		}
	}
	if n.Mode&fs.ModeDevice != 0 && !ok {
		return n, fmt.Errorf("%s: %w", path, unsuitable("a device without numbers"))
	}
	if n.Mode.Type() == fs.ModeSymlink {
		n.Target, err = t.fsys.ReadLink(path)
	}
	return n, err
}
