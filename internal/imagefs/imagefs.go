// Package imagefs gives the readers of file-system images what they have in
// common: the side of [io/fs], reading by extents, a small cache of blocks. A
// reader of one format says what an inode is ([Reader], [Node]); this package
// makes a file system of it that can be walked, listed and read.
//
// An image is hostile. Names, sizes and positions are checked here for all
// formats, and directories that do not form a tree are refused, so that a walk
// always ends.
//
// Nothing here follows symbolic links. What they mean depends on where the
// image is to be root, which the caller knows.
package imagefs

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

// Bounds on what an image may make us keep or read. Those of names and targets
// are Linux's own.
const (
	maxName        = 255
	maxTarget      = 1<<16 - 1
	maxListing     = 64 << 20 // bytes of one directory
	maxDirectories = 1 << 20  // of one image
	maxReadFile    = 64 << 20 // bytes that ReadFile returns
	keptEntries    = 1 << 16  // of directories that were listed before
)

// MaxEntries is how many entries a directory may have.
const MaxEntries = 1 << 20

// Unsupported is the text of an error for what a format has and its reader can't
// do. It is also [errors.ErrUnsupported].
type Unsupported string

func (u Unsupported) Error() string { return string(u) }

// Is makes it [errors.ErrUnsupported].
func (u Unsupported) Is(target error) bool { return target == errors.ErrUnsupported }

// A Reader finds the inodes of one image. It is used by several goroutines.
type Reader interface {
	Node(inode uint64) (Node, error)
}

// A Node is an inode of any kind. It is used by several goroutines. Its errors
// wrap the format's errors for damage and for what is not supported, or are
// those of the image's reader.
type Node interface {
	// Info says what the inode has, and reads nothing.
	Info() Info
	// Map returns the extent that begins at an offset, which is in the file. Of
	// a symbolic link the content is its target.
	Map(off int64) (Extent, error)
	// List returns a directory's entries in any order, without "." and "..".
	List() ([]Dirent, error)
	// Xattrs returns the extended attributes in the image's order.
	Xattrs() ([]Attr, error)
}

// Info is what an inode says of itself.
type Info struct {
	Mode    fs.FileMode
	Size    int64
	ModTime time.Time
	Stat
}

// Stat is what an inode has besides the fields of [fs.FileInfo], which returns
// a *Stat from Sys.
type Stat struct {
	Inode        uint64 // number; hard links of one file have the same
	Links        uint32
	UID, GID     uint32
	Major, Minor uint32 // of a device

	node Node
}

// Xattrs reads the extended attributes, in the image's order.
func (s *Stat) Xattrs() ([]Attr, error) {
	list, err := s.node.Xattrs()
	if err != nil {
		return nil, fmt.Errorf("attributes of inode %d: %w", s.Inode, err)
	}
	return list, nil
}

// Attr is an extended attribute.
type Attr struct {
	Name  string // with its namespace, like "security.capability"
	Value []byte
}

// Dirent is an entry of a directory.
type Dirent struct {
	Name  string
	Inode uint64
	Type  fs.FileMode // type bits only
}

// FS is an open image. It is safe for concurrent use. Paths are those of
// [io/fs], except that names need not be UTF-8, for those of Linux need not.
type FS struct {
	reader Reader
	blocks *Blocks
	root   Node

	mu   sync.Mutex
	tree map[uint64]place    // where each directory was met, by its inode
	kept map[uint64][]Dirent // listings, by inode, in order of name
	sum  int                 // entries of these
}

// New makes a file system of what a reader finds, from this inode on. The
// blocks are those of its image.
func New(r Reader, blocks *Blocks, root uint64) (*FS, error) {
	f := &FS{reader: r, blocks: blocks, tree: map[uint64]place{}, kept: map[uint64][]Dirent{}}
	n, err := r.Node(root)
	if err == nil && !n.Info().Mode.IsDir() {
		err = f.damage("inode %d is a %s", root, kindOf(n.Info().Mode))
	}
	if err != nil {
		return nil, fmt.Errorf("root directory: %w", err)
	}
	f.root = n
	return f, f.settle(root, place{parent: root})
}

func (f *FS) damage(format string, args ...any) error { return f.blocks.Damage(format, args...) }
