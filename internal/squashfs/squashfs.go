// Package squashfs reads squashfs 4.0 images in this process: no mount, no
// root, and none of the kernel's file-system code on bytes of unknown origin.
//
// The format is that of Linux and squashfs-tools; where its description is
// silent, the kernel decides. All of it can be read except files compressed
// with LZMA (version 1), or with xz and a filter for a processor that is rare.
//
// An image is hostile: sizes are checked before memory is taken, what does not
// fit together is [ErrDamaged], and directories that do not form a tree are
// refused, so that a walk always ends. It is not checked as a whole when it is
// opened; damage shows where it is met.
//
// Nothing here follows symbolic links. What they mean depends on where the
// image is to be root, which the caller knows.
package squashfs

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Errors that callers tell apart; all are wrapped. An error of the reader is
// passed on, and is none of these.
var (
	ErrNotSquashfs = errors.New("not a squashfs image")
	ErrUnsupported = errors.New("unsupported squashfs feature")
	ErrDamaged     = errors.New("damaged squashfs image")
)

// Bounds on what an image may make us keep or read. Those of names, targets and
// attributes are Linux's own.
const (
	maxName        = 256
	maxTarget      = 1<<16 - 1
	maxListing     = 64 << 20 // bytes of one directory's listing
	maxEntries     = 1 << 20  // of one directory
	maxDirectories = 1 << 20  // of one image
	maxBlocks      = 1 << 26  // of one file: 8 TiB in blocks of 128 KiB
	maxAttrName    = 255
	maxAttrValue   = 1 << 16
	maxAttrs       = 16 << 20 // bytes of all of one inode
	maxReadFile    = 64 << 20 // bytes that ReadFile returns
)

// defaultCache is how many decompressed bytes are kept for another use.
const defaultCache = 16 << 20

// FS is an open image. It is safe for concurrent use. Paths are those of
// [io/fs], except that names need not be UTF-8, for those of Linux need not.
type FS struct {
	image   io.ReaderAt
	super   superblock
	codec   codec
	cache   *cache
	ids     []uint32
	attrs   attrTable
	root    *inode
	last    atomic.Pointer[lastListing]
	treeMu  sync.Mutex
	tree    map[uint32]place // where each directory was met, by its number
	inodeOf region
	dirOf   region
}

// Option changes how an image is opened.
type Option func(*FS)

// WithCache sets how many decompressed bytes are kept for another use, instead
// of 16 MiB. At least the last block is kept.
func WithCache(bytes int) Option { return func(f *FS) { f.cache = newCache(bytes) } }

// Open opens the image in the first size bytes of r, of which it reads the
// superblock, the table of owners and the root directory. The reader stays the
// caller's and must live as long as the file system; it is used by several
// goroutines at once if the file system is.
func Open(r io.ReaderAt, size int64, options ...Option) (*FS, error) {
	f := &FS{image: r, cache: newCache(defaultCache), tree: map[uint32]place{}}
	for _, o := range options {
		o(f)
	}
	if err := f.open(size); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *FS) open(size int64) (err error) {
	if f.super, err = readSuperblock(f.image, size); err != nil {
		return fmt.Errorf("superblock: %w", err)
	}
	if f.codec, err = newCodec(f.super.compressor); err != nil {
		return err
	}
	if err := f.checkOptions(); err != nil {
		return fmt.Errorf("compressor options: %w", err)
	}
	f.inodeOf = region{f.super.inodeTable, f.super.directoryTable}
	f.dirOf = region{f.super.directoryTable, f.super.after(f.super.directoryTable)}
	if err := f.readIDs(); err != nil {
		return fmt.Errorf("table of owners: %w", err)
	}
	if err := f.openAttrs(); err != nil {
		return fmt.Errorf("table of attributes: %w", err)
	}
	return f.openRoot()
}

func (f *FS) openRoot() error {
	root, err := f.readInode(f.super.root)
	if err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	if root.kind != kindDir {
		return fmt.Errorf("root directory: %w", damage("inode %d is a %s", root.number, root.kind))
	}
	f.root = root
	return f.settle(root, place{ref: root.ref})
}

// damage is an [ErrDamaged] that says what is wrong.
func damage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// readFull reads all of p from the image. That it is there was checked against
// the image's size, so an early end is the reader's fault.
func (f *FS) readFull(p []byte, off int64) error { return readFull(f.image, p, off) }

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at %d: %w", len(p), off, err)
}
