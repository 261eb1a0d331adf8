package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	Subvolume Type = "subvolume" // of btrfs
	Raw       Type = "raw"       // a file
	Block     Type = "block"     // a device
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

// isDirectory tells whether the files of an image are files of the host.
func (i Info) isDirectory() bool { return i.Type == Directory || i.Type == Subvolume }

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
		for _, suffix := range []string{"", ".raw", ".v", ".raw.v"} {
			i, err := describe(t, path.Join(dir, ref+suffix))
			if err == nil {
				return i, nil
			}
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNotImage) && !errors.Is(err, ErrNotFound) &&
				!errors.Is(err, syscall.ELOOP) && !errors.Is(err, syscall.ENOTDIR) {
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
	at, err := resolveNewest(t, p)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("%s: %w", p, ErrNotFound)
	}
	if err != nil {
		return Info{}, err
	}
	return describe(t, "/"+at)
}

// resolveNewest is Resolve for a path that may say to take the newest version.
func resolveNewest(t *Tree, p string) (string, error) {
	if f, ok := parsePick(p); ok {
		picked, err := f.pick(t)
		if err != nil {
			return "", err
		}
		p = picked
	}
	return t.Resolve(p)
}

// describe tells what is at a path. Of a directory NAME.v the best entry is the
// image, and NAME its name.
func describe(t *Tree, p string) (Info, error) {
	s, err := t.Stat(fsPath(p))
	if err != nil {
		return Info{}, err
	}
	if f, ok := parsePick(p); ok && s.IsDir() {
		picked, err := f.pick(t)
		if err != nil {
			return Info{}, err
		}
		i, err := describe(t, picked)
		i.Name = f.name
		return i, err
	}
	i := Info{Name: path.Base(p), Path: p, ReadOnly: strings.HasPrefix(p, "/usr/") || !writable(t, p)}
	if made, ok := birth(t, p); ok {
		i.Created = made
	}
	switch mode := s.Mode(); {
	case mode.IsDir():
		i.Type = directoryType(t, p)
	case mode.IsRegular() && strings.HasSuffix(i.Name, ".raw") && i.Name != ".raw":
		i.Name = strings.TrimSuffix(i.Name, ".raw")
		i.Type = Raw
		i.ReadOnly = i.ReadOnly || mode&0o222 == 0
		i.Modified = s.ModTime()
		if st, ok := s.Sys().(*syscall.Stat_t); ok {
			i.Usage = uint64(st.Blocks) * 512
		}
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		i.describeDevice(t, mode)
	default:
		return Info{}, fmt.Errorf("%s: neither a directory, nor a block device, nor a file called *.raw: %w", p, ErrNotImage)
	}
	return i, nil
}

// describeDevice has no times: those of a node say nothing of what is on it.
func (i *Info) describeDevice(t *Tree, mode fs.FileMode) {
	i.Type, i.Created = Block, time.Time{}
	i.ReadOnly = i.ReadOnly || mode&0o222 == 0 || readOnlyDevice(t, i.Path)
	if f, err := t.Open(fsPath(i.Path)); err == nil {
		defer f.Close()
		if o, ok := f.(*os.File); ok {
			size, _ := sizeOf(o) // unknown without a medium
			i.Usage = uint64(size)
		}
	}
}
