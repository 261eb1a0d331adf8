package portable

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/lockport/lockport/image"
)

// Scope is how long units stay attached.
type Scope string

// The scopes: until they are detached, or until the next boot at the latest.
const (
	Persistent Scope = "persistent"
	Runtime    Scope = "runtime"
)

// scopes in the order in which they are looked at.
var scopes = []Scope{Persistent, Runtime}

func (s Scope) top() string {
	if s == Runtime {
		return "/run"
	}
	return "/etc"
}

// attached is the directory of attached units.
func (s Scope) attached() string { return s.top() + "/systemd/system.attached" }

// images is the directory of the search path that links to images elsewhere.
func (s Scope) images() string { return s.top() + "/portables" }

// Host is the tree of files that services are attached to. Its methods are not
// safe for concurrent use; other processes are kept out while one changes it.
type Host struct {
	dir    string
	tree   *image.Tree
	root   *dirs
	places map[string]string // where directories are, as far as it is known
	files  files
	images []image.Option
}

// OpenHost opens the tree below a directory; images in it are opened with the
// options. The caller closes it.
func OpenHost(dir string, images ...image.Option) (*Host, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	tree, err := image.OpenTree(dir)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	below := &dirs{top: root}
	return &Host{dir: dir, tree: tree, root: below, files: filesBelow(below, flush{startSync, (*os.File).Sync, syncTree}), images: images}, nil
}

// Close closes the tree.
func (h *Host) Close() error { return errors.Join(h.tree.Close(), h.root.Close()) }

// at is where a path of the host is below its root: the links in its directory
// are followed, one at its end is not.
func (h *Host) at(p string) (string, error) {
	at, err := h.place(path.Dir(p))
	return path.Join(at, path.Base(p)), err
}

// place is where a directory of the host is below its root. It need not exist.
func (h *Host) place(dir string) (string, error) {
	if dir == "/" {
		return ".", nil
	}
	if at, ok := h.places[dir]; ok {
		return at, nil
	}
	up, err := h.place(path.Dir(dir))
	if err != nil {
		return "", err
	}
	at := path.Join(up, path.Base(dir))
	if info, err := h.root.Lstat(at); err != nil || !info.IsDir() {
		if at, err = h.tree.ResolveMissing(dir); err != nil {
			return "", err
		}
	}
	if h.places == nil {
		h.places = map[string]string{}
	}
	h.places[dir] = at
	return at, nil
}

// lookAgain forgets where directories are: time has passed.
func (h *Host) lookAgain() {
	h.places = nil
	h.root.forgetAll()
}

// lstat describes a path of the host; nil if there is nothing.
func (h *Host) lstat(p string) (fs.FileInfo, error) {
	at, err := h.at(p)
	if err != nil {
		return nil, err
	}
	info, err := h.root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDirectory) {
		return nil, nil
	}
	return info, err
}

// readDir returns the entries of a directory of the host, none if it is missing.
func (h *Host) readDir(p string) ([]fs.DirEntry, error) {
	entries, err := h.entries(p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDirectory) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p, err)
	}
	return entries, nil
}

func (h *Host) entries(p string) ([]fs.DirEntry, error) {
	at, err := h.place(p)
	if err != nil {
		return nil, err
	}
	f, err := h.root.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return list, err
}

// readFile reads a small file of the host.
func (h *Host) readFile(p string) ([]byte, error) {
	if at, err := h.at(p); err == nil {
		if info, err := h.root.Lstat(at); err == nil && info.Mode().IsRegular() {
			return image.ReadFile(asFS{h.root}, at, maxUnit)
		}
	}
	return image.ReadFile(h.tree, p[1:], maxUnit) // which follows links
}
