package portable

import (
	"errors"
	"io/fs"
	"path"
	"syscall"

	"github.com/lockport/lockport/image"
)

// layers are images on top of each other, the root image first. A service sees
// what the extensions have of /usr, /opt and /etc, and of the rest the root.
type layers []*image.Image

// spot is a file without links on the way to it.
type spot struct {
	layer int
	at    string // as package fs has it
	info  fs.FileInfo
}

// path is where it is for a process in the image.
func (s spot) path() string { return path.Join("/", s.at) }

// find follows an absolute path. A link may lead from one image to another.
func (l layers) find(p string) (spot, error) {
	// Each round leads into another image; more than a few are a trick.
	for range 2 * len(l) {
		next := p
		for i := len(l) - 1; i >= 0; i-- {
			at, err := l[i].Resolve(p)
			if err == nil {
				info, err := l[i].Lstat(at)
				return spot{i, at, info}, err
			}
			if !missing(err) {
				return spot{}, err
			}
			if to, err := l[i].ResolveMissing(p); err == nil && "/"+to != path.Clean(p) {
				next = "/" + to
			}
		}
		if next == p {
			break
		}
		p = next
	}
	return spot{}, fs.ErrNotExist
}

// target is where a path leads in the root image, even if there is nothing.
func (l layers) target(p string) string {
	if at, err := l[0].ResolveMissing(p); err == nil {
		return path.Join("/", at)
	}
	return path.Clean(p)
}

// readFile reads a file of at most limit bytes.
func (l layers) readFile(p string, limit int64) ([]byte, error) {
	s, err := l.find(p)
	if err != nil {
		return nil, err
	}
	return image.ReadFile(l[s.layer], s.at, limit)
}

// missing tells whether an error says that there is nothing, and not that
// something can't be read.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)
}
