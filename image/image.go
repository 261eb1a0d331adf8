package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Image is an open image. The caller closes it.
type Image struct {
	Info
	*Tree
	Layout *Layout // nil for a directory
}

// Open finds an image as [Find] does and opens it. The errors are those of this
// package; a part of the image that fails its hash tree gives an error when it is
// read, here or later.
func Open(ctx context.Context, root, ref string, list ...Option) (*Image, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	host := newTree(dir)
	defer host.Close()
	info, err := find(ctx, host, ref)
	if err != nil {
		return nil, err
	}
	at, err := host.Resolve(info.Path)
	if err != nil {
		return nil, err
	}
	if info.isDirectory() {
		top, err := dir.OpenRoot(at)
		if err != nil {
			return nil, err
		}
		return &Image{info, newTree(top), nil}, nil
	}
	d, err := dissectAt(dir, at, collect(list))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", info.Path, err)
	}
	t, err := d.tree(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", info.Path, err)
	}
	return &Image{info, t, d.layout}, nil
}

// dissectAt takes apart the image file at a path below a directory.
func dissectAt(dir *os.Root, at string, o options) (*dissection, error) {
	f, err := dir.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	side, err := findSidecar(dir, at, f, o)
	if err == nil {
		var d *dissection
		if d, err = dissect(f, side, o); err == nil {
			return d, nil
		}
	}
	return nil, errors.Join(err, side.close(), f.Close())
}

// fsPath is an absolute path as package fs wants it.
func fsPath(p string) string {
	if p = strings.Trim(p, "/"); p == "" {
		return "."
	}
	return p
}
