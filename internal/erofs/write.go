package erofs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/lockport/lockport/internal/squashfs"
)

// WriteOptions says how an image is written. The zero value is a good choice.
type WriteOptions struct {
	// NotAfter is the latest time in the image: later ones become this one. The
	// zero time is no bound. This is where a SOURCE_DATE_EPOCH goes.
	NotAfter time.Time
	// RootOwned gives everything to user 0 and group 0.
	RootOwned bool
	// UUID is the file system's. If it is zero, it is made of what is in the image.
	UUID [16]byte
	// Progress, if not nil, is called from the goroutine of Write, at least after
	// each file. It should be quick.
	Progress func(squashfs.Progress)
}

// Summary says what [Write] has written.
type Summary struct {
	Size       int64 // bytes of the image
	Inodes     int   // files of all kinds; hard links are one
	Content    int64 // bytes of all files' content
	Duplicates int64 // of these in blocks that were there already
	Holes      int64 // of these in blocks of zeros, which take no room
}

// ErrSource is the error of a tree that no image can hold, or that changed while
// it was read.
var ErrSource = squashfs.ErrSource

// unsuitable is an [ErrSource] that says why.
func unsuitable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSource, fmt.Sprintf(format, args...))
}

// BlockSize is that of all images that [Write] makes, in bytes.
const BlockSize = blockSize

const (
	blockBits = 12 // of the smallest pages that Linux has
	blockSize = 1 << blockBits
	maxBlocks = noBlock // of an image
)

// Features that a reader need not know (feature_compat).
const (
	compatChecksum = 0x1
	compatModTime  = 0x2 // inodes have the time of modification, not of change
)

// Write writes a tree of files as an uncompressed image from byte 0 of w. Equal
// trees and options give equal bytes, on every machine. What cannot be in an
// image, or is not what the tree said it is when it comes to be read, is
// [ErrSource]; errors of the tree and of w are passed on, wrapped.
//
// Unlike in a squashfs, times are those of the tree to the nanosecond, and those
// before 1970 stay; only the zero time is 1970. Lists of access rights are
// attributes like others.
//
// The superblock is written last: what an error or a cancelled context leaves
// behind is no image. Write never reads w, and writes each byte once, mostly in
// order; what w had before, behind the image's end, is not erased.
//
// Besides some hundred bytes for each file, what directories have, and 16 bytes
// for each hole of the file that is read, memory is taken for some MiB.
func Write(ctx context.Context, w io.WriterAt, src squashfs.Tree, o WriteOptions) (Summary, error) {
	b := &builder{ctx: ctx, o: o, src: src, out: &output{w: w}}
	if err := b.write(); err != nil {
		return Summary{}, err
	}
	return b.sum, nil
}

// builder writes one image, of two parts. The first has the superblock, the
// directories and the shared attributes: their place is known when the tree is,
// and so it is known in time for what refers to them; their bytes are known last.
// The second has all else, in the order in which it is met.
type builder struct {
	ctx context.Context
	o   WriteOptions
	src squashfs.Tree
	out *output
	sum Summary

	root   *entity
	all    []*entity // in order of number
	built  moment    // time of the inodes that have none of their own
	shared sharedAttrs
	packer packer
	first  []byte // the image's first part

	buffer []byte // of the file that is read
	item   []byte // inode that is made
	known  map[fingerprint]*content
	seen   map[int64]bool // a content of this size is known
	peers  map[int64]int  // how many files have this size
	done   int64          // bytes of content
	chunks bool           // there is a file of chunks
}

func (b *builder) write() error {
	if err := b.scan(); err != nil {
		return err
	}
	b.built = b.commonTime()
	b.shared.choose()
	if err := b.layOut(); err != nil {
		return err
	}
	if err := b.writeRest(); err != nil {
		return err
	}
	return b.writeFirst()
}

// writeFirst writes the first part of the image, and of that the first block
// last.
func (b *builder) writeFirst() error {
	for _, e := range b.all {
		if e.Mode.IsDir() {
			b.writeDirectory(e)
		}
	}
	copy(b.first[b.shared.at:], b.shared.area)
	b.sum.Size, b.sum.Inodes = b.out.next, len(b.all)
	super := b.first[superblockAt : superblockAt+superblockSize]
	b.superblock(super)
	id := b.o.UUID
	if id == ([16]byte{}) {
		id = b.derivedID()
	}
	copy(super[48:], id[:])
	// Up to the block's end, with itself as zero, and not inverted.
	sum := ^crc32.Checksum(b.first[superblockAt:blockSize], castagnoli)
	le.PutUint32(super[4:], sum)
	b.out.writeAt(b.first[blockSize:], blockSize)
	if err := b.out.flush(); err != nil {
		return err
	}
	if err := b.ctx.Err(); err != nil {
		return err
	}
	b.out.writeAt(b.first[:blockSize], 0)
	return b.out.err
}

// superblock makes the superblock, without UUID and checksum.
func (b *builder) superblock(s []byte) {
	le.PutUint32(s, magic)
	le.PutUint32(s[8:], compatChecksum|compatModTime)
	s[12] = blockBits
	le.PutUint16(s[14:], uint16(b.root.number())) // the first one in the image
	le.PutUint64(s[16:], uint64(len(b.all)))
	le.PutUint64(s[24:], uint64(b.built.seconds))
	le.PutUint32(s[32:], b.built.nanoseconds)
	le.PutUint32(s[36:], uint32(b.out.next>>blockBits))
	le.PutUint32(s[44:], uint32(b.shared.at>>blockBits))
	if b.chunks {
		le.PutUint32(s[80:], featureChunks)
	}
}

// derivedID makes a UUID, of version 8 of RFC 9562, of all that is in the image.
// Of the second part it takes checksums, as they are quick.
func (b *builder) derivedID() (id [16]byte) {
	h := sha256.New()
	for _, sum := range b.out.sums {
		h.Write(le.AppendUint32(nil, sum))
	}
	h.Write(b.first)
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (b *builder) progress(bytes int64) {
	b.done += bytes
	if b.o.Progress != nil {
		b.o.Progress(squashfs.Progress{Bytes: b.done, TotalBytes: b.sum.Content, Written: b.out.next})
	}
}
