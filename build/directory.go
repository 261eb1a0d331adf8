package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockport/lockport/internal/squashfs"
)

// writeDirectory writes a tree as a directory. It appears under its name when it
// is complete.
func writeDirectory(ctx context.Context, t *Tree, name string, o Output) (*Result, error) {
	made := temporary(name)
	d := &directoryWriter{ctx: ctx, tree: t, out: o, result: &Result{Files: []string{name}}, top: made, links: map[squashfs.LinkID]string{}}
	err := d.all()
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
	top    string // nobody else writes there
	root   *os.Root
	links  map[squashfs.LinkID]string // paths of the files that have more names
	result *Result
	total  int64 // bytes of all names' content, for the progress
}

func (d *directoryWriter) all() error {
	if err := os.Mkdir(d.top, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(d.top)
	if err != nil {
		return err
	}
	d.root = root
	d.tree.each(func(n *node) {
		if n.Mode.IsRegular() {
			d.total += n.Size
		}
	})
	err = d.directory(d.tree.top, ".")
	return errors.Join(err, root.Close())
}

// directory writes what is in a directory, and last its own mode: it may forbid
// to write.
func (d *directoryWriter) directory(n *node, p string) error {
	d.result.Inodes++
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		if err := d.node(n.children[name], path.Join(p, name)); err != nil {
			return err
		}
	}
	return d.finish(n, p)
}

func (d *directoryWriter) node(n *node, p string) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if n.Mode.IsDir() {
		if err := d.root.Mkdir(p, 0o700); err != nil {
			return err
		}
		return d.directory(n, p)
	}
	if n.Link != (squashfs.LinkID{}) {
		if first, ok := d.links[n.Link]; ok {
			return d.root.Link(first, p)
		}
		d.links[n.Link] = p
	}
	d.result.Inodes++
	if err := d.inode(n, p); err != nil {
		return err
	}
	return d.finish(n, p)
}

// inode makes what is no directory.
func (d *directoryWriter) inode(n *node, p string) error {
	switch n.Mode.Type() {
	case fs.ModeSymlink:
		return d.root.Symlink(n.Target, p)
	case 0:
		return d.file(n, p)
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
	written, err := io.Copy(f, &directoryReader{d, io.LimitReader(r, n.Size+1)})
	if err == nil && written != n.Size {
		err = fmt.Errorf("/%s: has changed its size while it was read", p)
	}
	return errors.Join(err, f.Close())
}

// directoryReader ends with the context of the writer, and tells its progress.
type directoryReader struct {
	d *directoryWriter
	io.Reader
}

func (r *directoryReader) Read(p []byte) (int, error) {
	if err := r.d.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.Reader.Read(p)
	r.d.result.Content += int64(n)
	if r.d.out.Progress != nil {
		r.d.out.Progress(r.d.result.Content, r.d.total)
	}
	return n, err
}

// finish gives a file its owner, attributes, mode and time, in this order: a
// change of the owner takes capabilities away, and one of anything sets a time.
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
	// The path is safe: what is on the way was made here.
	full := filepath.Join(d.top, p)
	for _, a := range n.Attrs {
		if err := setAttribute(full, a.Name, a.Value); err != nil {
			return fmt.Errorf("%w: /%s has the attribute %q, which can only be in an image file here: %w", ErrSpec, p, a.Name, err)
		}
	}
	if n.Mode.Type() == fs.ModeSymlink {
		return setTime(full, d.time(n))
	}
	if err := d.root.Chmod(p, n.Mode.Perm()|n.Mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	return setTime(full, d.time(n))
}

func (d *directoryWriter) time(n *node) time.Time {
	at := n.ModTime
	if !d.out.NotAfter.IsZero() && at.After(d.out.NotAfter) {
		at = d.out.NotAfter
	}
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	return at
}
