package portable

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// dirs is a tree of files, as an [os.Root] is, that keeps the directories open
// which it worked in last: on its own, a root opens each directory on the way to
// a file anew for each call, and thousands of units share a handful. Paths are
// without links. It is not safe for concurrent use.
type dirs struct {
	top  *os.Root
	open []openDir // the last one used is the first
}

type openDir struct {
	name string
	*os.Root
}

// maxOpenDirs is enough for all places where a host has units.
const maxOpenDirs = 24

// in returns the directory that a path is in, and the last part of the path.
func (d *dirs) in(name string) (*os.Root, string, error) {
	dir, base := path.Split(name)
	if dir = strings.TrimSuffix(dir, "/"); dir == "" || base == "" {
		return d.top, name, nil
	}
	if i := slices.IndexFunc(d.open, func(o openDir) bool { return o.name == dir }); i >= 0 {
		o := d.open[i]
		d.open = slices.Insert(slices.Delete(d.open, i, i+1), 0, o)
		return o.Root, base, nil
	}
	root, err := d.top.OpenRoot(dir)
	if err != nil {
		return nil, "", err
	}
	if len(d.open) == maxOpenDirs {
		_ = d.open[maxOpenDirs-1].Close() // only looked through
		d.open = d.open[:maxOpenDirs-1]
	}
	d.open = slices.Insert(d.open, 0, openDir{dir, root})
	return root, base, nil
}

// forget closes a directory and those in it: another may get its name.
func (d *dirs) forget(name string) {
	d.open = slices.DeleteFunc(d.open, func(o openDir) bool {
		if o.name != name && !strings.HasPrefix(o.name, name+"/") {
			return false
		}
		_ = o.Close()
		return true
	})
}

// forgetAll closes all directories but the top.
func (d *dirs) forgetAll() {
	for _, o := range d.open {
		_ = o.Close()
	}
	d.open = nil
}

// Close closes all.
func (d *dirs) Close() error {
	d.forgetAll()
	return d.top.Close()
}

// The following are those of [os.Root].

func (d *dirs) Open(name string) (*os.File, error) { return d.OpenFile(name, os.O_RDONLY, 0) }

func (d *dirs) OpenFile(name string, flag int, mode fs.FileMode) (*os.File, error) {
	r, base, err := d.in(name)
	if err != nil {
		return nil, err
	}
	return r.OpenFile(base, flag, mode)
}

func (d *dirs) Lstat(name string) (fs.FileInfo, error) {
	r, base, err := d.in(name)
	if err != nil {
		return nil, err
	}
	return r.Lstat(base)
}

func (d *dirs) Readlink(name string) (string, error) {
	r, base, err := d.in(name)
	if err != nil {
		return "", err
	}
	return r.Readlink(base)
}

// change does something to a path.
func (d *dirs) change(name string, f func(r *os.Root, base string) error) error {
	r, base, err := d.in(name)
	if err != nil {
		return err
	}
	return f(r, base)
}

func (d *dirs) Mkdir(name string, mode fs.FileMode) error {
	d.forget(name)
	return d.change(name, func(r *os.Root, base string) error { return r.Mkdir(base, mode) })
}

func (d *dirs) Chmod(name string, mode fs.FileMode) error {
	return d.change(name, func(r *os.Root, base string) error { return r.Chmod(base, mode) })
}

func (d *dirs) Lchown(name string, uid, gid int) error {
	return d.change(name, func(r *os.Root, base string) error { return r.Lchown(base, uid, gid) })
}

func (d *dirs) Chtimes(name string, read, modified time.Time) error {
	return d.change(name, func(r *os.Root, base string) error { return r.Chtimes(base, read, modified) })
}

func (d *dirs) Symlink(target, name string) error {
	return d.change(name, func(r *os.Root, base string) error { return r.Symlink(target, base) })
}

func (d *dirs) Remove(name string) error {
	d.forget(name)
	return d.change(name, (*os.Root).Remove)
}

func (d *dirs) RemoveAll(name string) error {
	d.forget(name)
	err := d.change(name, (*os.Root).RemoveAll)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nor is the directory that it would be in
	}
	return err
}

func (d *dirs) Rename(from, to string) error {
	d.forget(from)
	d.forget(to)
	if path.Dir(from) != path.Dir(to) {
		return d.top.Rename(from, to)
	}
	return d.change(from, func(r *os.Root, base string) error { return r.Rename(base, path.Base(to)) })
}

func (d *dirs) Link(from, to string) error {
	if path.Dir(from) != path.Dir(to) {
		return d.top.Link(from, to)
	}
	return d.change(from, func(r *os.Root, base string) error { return r.Link(base, path.Base(to)) })
}

// asFS is the tree for what only reads from it.
type asFS struct{ *dirs }

func (a asFS) Open(name string) (fs.File, error) {
	f, err := a.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return f, nil
}
