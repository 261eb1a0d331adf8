package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

var (
	// ErrVendor: the image is below /usr, which belongs to the packages of the
	// system.
	ErrVendor = errors.New("images below /usr can't be changed")
	// ErrBusy: another program has locked the image.
	ErrBusy = errors.New("the image is in use")
	// ErrNoLimit: there is no quota where this image is.
	ErrNoLimit = errors.New("only btrfs subvolumes have a limit")
	// ErrMounted: something is mounted inside the image.
	ErrMounted = errors.New("something is mounted in it")
)

// NoLimit is the limit of an image that may grow as long as there is room.
const NoLimit = ^uint64(0)

// Pool is where images are kept that are installed while the system runs.
const Pool = "/var/lib/portables"

// companions are what may lie beside an image file called NAME.raw, and is about
// this file alone.
var companions = []string{".roothash", ".roothash.p7s", ".usrhash", ".usrhash.p7s", ".verity", ".nspawn"}

// Manager of one image: it is locked, so that neither this nor another tool that
// takes the same locks changes it at the same time.
type held struct {
	Info
	root    *os.Root
	at      string // below the root, its directory without links
	release func()
}

// hold finds and locks an image. The caller releases it.
func hold(ctx context.Context, root, ref string) (*held, error) {
	info, err := Find(ctx, root, ref)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(info.Path, "/usr/") {
		return nil, fmt.Errorf("%s: %w", info.Path, ErrVendor)
	}
	t, err := OpenTree(root)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	dir, err := t.Resolve(path.Dir(info.Path))
	if err != nil {
		return nil, err
	}
	top, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	h := &held{Info: info, root: top, at: path.Join(dir, path.Base(info.Path))}
	unlock, err := h.lock()
	if err != nil {
		_ = top.Close()
		return nil, fmt.Errorf("%s: %w", info.Path, err)
	}
	h.release = func() {
		unlock()
		_ = top.Close()
	}
	return h, nil
}

// wrap names the image, once.
func (h *held) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", doing, h.Path, err)
}

// Remove deletes an image for good, with the files beside it that are about it
// alone, and returns the paths that are gone. Of a link, the link goes and not
// what it leads to. It does not look whether units use the image: that is for
// the caller to see to, in allowed, which is called while the image is locked.
func Remove(ctx context.Context, root, ref string, allowed func(Info) error) ([]string, error) {
	h, err := hold(ctx, root, ref)
	if err != nil {
		return nil, err
	}
	defer h.release()
	if err := allowed(h.Info); err != nil {
		return nil, err
	}
	if err := h.remove(ctx); err != nil {
		return nil, h.wrap("removing", err)
	}
	gone := []string{h.Path}
	stem, ok := strings.CutSuffix(h.at, ".raw")
	for _, suffix := range companions {
		if !ok && suffix != ".nspawn" {
			continue
		}
		err := h.root.Remove(stem + suffix)
		if err == nil {
			gone = append(gone, path.Join(path.Dir(h.Path), path.Base(stem)+suffix))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return gone, h.wrap("removing what belongs to", err)
		}
	}
	return gone, nil
}

// remove deletes the image itself.
func (h *held) remove(ctx context.Context) error {
	info, err := h.root.Lstat(h.at)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if strings.HasPrefix(h.at, "dev/") {
			return errors.New("it is a device, and stays")
		}
		return h.root.Remove(h.at)
	}
	if err := h.noMounts(ctx, h.at); err != nil {
		return err
	}
	if err := h.setReadOnly(false); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if h.deleteSubvolume() == nil {
		return nil
	}
	return h.root.RemoveAll(h.at)
}

// noMounts wants that deleting a directory deletes nothing but it.
func (h *held) noMounts(ctx context.Context, dir string) error {
	below, err := h.directoriesIn(dir)
	for _, name := range below {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = h.noMounts(ctx, path.Join(dir, name))
		}
	}
	return err
}

// directoriesIn lists the directories in one that is no mount itself. Names need
// not be UTF-8, as those of a file system of this language would have to be.
func (h *held) directoriesIn(dir string) ([]string, error) {
	f, err := h.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if isMount(f) {
		return nil, fmt.Errorf("/%s: %w", dir, ErrMounted)
	}
	var list []string
	for {
		entries, err := f.ReadDir(1000)
		for _, e := range entries {
			if e.IsDir() {
				list = append(list, e.Name())
			}
		}
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// MarkReadOnly forbids or allows to change an image: by its mode if it is a file,
// else by an attribute of the directory, the subvolume or the device.
func MarkReadOnly(ctx context.Context, root, ref string, on bool) error {
	h, err := hold(ctx, root, ref)
	if err != nil {
		return err
	}
	defer h.release()
	return h.wrap("marking", h.setReadOnly(on))
}

// openSelf opens what the image is, also behind a link.
func (h *held) openSelf() (*os.File, error) {
	t := &Tree{stepwise{below{h.root}}, nil}
	at, err := t.Resolve(h.at)
	if err != nil {
		return nil, err
	}
	return h.root.Open(at)
}

// setReadOnly is MarkReadOnly for an image that is held.
func (h *held) setReadOnly(on bool) error {
	f, err := h.openSelf()
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		return markDirectory(f, on)
	case !info.Mode().IsRegular():
		return markDevice(f, on)
	}
	mode := info.Mode().Perm() & 0o444
	if !on {
		mode |= 0o200
	}
	return f.Chmod(mode)
}

// SetLimit bounds how large an image may grow, in bytes; NoLimit allows anything.
func SetLimit(ctx context.Context, root, ref string, limit uint64) error {
	h, err := hold(ctx, root, ref)
	if err != nil {
		return err
	}
	defer h.release()
	f, err := h.openSelf()
	if err != nil {
		return err
	}
	defer f.Close()
	return h.wrap("limiting", limitSubvolume(f, limit))
}

// SetPoolLimit bounds how large Pool may grow, in bytes; NoLimit allows anything.
func SetPoolLimit(_ context.Context, root string, limit uint64) error {
	t, err := OpenTree(root)
	if err != nil {
		return err
	}
	defer t.Close()
	f, err := t.Open(fsPath(Pool))
	if err != nil {
		return fmt.Errorf("opening %s: %w", Pool, cause(err))
	}
	defer f.Close()
	file, ok := f.(*os.File)
	if !ok {
		return fmt.Errorf("%s: %w", Pool, ErrNoLimit)
	}
	if err := limitSubvolume(file, limit); err != nil {
		return fmt.Errorf("limiting %s: %w", Pool, err)
	}
	return nil
}
