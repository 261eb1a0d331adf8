package squashfs

import (
	"fmt"
	"io/fs"
	"strings"
)

// place is where a directory is: the inode, its parent, and the entry in that.
type place struct {
	ref    ref
	parent uint32
	at     int
}

// settle notes where a directory was met. It has one name in one directory, or
// else the image's directories are no tree, and may be without end.
func (f *FS) settle(n *inode, p place) error {
	f.treeMu.Lock()
	defer f.treeMu.Unlock()
	before, ok := f.tree[n.number]
	if ok && before != p {
		return damage("directory %d is in two places, in %d and %d", n.number, before.parent, p.parent)
	}
	if len(f.tree) >= maxDirectories && !ok {
		return damage("more than %d directories", maxDirectories)
	}
	f.tree[n.number] = p
	return nil
}

// child returns the inode of a directory's entry.
func (n *inode) child(e dirent) (*inode, error) {
	c, err := n.f.readInode(e.ref)
	if err != nil {
		return nil, err
	}
	if c.number != e.number || c.kind != e.kind {
		return nil, damage("%s %d where the directory has %s %d", c.kind, c.number, e.kind, e.number)
	}
	if c.kind == kindDir {
		if err := n.f.settle(c, place{c.ref, n.number, e.at}); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// walk finds a path's inode and follows no link.
func (f *FS) walk(path string) (*inode, error) {
	n := f.root
	if path == "." {
		return n, nil
	}
	rest, more := path, true
	for more {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if !validName(name) {
			return nil, fs.ErrInvalid
		}
		below, err := n.step(name)
		if err != nil {
			return nil, err
		}
		n = below
	}
	return n, nil
}

// step goes from a directory to one of its entries.
func (n *inode) step(name string) (*inode, error) {
	if n.kind != kindDir {
		return nil, fmt.Errorf("inode %d is a %s: %w", n.number, n.kind, errNotDir)
	}
	e, ok, err := n.find(name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fs.ErrNotExist
	}
	return n.child(e)
}
