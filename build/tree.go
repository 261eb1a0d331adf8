package build

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lockport/lockport/internal/squashfs"
)

// Bounds on what a tree may ask of whoever walks it.
const (
	maxLinks = 40
	maxNodes = 4 << 20
)

// Tree is the tree of files of an image in the making. Paths in it are absolute
// or not, which is the same, and links are followed inside it. It is not safe
// for concurrent use. It holds what there is to say of each file, not the
// content of those that are elsewhere.
type Tree struct {
	top   *node
	count int
}

type node struct {
	squashfs.Node
	children map[string]*node              // of a directory
	open     func() (io.ReadCloser, error) // of a regular file
}

// New returns a tree with nothing but its top.
func New() *Tree {
	return &Tree{top: directory("", 0o755), count: 1}
}

func directory(name string, mode fs.FileMode) *node {
	return &node{Node: squashfs.Node{Name: name, Mode: fs.ModeDir | mode}, children: map[string]*node{}}
}

// parts are the components of a path.
func parts(p string) []string {
	p = path.Clean("/" + p)
	if p == "/" {
		return nil
	}
	return strings.Split(p[1:], "/")
}

// walk follows a path, and makes the directories that are missing if it should.
func (t *Tree) walk(p string, follow, make bool) (*node, error) {
	fail := func(err error) (*node, error) { return nil, &fs.PathError{Op: "walk", Path: p, Err: err} }
	stack := []*node{t.top}
	links := 0
	for rest := parts(p); len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		here := stack[len(stack)-1]
		switch {
		case part == "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		case here.children == nil:
			return fail(syscall.ENOTDIR)
		}
		next, ok := here.children[part]
		switch {
		case !ok && !make:
			return fail(fs.ErrNotExist)
		case !ok:
			next = directory(part, 0o755)
			if err := t.add(here, next); err != nil {
				return fail(err)
			}
		case next.Mode.Type() == fs.ModeSymlink && (follow || len(rest) > 0):
			if links++; links > maxLinks {
				return fail(syscall.ELOOP)
			}
			if strings.HasPrefix(next.Target, "/") {
				stack = stack[:1]
			}
			// Not cleaned: what is before a ".." may itself be a link.
			rest = append(slices.DeleteFunc(strings.Split(next.Target, "/"), func(s string) bool { return s == "" || s == "." }), rest...)
			continue
		}
		stack = append(stack, next)
	}
	return stack[len(stack)-1], nil
}

func (t *Tree) add(dir, n *node) error {
	if _, there := dir.children[n.Name]; !there {
		if t.count++; t.count > maxNodes {
			return fmt.Errorf("%w: more than %d files", ErrUnsafe, maxNodes)
		}
	}
	dir.children[n.Name] = n
	return nil
}

// put puts a node at a path, in place of what is there unless that is a
// directory: what is in it would be lost.
func (t *Tree) put(p string, n *node) error {
	list := parts(p)
	if len(list) == 0 {
		return &fs.PathError{Op: "add", Path: p, Err: fs.ErrExist}
	}
	dir, err := t.walk(path.Dir(path.Clean("/"+p)), true, true)
	if err != nil {
		return err
	}
	n.Name = list[len(list)-1]
	switch old, there := dir.children[n.Name]; {
	case dir.children == nil:
		return &fs.PathError{Op: "add", Path: p, Err: syscall.ENOTDIR}
	case there && old.children != nil:
		return &fs.PathError{Op: "add", Path: p, Err: syscall.EISDIR}
	case there && old.Mode.Type() == fs.ModeSymlink && n.Mode.IsRegular():
		// A file takes the place of what a link leads to, as it would on a disk.
		if at, err := t.walk(p, true, false); err == nil && at.children == nil {
			name := at.Name
			*at = *n
			at.Name = name
			return nil
		}
	}
	return t.add(dir, n)
}

// Mkdir makes a directory and those above, as far as they are missing. One that
// is there stays as it is.
func (t *Tree) Mkdir(p string, mode fs.FileMode) error {
	if n, err := t.walk(p, true, false); err == nil {
		if n.children == nil {
			return &fs.PathError{Op: "mkdir", Path: p, Err: syscall.ENOTDIR}
		}
		return nil
	}
	n, err := t.walk(p, true, true)
	if err == nil {
		n.Mode = fs.ModeDir | mode
	}
	return err
}

