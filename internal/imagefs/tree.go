package imagefs

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

var errNotDir = errors.New("not a directory")

// place is where a directory is: its parent, and the entry in that.
type place struct {
	parent uint64
	name   string // "" of the root
}

// settle notes where a directory was met. It has one name in one directory, or
// else the image's directories are no tree, and may be without end.
func (f *FS) settle(inode uint64, p place) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, ok := f.tree[inode]
	if ok && before != p {
		return f.damage("directory %d is in two places, in %d and %d", inode, before.parent, p.parent)
	}
	if len(f.tree) >= maxDirectories && !ok {
		return f.damage("more than %d directories", maxDirectories)
	}
	f.tree[inode] = p
	return nil
}

// child returns the node of a directory's entry.
func (f *FS) child(dir uint64, e Dirent) (Node, error) {
	n, err := f.reader.Node(e.Inode)
	if err != nil {
		return nil, err
	}
	mode := n.Info().Mode
	if mode.Type() != e.Type {
		return nil, f.damage("inode %d is a %s, in directory %d a %s", e.Inode, kindOf(mode), dir, kindOf(e.Type))
	}
	if mode.IsDir() {
		if err := f.settle(e.Inode, place{dir, e.Name}); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// walk finds a path's node and follows no link.
func (f *FS) walk(path string) (Node, error) {
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
		below, err := f.step(n, name)
		if err != nil {
			return nil, err
		}
		n = below
	}
	return n, nil
}

// step goes from a directory to one of its entries.
func (f *FS) step(n Node, name string) (Node, error) {
	list, err := f.list(n)
	if err != nil {
		return nil, err
	}
	i, ok := slices.BinarySearchFunc(list, name, func(e Dirent, name string) int { return strings.Compare(e.Name, name) })
	if !ok {
		return nil, fs.ErrNotExist
	}
	return f.child(n.Info().Inode, list[i])
}

// list returns the entries of a directory in order of name.
func (f *FS) list(n Node) ([]Dirent, error) {
	info := n.Info()
	if !info.Mode.IsDir() {
		return nil, fmt.Errorf("inode %d is a %s: %w", info.Inode, kindOf(info.Mode), errNotDir)
	}
	f.mu.Lock()
	list, ok := f.kept[info.Inode]
	f.mu.Unlock()
	if ok {
		return list, nil
	}
	list, err := n.List()
	if err == nil {
		err = f.check(list)
	}
	if err != nil {
		return nil, fmt.Errorf("directory %d: %w", info.Inode, err)
	}
	f.keep(info.Inode, list)
	return list, nil
}

// check brings the entries in order and looks at their names.
func (f *FS) check(list []Dirent) error {
	if len(list) > MaxEntries {
		return f.damage("more than %d entries", MaxEntries)
	}
	slices.SortFunc(list, func(a, b Dirent) int { return strings.Compare(a.Name, b.Name) })
	for i, e := range list {
		switch {
		case !validName(e.Name) || len(e.Name) > maxName:
			return f.damage("an entry %.300q", e.Name)
		case i > 0 && e.Name == list[i-1].Name:
			return f.damage("two entries %q", e.Name)
		case e.Type&fs.ModeIrregular != 0:
			return f.damage("%q is of no type", e.Name)
		}
	}
	return nil
}

// keep remembers a listing, for finding many names of one directory.
func (f *FS) keep(inode uint64, list []Dirent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sum+len(list) > keptEntries {
		clear(f.kept)
		f.sum = 0
	}
	if _, ok := f.kept[inode]; ok || len(list) > keptEntries {
		return
	}
	f.kept[inode] = list
	f.sum += len(list) + 1 // an empty one counts too
}

func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}
