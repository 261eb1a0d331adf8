package image

import (
	"fmt"
	"io/fs"
	"os"
	"path"
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
	files fs.ReadLinkFS
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

func newTree(root *os.Root) *Tree { return &Tree{directory{root}, root.Close} }

// Close closes what the tree is read from.
func (t *Tree) Close() error { return t.close() }

// Open opens a file. A pipe is opened without waiting for the other end.
func (t *Tree) Open(name string) (fs.File, error) {
	at, err := t.find("open", name, true)
	if err != nil {
		return nil, err
	}
	return t.files.Open(at)
}

// Stat describes what a path leads to.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	at, err := t.find("stat", name, true)
	if err != nil {
		return nil, err
	}
	return t.files.Lstat(at)
}

// Lstat is Stat without following a link at the end.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) {
	at, err := t.find("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return t.files.Lstat(at)
}

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

// walk follows a path part by part. Should someone exchange parts meanwhile, what
// lies below still does not leave its own root, it only finds another file.
func (t *Tree) walk(op, name string, w walk) (string, error) {
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
		case info.Mode().Type() == fs.ModeSymlink && (w.follow || len(rest) > 0):
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

// directory gives access below a directory, following no link out of it.
type directory struct{ root *os.Root }

func (d directory) Open(name string) (fs.File, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err // and not a nil *os.File
	}
	return f, nil
}
func (d directory) Lstat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }
func (d directory) ReadLink(name string) (string, error)   { return d.root.Readlink(name) }

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