// WriteFile makes a file with a content.
func (t *Tree) WriteFile(p string, content []byte, mode fs.FileMode) error {
	return t.file(p, int64(len(content)), mode, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
}

// file makes a file whose content comes from elsewhere, and may be read twice.
func (t *Tree) file(p string, size int64, mode fs.FileMode, open func() (io.ReadCloser, error)) error {
	return t.put(p, &node{Node: squashfs.Node{Mode: mode, Size: size}, open: open})
}

// Symlink makes a link.
func (t *Tree) Symlink(p, target string) error {
	return t.put(p, &node{Node: squashfs.Node{Mode: fs.ModeSymlink | 0o777, Target: target}})
}

// Exists tells whether a path leads to something.
func (t *Tree) Exists(p string) bool {
	_, err := t.walk(p, true, false)
	return err == nil
}

// ReadFile returns the content of a regular file of at most limit bytes.
func (t *Tree) ReadFile(p string, limit int64) ([]byte, error) {
	n, err := t.walk(p, true, false)
	if err != nil {
		return nil, err
	}
	if !n.Mode.IsRegular() || n.Size > limit {
		return nil, &fs.PathError{Op: "read", Path: p, Err: errors.New("not a small regular file")}
	}
	r, err := n.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, n.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, &fs.PathError{Op: "read", Path: p, Err: err}
	}
	return data, nil
}

// names returns what is in a directory, sorted; none if it is missing.
func (t *Tree) names(p string) []string {
	n, err := t.walk(p, true, false)
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(n.children))
}

// each calls f with all nodes, a directory before what is in it.
func (t *Tree) each(f func(n *node)) {
	list := []*node{t.top}
	for len(list) > 0 {
		n := list[len(list)-1]
		list = list[:len(list)-1]
		f(n)
		for _, c := range n.children {
			list = append(list, c)
		}
	}
}

// SetTimes gives everything one time.
func (t *Tree) SetTimes(at time.Time) { t.each(func(n *node) { n.ModTime = at }) }

// fillTimes gives a time to what has none, as it was made here.
func (t *Tree) fillTimes(at time.Time) {
	t.each(func(n *node) {
		if n.ModTime.IsZero() {
			n.ModTime = at
		}
	})
}

// source is a tree as the writers of images want it.
type source struct{ *Tree }

var _ squashfs.Tree = source{}

func (s source) Root() (squashfs.Node, error) { return s.top.Node, nil }

func (s source) ReadDir(p string) ([]squashfs.Node, error) {
	n, err := s.walk(p, false, false)
	if err != nil {
		return nil, err
	}
	list := make([]squashfs.Node, 0, len(n.children))
	for _, c := range n.children {
		list = append(list, c.Node)
	}
	slices.SortFunc(list, func(a, b squashfs.Node) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (s source) Open(p string) (io.ReadCloser, error) {
	n, err := s.walk(p, false, false)
	if err != nil {
		return nil, err
	}
	if n.open == nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrInvalid}
	}
	return n.open()
}

// Import takes over another tree, with owners, modes, attributes and times. What
// is there already stays where the other has nothing of that name.
func (t *Tree) Import(at string, from squashfs.Tree) error {
	top, err := t.walk(at, true, true)
	if err != nil {
		return err
	}
	root, err := from.Root()
	if err != nil {
		return err
	}
	if top.children == nil {
		return &fs.PathError{Op: "import", Path: at, Err: syscall.ENOTDIR}
	}
	name := top.Name
	top.Node = root
	top.Name = name
	return t.importDir(top, from, ".")
}

func (t *Tree) importDir(dir *node, from squashfs.Tree, p string) error {
	list, err := from.ReadDir(p)
	if err != nil {
		return err
	}
	for _, item := range list {
		n := &node{Node: item}
		below := path.Join(p, item.Name)
		switch old := dir.children[item.Name]; {
		case item.Mode.IsDir():
			n.children = map[string]*node{}
			if old != nil && old.children != nil {
				n.children = old.children
			}
			if err := t.importDir(n, from, below); err != nil {
				return err
			}
		case item.Mode.IsRegular():
			n.open = func() (io.ReadCloser, error) { return from.Open(below) }
		}
		if err := t.add(dir, n); err != nil {
			return err
		}
	}
	return nil
}
