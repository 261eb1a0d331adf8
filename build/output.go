package build

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lockport/lockport/internal/erofs"
	"github.com/lockport/lockport/internal/squashfs"
)

// Format is what kind of image is written.
type Format string

// The formats.
const (
	Squashfs  Format = "squashfs"
	Erofs     Format = "erofs"
	Directory Format = "directory"
)

var formats = []Format{Squashfs, Erofs, Directory}

// Protection is where the hash tree of an image goes.
type Protection string

// The protections: no hash tree, partitions of the image, or files beside it.
const (
	Naked      Protection = "no"
	Partitions Protection = "partitions"
	Beside     Protection = "beside"
)

var protections = []Protection{Naked, Partitions, Beside}

// Output says what is made of a tree.
type Output struct {
	Format     Format
	Compressor string // zstd, gzip, xz or lz4; of squashfs only
	Level      int    // 0 for the compressor's default
	BlockSize  int    // bytes; 0 for the format's default
	Protection Protection
	// Key and Certificate sign the root hash; nil for no signature.
	Key         crypto.Signer
	Certificate *x509.Certificate
	// Architecture is that of the partitions, in systemd's words.
	Architecture string
	// Label is that of the partitions: NAME_VERSION, of which the newest is taken.
	Label     string
	NotAfter  time.Time // the latest time in the image; zero for no bound
	RootOwned bool      // give everything to root
	Replace   bool      // what is there already
	// Progress, if not nil, is told how much of the content is done, in bytes.
	Progress func(done, total int64)
}

// Result is what was written.
type Result struct {
	Files    []string // the image first
	Size     int64    // of the image, in bytes
	Content  int64    // of all files in it, in bytes
	Inodes   int
	RootHash []byte // nil for none
}

var compressors = map[string]squashfs.Compressor{"": squashfs.Zstd, "zstd": squashfs.Zstd, "gzip": squashfs.Gzip, "xz": squashfs.XZ, "lz4": squashfs.LZ4}

// check tells what can't be together.
func (o *Output) check(name string) error {
	_, known := compressors[o.Compressor]
	switch {
	case !slices.Contains(formats, o.Format):
		return fmt.Errorf("%w: no format is called %q", ErrSpec, o.Format)
	case !known:
		return fmt.Errorf("%w: no compressor is called %q", ErrSpec, o.Compressor)
	case o.Format != Squashfs && (o.Compressor != "" || o.Level != 0 || o.BlockSize != 0):
		return fmt.Errorf("%w: only squashfs is compressed", ErrSpec)
	case o.Format == Directory && o.Protection != Naked:
		return fmt.Errorf("%w: a directory has no hash tree", ErrSpec)
	case o.Format != Directory && !strings.HasSuffix(name, ".raw"):
		return fmt.Errorf("%w: the image %s has to be called NAME.raw", ErrSpec, name)
	case o.Protection == Naked && o.Key != nil:
		return fmt.Errorf("%w: what is signed is the root hash of a hash tree, and there is to be none", ErrSpec)
	case (o.Key == nil) != (o.Certificate == nil):
		return fmt.Errorf("%w: a key and its certificate belong together", ErrSpec)
	}
	return nil
}

// Write writes an image. It appears under its name when it is complete and on
// the disk; what goes wrong before leaves nothing behind.
func Write(ctx context.Context, t *Tree, name string, o Output) (*Result, error) {
	if err := o.check(name); err != nil {
		return nil, err
	}
	if err := o.free(name); err != nil {
		return nil, err
	}
	if !o.NotAfter.IsZero() {
		t.fillTimes(o.NotAfter)
	}
	if o.Format == Directory {
		return writeDirectory(ctx, t, name, o)
	}
	w := &writer{ctx: ctx, tree: t, out: o, pending: pending{replace: o.Replace}}
	r, err := w.image(name)
	if err == nil {
		err = w.pending.commit(stale(name, r.Files))
	}
	if err != nil {
		return nil, errors.Join(err, w.pending.discard())
	}
	return r, nil
}

// besideSuffixes are those of the files beside NAME.raw that whoever opens it
// takes for its own: its hash tree, root hash and signature.
var besideSuffixes = []string{".verity", ".roothash", ".roothash.p7s", ".usrhash", ".usrhash.p7s"}

// beside returns what such files of an image are called.
func beside(name string) []string {
	var list []string
	for _, suffix := range besideSuffixes {
		list = append(list, strings.TrimSuffix(name, ".raw")+suffix)
	}
	return list
}

// free tells that something is there already. What is beside an image is part of
// it: the hash tree of an older one would be taken for that of the new one.
func (o *Output) free(name string) error {
	names := []string{name}
	if o.Format != Directory {
		names = append(names, beside(name)...)
	}
	for _, n := range names {
		s, err := os.Lstat(n)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !o.Replace:
			return fmt.Errorf("%s: %w", n, fs.ErrExist)
		case s.IsDir():
			return fmt.Errorf("%s: a directory is not replaced: %w", n, fs.ErrExist)
		case o.Format == Directory:
			return fmt.Errorf("%s: a file is not replaced by a directory: %w", n, fs.ErrExist)
		}
	}
	return nil
}

// stale returns what may be beside an image of an older one.
func stale(name string, written []string) []string {
	return slices.DeleteFunc(beside(name), func(n string) bool { return slices.Contains(written, n) })
}

// writer makes one image.
type writer struct {
	ctx     context.Context
	tree    *Tree
	out     Output
	pending pending
}

func (w *writer) image(name string) (*Result, error) {
	f, err := w.pending.create(name)
	if err != nil {
		return nil, err
	}
	r := &Result{Files: []string{name}}
	switch w.out.Protection {
	case Partitions:
		err = w.partitions(f, r)
	case Beside:
		err = w.beside(f, r)
	default:
		_, err = w.fileSystem(f, 0, r)
	}
	if err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r.Size = s.Size()
	return r, nil
}

// at is a file from some offset on.
type at struct {
	io.WriterAt
	offset int64
}

func (a at) WriteAt(p []byte, off int64) (int, error) { return a.WriterAt.WriteAt(p, a.offset+off) }

// fileSystem writes the tree at an offset of a file, and returns its size.
func (w *writer) fileSystem(f *os.File, offset int64, r *Result) (int64, error) {
	var progress func(squashfs.Progress)
	if w.out.Progress != nil {
		progress = func(p squashfs.Progress) { w.out.Progress(p.Bytes, p.TotalBytes) }
	}
	if w.out.Format == Erofs {
		s, err := erofs.Write(w.ctx, at{f, offset}, source{w.tree}, erofs.WriteOptions{
			NotAfter: w.out.NotAfter, RootOwned: w.out.RootOwned, Progress: progress,
		})
		r.Content, r.Inodes = s.Content, s.Inodes
		return s.Size, err
	}
	s, err := squashfs.Write(w.ctx, at{f, offset}, source{w.tree}, squashfs.WriteOptions{
		Compressor: compressors[w.out.Compressor], Level: w.out.Level, BlockSize: w.out.BlockSize,
		NotAfter: w.out.NotAfter, RootOwned: w.out.RootOwned, Progress: progress,
	})
	r.Content, r.Inodes = s.Content, s.Inodes
	return s.Size, err
}
