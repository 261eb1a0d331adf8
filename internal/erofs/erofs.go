// Package erofs reads and writes uncompressed erofs images in this process: no
// mount, no root, and none of the kernel's file-system code on bytes of unknown
// origin.
//
// The format is that of Linux (Documentation/filesystems/erofs.rst and the
// on-disk structures described there); where that is silent, the kernel decides.
// Compressed files, data on further devices and the layouts that came with Linux
// 6.15 (48-bit addresses, metadata in an inode) are refused, when the image is
// opened if its superblock tells.
//
// An image is hostile: sizes are checked before memory is taken, and what does
// not fit together is [ErrDamaged]. It is not checked as a whole when it is
// opened; damage shows where it is met. Checksums are not compared.
package erofs

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
	ErrNotErofs    = errors.New("not an erofs image")
	ErrDamaged     = errors.New("damaged erofs image")
	ErrUnsupported = error(imagefs.Unsupported("unsupported erofs feature")) // also [errors.ErrUnsupported]
)

// le is the byte order of the format.
var le = binary.LittleEndian

const (
	superblockAt   = 1024
	superblockSize = 128
	magic          = 0xe0f5e1e2
	slotSize       = 32 // an inode's number counts these
)

// Features that a reader has to know (feature_incompat). Some bits were given
// twice, to features that came together.
const (
	featureZeroPadding  = 0x01
	featureCompressors  = 0x02 // or big physical clusters
	featureChunks       = 0x04
	featureDevices      = 0x08 // or a second compressor in one file
	featureTailPacking  = 0x10
	featureFragments    = 0x20 // or deduplicated compressed data
	featureXattrPrefix  = 0x40
	featuresCompression = featureZeroPadding | featureCompressors | featureTailPacking | featureFragments
	featuresKnown       = featuresCompression | featureChunks | featureDevices | featureXattrPrefix
)

// reader is an open image.
type reader struct {
	blocks   *imagefs.Blocks
	bits     uint // of a block's size
	metaAt   int64
	sharedAt int64 // attributes that inodes share
	built    int64 // time of all inodes that have none of their own
	builtNS  int64
}

// Open opens the image in the first size bytes of r, of which it reads the
// superblock and the root directory's inode. The image's reader stays the
// caller's and must live as long as the file system; it is used by several
// goroutines at once if the file system is. The error of a compressed image
// wraps [ErrUnsupported] and says that it is one.
func Open(r io.ReaderAt, size int64) (*imagefs.FS, error) {
	if size < superblockAt+superblockSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrNotErofs, size)
	}
	b := make([]byte, superblockSize)
	if n, err := r.ReadAt(b, superblockAt); n < len(b) {
		return nil, fmt.Errorf("reading the superblock: %w", err)
	}
	e := &reader{}
	if err := e.parse(b); err != nil {
		return nil, fmt.Errorf("superblock: %w", err)
	}
	e.blocks = imagefs.NewBlocks(r, size, 1<<e.bits, ErrDamaged)
	return imagefs.New(e, e.blocks, uint64(le.Uint16(b[14:])))
}

// parse reads the superblock.
func (e *reader) parse(b []byte) error {
	if m := le.Uint32(b); m != magic {
		return fmt.Errorf("%w: it has %#08x for a magic number", ErrNotErofs, m)
	}
	if err := checkFeatures(le.Uint32(b[80:]), le.Uint16(b[86:])); err != nil {
		return err
	}
	if b[12] < 9 || b[12] > 16 {
		return fmt.Errorf("%w: blocks of %d bits", ErrDamaged, b[12])
	}
	if b[90] != 0 {
		return fmt.Errorf("%w: directories in blocks of their own size", ErrUnsupported)
	}
	e.bits = uint(b[12])
	e.metaAt = int64(le.Uint32(b[40:])) << e.bits
	e.sharedAt = int64(le.Uint32(b[44:])) << e.bits
	e.built, e.builtNS = int64(le.Uint64(b[24:])), int64(le.Uint32(b[32:]))
	return nil
}

func checkFeatures(features uint32, devices uint16) error {
	switch {
	case features&^featuresKnown != 0:
		return fmt.Errorf("%w: features %#x", ErrUnsupported, features&^featuresKnown)
	case features&featuresCompression != 0 || features&featureDevices != 0 && devices == 0:
		return errCompressed
	case features&featureDevices != 0:
		return fmt.Errorf("%w: data on other devices", ErrUnsupported)
	}
	return nil
}

var errCompressed = fmt.Errorf("%w: compressed erofs", ErrUnsupported)

func (e *reader) damage(format string, args ...any) error { return e.blocks.Damage(format, args...) }
