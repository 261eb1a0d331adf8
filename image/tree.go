package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Bounds on what it takes to follow a path. The kernel has the same number of links.
const (
	maxLinks = 40
	maxParts = 4096
)

// Tree is a tree of files as a process sees it that has it as its root
// directory: absolute links begin at its top, and ".." does not leave it. Its
// methods may be called concurrently.
type Tree struct {
	files fs.ReadLinkFS // a path through a link is an error to it
	close func() error
}

var _ fs.ReadLinkFS = (*Tree)(nil)

// OpenTree opens a directory. The caller closes the tree.
func OpenTree(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return newTree(root), nil
}

// newTree makes a tree of a directory, which is closed with it.
func newTree(root *os.Root) *Tree {
	d := newDirectory(root)
	return &Tree{d, func() error { return errors.Join(d.close(), root.Close()) }}
}

// Close closes what the tree is read from.
func (t *Tree) Close() error { return t.close() }

// Open opens a file. A pipe is opened without waiting for the other end.
func (t *Tree) Open(name string) (fs.File, error) {
	if f, err := t.openStraight(name); err == nil {
		return f, nil
	}
	at, err := t.find("open", name, true)
	if err != nil {
		return nil, err
	}
	return t.files.Open(at)
}

// openStraight opens a file if no link is on the way, nor at the end.
func (t *Tree) openStraight(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	f, err := t.files.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && isLink(info) {
		err = syscall.ELOOP
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// Stat describes what a path leads to.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	return t.describe("stat", name, true)
}

// Lstat is Stat without following a link at the end.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) {
	return t.describe("lstat", name, false)
}

// describe is Stat or Lstat. Most paths have no link in them, and are looked at
// once.
func (t *Tree) describe(op, name string, follow bool) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	info, err := t.files.Lstat(name)
	switch {
	case err == nil && !(follow && isLink(info)):
		return info, nil
	case err != nil && isMissing(err):
		return nil, &fs.PathError{Op: op, Path: name, Err: cause(err)}
	}
	at, err := t.walk(op, name, walk{follow: follow})
	if err != nil {
		return nil, err
	}
	return t.files.Lstat(at)
}

func isLink(info fs.FileInfo) bool { return info.Mode().Type() == fs.ModeSymlink }

// ReadLink returns what is written in a link.
func (t *Tree) ReadLink(name string) (string, error) {
	at, err := t.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	return t.files.ReadLink(at)
}

// Resolve returns the path without links to where name leads. Name may be
// absolute, which is to say, from the top of the tree.
func (t *Tree) Resolve(name string) (string, error) {
	return t.walk("resolve", name, walk{follow: true})
}

// ResolveMissing is Resolve for a path whose end need not exist.
func (t *Tree) ResolveMissing(name string) (string, error) {
	return t.walk("resolve", name, walk{follow: true, missing: true})
}

func (t *Tree) find(op, name string, follow bool) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return t.walk(op, name, walk{follow: follow})
}

// walk says how a path is followed.
type walk struct {
	follow  bool // a link at the end
	missing bool // the end need not exist
}

// walk follows a path. Should someone exchange parts meanwhile, what lies below
// still does not leave its own root, it only finds another file, or none.
func (t *Tree) walk(op, name string, w walk) (string, error) {
	if at, ok := straight(name); ok {
		info, err := t.files.Lstat(at)
		switch {
		case err == nil && !(w.follow && isLink(info)), w.missing && err != nil && isMissing(err):
			return at, nil
		case err != nil && isMissing(err):
			return "", &fs.PathError{Op: op, Path: name, Err: cause(err)}
		}
	}
	return t.walkParts(op, name, w)
}

// straight returns the path that a name is, unless it has links in it. It is not
// known for one that goes up.
func straight(name string) (string, bool) {
	at := path.Join(".", name)
	return at, fs.ValidPath(at) && !slices.Contains(strings.Split(name, "/"), "..")
}

// walkParts is walk part by part.
func (t *Tree) walkParts(op, name string, w walk) (string, error) {
	fail := func(err error) (string, error) { return "", &fs.PathError{Op: op, Path: name, Err: err} }
	done, links := ".", 0
	for rest := parts(name); len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == ".." {
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		info, err := t.files.Lstat(next)
		switch {
		case err != nil && w.missing && isMissing(err):
			return missingTail(op, name, next, rest)
		case err != nil:
			return fail(cause(err))
		case isLink(info) && (w.follow || len(rest) > 0):
			target, err := t.files.ReadLink(next)
			if err != nil {
				return fail(cause(err))
			}
			if links++; links > maxLinks || len(rest) > maxParts {
				return fail(syscall.ELOOP)
			}
			if strings.HasPrefix(target, "/") {
				done = "."
			}
			rest = append(parts(target), rest...)
			continue
		case !info.IsDir() && len(rest) > 0:
			return fail(syscall.ENOTDIR)
		}
		done = next
	}
	return done, nil
}

// missingTail is the rest of a path that nothing is known about; so it may not
// go up again.
func missingTail(op, name, at string, rest []string) (string, error) {
	for _, part := range rest {
		if part == ".." {
			return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return path.Join(append([]string{at}, rest...)...), nil
}

// parts are the components of a path that say something.
func parts(name string) []string {
	var list []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			list = append(list, part)
		}
	}
	return list
}

func isMissing(err error) bool {
	return cause(err) == error(syscall.ENOENT) || cause(err) == fs.ErrNotExist
}

// cause is an error without the path, which is that of an intermediate step.
func cause(err error) error {
	if p, ok := err.(*fs.PathError); ok {
		return p.Err
	}
	return err
}

// ReadFile reads a regular file of at most limit bytes.
func ReadFile(t fs.FS, name string, limit int64) ([]byte, error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: name, Err: ErrNotRegular}
	case info.Size() > limit:
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)}
	}
	return readAll(f, name, limit)
}
