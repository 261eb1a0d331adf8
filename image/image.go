package image

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Image is an open image. The caller closes it.
type Image struct {
	Info
	*Tree
}

// Open finds an image as Find does and opens it.
func Open(ctx context.Context, root, ref string) (*Image, error) {
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
	if info.Type == Directory {
		top, err := dir.OpenRoot(at)
		if err != nil {
			return nil, err
		}
		return &Image{info, newTree(top)}, nil
	}
	t, err := openRaw(ctx, dir, at)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", info.Path, err)
	}
	return &Image{info, t}, nil
}

func openRaw(ctx context.Context, dir *os.Root, at string) (*Tree, error) {
	f, err := dir.Open(at)
	if err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err == nil {
		var files fs.ReadLinkFS
		if files, err = probe(ctx, f, s.Size()); err == nil {
			return &Tree{files, f.Close}, nil
		}
	}
	_ = f.Close() // only read from
	return nil, err
}

// fsPath is an absolute path as package fs wants it.
func fsPath(p string) string {
	if p = strings.Trim(p, "/"); p == "" {
		return "."
	}
	return p
}
