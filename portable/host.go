package portable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

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
	dir   string
	tree  *image.Tree
	root  *os.Root
	files files
}

// OpenHost opens the tree below a directory. The caller closes it.
func OpenHost(dir string) (*Host, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	tree, err := image.OpenTree(dir)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &Host{dir, tree, root, filesBelow(root, flush{(*os.File).Sync, syncTree})}, nil
}

// Close closes the tree.
func (h *Host) Close() error { return errors.Join(h.tree.Close(), h.root.Close()) }

// at is where a path of the host is below its root: the links in its directory
// are followed, one at its end is not.
func (h *Host) at(p string) (string, error) {
	dir, err := h.tree.ResolveMissing(path.Dir(p))
	if err != nil {
		return "", err
	}
	return path.Join(dir, path.Base(p)), nil
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
	entries, err := fs.ReadDir(h.tree, p[1:])
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p, err)
	}
	return entries, nil
}
