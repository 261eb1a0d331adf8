package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Type is what kind of file an image is.
type Type string

// The types of images.
const (
	Directory Type = "directory"
	Raw       Type = "raw"
)

// Info is what is known of an image without opening it. A zero time and a zero
// usage are unknown.
type Info struct {
	Name     string
	Path     string // absolute, beneath the root
	Type     Type
	ReadOnly bool
	Created  time.Time
	Modified time.Time
	Usage    uint64 // bytes on the disk
}

// SearchPath lists the directories in which images are found by name. The first
// image of a name counts.
func SearchPath() []string {
	return []string{"/etc/portables", "/run/portables", "/var/lib/portables", "/usr/local/lib/portables", "/usr/lib/portables"}
}

// InSearchPath tells whether a path is directly in one of those directories.
func InSearchPath(p string) bool {
	return slices.Contains(SearchPath(), path.Dir(p)) && path.Base(p) != "/"
}

// List returns the images in the search path, sorted by name.
func List(ctx context.Context, root string) ([]Info, error) {
	t, err := OpenTree(root)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	var list []Info
	have := map[string]bool{}
	for _, dir := range SearchPath() {
		entries, err := fs.ReadDir(t, dir[1:])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading %s: %w", dir, cause(err))
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			// What is no image, or a link to nowhere, is passed over.
			if i, err := describe(t, path.Join(dir, e.Name())); err == nil && ValidName(i.Name) && !have[i.Name] {
				have[i.Name] = true
				list = append(list, i)
			}
		}
	}
	slices.SortFunc(list, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Find looks an image up: ref is a name, or an absolute path beneath the root.
func Find(ctx context.Context, root, ref string) (Info, error) {
	t, err := OpenTree(root)
	if err != nil {
		return Info{}, err
	}
	defer t.Close()
	return find(ctx, t, ref)
}

func find(ctx context.Context, t *Tree, ref string) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	if !ValidName(ref) {
		return findPath(t, ref)
	}
	for _, dir := range SearchPath() {
		for _, suffix := range []string{"", ".raw"} {
			i, err := describe(t, path.Join(dir, ref+suffix))
			if err == nil {
				return i, nil
			}
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNotImage) {
				return Info{}, err
			}
		}
	}
	return Info{}, fmt.Errorf("%s: %w", ref, ErrNotFound)
}

// findPath takes a path with all links resolved: it stays valid when a link on
// the way is changed.
func findPath(t *Tree, p string) (Info, error) {
	switch {
	case !strings.HasPrefix(p, "/"):
		return Info{}, fmt.Errorf("%q: neither a name nor an absolute path: %w", p, ErrNotImage)
	case !Printable(p):
		return Info{}, fmt.Errorf("%q: control characters in a path: %w", p, ErrNotImage)
	}
	at, err := t.Resolve(p)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("%s: %w", p, ErrNotFound)
	}
	if err != nil {
		return Info{}, err
	}
	return describe(t, "/"+at)
}

// describe tells what is at a path.
func describe(t *Tree, p string) (Info, error) {
	s, err := t.Stat(strings.TrimPrefix(p, "/"))
	if err != nil {
		return Info{}, err
	}
	i := Info{Name: path.Base(p), Path: p, Type: Directory, ReadOnly: strings.HasPrefix(p, "/usr/") || !writable(t, p)}
	if made, ok := birth(t, p); ok {
		i.Created = made
	}
	switch {
	case s.IsDir():
	case s.Mode().IsRegular() && strings.HasSuffix(i.Name, ".raw") && i.Name != ".raw":
		i.Name = strings.TrimSuffix(i.Name, ".raw")
		i.Type = Raw
		i.ReadOnly = i.ReadOnly || s.Mode()&0o222 == 0
		i.Modified = s.ModTime()
		if st, ok := s.Sys().(*syscall.Stat_t); ok {
			i.Usage = uint64(st.Blocks) * 512
		}
	default:
		return Info{}, fmt.Errorf("%s: neither a directory nor a file called *.raw: %w", p, ErrNotImage)
	}
	return i, nil
}
