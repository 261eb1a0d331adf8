package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// writeDirectory writes a tree as a directory. It appears under its name when it
// is complete.
func writeDirectory(ctx context.Context, t *Tree, name string, o Output) (*Result, error) {
	d := &directoryWriter{ctx: ctx, tree: t, out: o, result: &Result{Files: []string{name}}}
	made := temporary(name)
	err := d.all(made)
	if err == nil {
		err = os.Rename(made, name)
	}
	if err != nil {
		return nil, errors.Join(err, removeTree(made))
	}
	d.result.Size = d.result.Content
	return d.result, nil
}

// removeTree removes a directory in which some may not be writable.
func removeTree(name string) error {
	err := filepath.WalkDir(name, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(p, 0o700)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, os.RemoveAll(name))
}

type directoryWriter struct {
	ctx    context.Context
	tree   *Tree
	out    Output
	root   *os.Root
	result *Result
}

func (d *directoryWriter) all(name string) error {
	if err := os.Mkdir(name, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return err
	}
	d.root = root
	err = d.directory(d.tree.top, ".")
	return errors.Join(err, root.Close())
}

// directory writes what is in a directory, and last its own mode: it may forbid
// to write.
func (d *directoryWriter) directory(n *node, p string) error {
	d.result.Inodes++
	for name, c := range n.children {
		if err := d.node(c, path.Join(p, name)); err != nil {
			return err
		}
	}
	return d.finish(n, p)
}

func (d *directoryWriter) node(n *node, p string) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	switch n.Mode.Type() {
	case fs.ModeDir:
		if err := d.root.Mkdir(p, 0o700); err != nil {
			return err
		}
		return d.directory(n, p)
	case fs.ModeSymlink:
		d.result.Inodes++
		return d.root.Symlink(n.Target, p)
	case 0:
		d.result.Inodes++
		if err := d.file(n, p); err != nil {
			return err
		}
		return d.finish(n, p)
	}
	return fmt.Errorf("%w: /%s is neither file, directory nor link, and can only be in an image file", ErrSpec, p)
}

func (d *directoryWriter) file(n *node, p string) error {
	r, err := n.open()
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := d.root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	written, err := io.Copy(f, io.LimitReader(r, n.Size+1))
	if err == nil && written != n.Size {
		err = fmt.Errorf("/%s: has changed its size while it was read", p)
	}
	d.result.Content += written
	return errors.Join(err, f.Close())
}

// finish gives a file its owner, mode and time.
func (d *directoryWriter) finish(n *node, p string) error {
	if os.Geteuid() == 0 {
		uid, gid := int(n.UID), int(n.GID)
		if d.out.RootOwned {
			uid, gid = 0, 0
		}
		if err := d.root.Lchown(p, uid, gid); err != nil {
			return err
		}
	}
	if err := d.root.Chmod(p, n.Mode.Perm()|n.Mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	at := n.ModTime
	if !d.out.NotAfter.IsZero() && at.After(d.out.NotAfter) {
		at = d.out.NotAfter
	}
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	return d.root.Chtimes(p, at, at)
}
