// Package ext4 reads ext4, ext3 and ext2 images in this process: no mount, no
// root, and none of the kernel's file-system code on bytes of unknown origin.
// It writes nothing and replays no journal: an image that was not unmounted is
// refused, for it may hold something else than it seems to.
//
// The format is that of Linux, Documentation/filesystems/ext4/; where that is
// silent, the kernel decides. Encrypted images and ones with case-insensitive
// directories are refused as well.
//
// An image is hostile: sizes are checked before memory is taken, and what does
// not fit together is [ErrDamaged]. It is not checked as a whole when it is
// opened; damage shows where it is met. Checksums are not compared.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/lockport/lockport/internal/imagefs"
)

// Errors that callers tell apart; all are wrapped. An error of the reader is
// passed on, and is none of these.
var (
	ErrNotExt4     = errors.New("not an ext4 image")
	ErrDamaged     = errors.New("damaged ext4 image")
	ErrUnsupported = error(imagefs.Unsupported("unsupported ext4 feature")) // also [errors.ErrUnsupported]
)

// le is the byte order of the format.
var le = binary.LittleEndian

// rootInode is the number of the root directory.
const rootInode = 2

// reader is an open image.
type reader struct {
	blocks *imagefs.Blocks
	super  superblock
}

// Open opens the image in the first size bytes of r, of which it reads the
// superblock and the root directory's inode. The image's reader stays the
// caller's and must live as long as the file system; it is used by several
// goroutines at once if the file system is.
func Open(r io.ReaderAt, size int64) (*imagefs.FS, error) {
	super, err := readSuperblock(r, size)
	if err != nil {
		return nil, fmt.Errorf("superblock: %w", err)
	}
	e := &reader{super: super}
	e.blocks = imagefs.NewBlocks(r, size, super.blockSize(), ErrDamaged)
	return imagefs.New(e, e.blocks, rootInode)
}

func (e *reader) damage(format string, args ...any) error { return e.blocks.Damage(format, args...) }

// damage is for where there is no reader yet.
func damage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}
