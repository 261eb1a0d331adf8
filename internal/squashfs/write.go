package squashfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"runtime"
	"time"
)

// Compressor is what an image is compressed with.
type Compressor int

// The compressors that [Write] has.
const (
	Zstd Compressor = iota
	Gzip
	XZ
	LZ4
)

// WriteOptions says how an image is written. The zero value is a good choice.
type WriteOptions struct {
	Compressor Compressor
	// Level is how hard to compress; 0 is the compressor's default. Zstd has 1 to
	// 22, in the numbers of libzstd, and 15 as its default; gzip has 1 to 9, and
	// 9; lz4 has 1 and 2, which is its slow mode, and 1; xz has only 1.
	Level int
	// BlockSize is a power of two from 4 KiB to 1 MiB; 0 is 128 KiB.
	BlockSize int
	// Workers is how many blocks are compressed at once; 0 is one for each
	// processor that Go uses. The bytes of the image do not depend on it.
	Workers int
	// NotAfter is the latest time in the image: later ones become this one. It is
	// also the image's own time, which otherwise is its newest file's. The zero
	// time is no bound. This is where a SOURCE_DATE_EPOCH goes.
	NotAfter time.Time
	// RootOwned gives everything to user 0 and group 0.
	RootOwned bool
	// NoFragments stores each small file and each end of a file in a block of its
	// own, so that it can be read without others. The image grows.
	NoFragments bool
	// NoExport leaves out the table that NFS servers need.
	NoExport bool
	// NoPadding ends the image where its tables end, and not at a multiple of 4
	// KiB, which loop devices need.
	NoPadding bool
	// Progress, if not nil, is called from the goroutine of Write, after each
	// block that is written. It should be quick.
	Progress func(Progress)
}

// Progress says how far [Write] has come with the content of files, which is
// most of its work. Bytes in holes and in duplicates count as soon as they are
// passed.
type Progress struct {
	Bytes, TotalBytes int64 // of content
	Written           int64 // bytes of the image
}

// Summary says what [Write] has written.
type Summary struct {
	Size       int64 // bytes of the image, with its padding
	Inodes     int   // files of all kinds; hard links are one
	Content    int64 // bytes of all files' content
	Duplicates int64 // of these in files whose content was there already
	Holes      int64 // of these in blocks of zeros, which take no room
	Fragments  int   // blocks of small files and of files' ends
}

// ErrSource is the error of a tree that no image can hold, or that changed while
// it was read.
var ErrSource = errors.New("unsuitable source")

// unsuitable is an [ErrSource] that says why.
func unsuitable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSource, fmt.Sprintf(format, args...))
}

// Write writes a tree of files as an image from byte 0 of w. Equal trees and
// options give equal bytes, on every machine. What cannot be in an image, or is
// not what the tree said it is when it comes to be read, is [ErrSource]; errors
// of the tree and of w are passed on, wrapped.
//
// The superblock is written last: what an error or a cancelled context leaves
// behind is no image. Write never reads w, and writes each byte once, in order
// but for the superblock; what w had before is not erased.
//
// Besides some hundred bytes for each file and 4 for each block of its content,
// memory is taken for 2*Workers+4 blocks, twice each, and for the state of
// Workers+1 compressors: of 128 KiB blocks and zstd 3 MiB each, of xz 10 MiB.
func Write(ctx context.Context, w io.WriterAt, src Tree, o WriteOptions) (Summary, error) {
	if err := o.complete(); err != nil {
		return Summary{}, err
	}
	codec, err := newCompressing(o)
	if err != nil {
		return Summary{}, err
	}
	b := &builder{o: o, src: src, codec: codec, out: &output{w: w, at: superblockSize}, ids: map[uint32]uint16{}}
	if err := b.write(ctx); err != nil {
		return Summary{}, err
	}
	return b.sum, nil
}

// complete fills in defaults and checks the options.
func (o *WriteOptions) complete() error {
	if o.BlockSize == 0 {
		o.BlockSize = 128 << 10
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	switch {
	case bits.OnesCount(uint(o.BlockSize)) != 1 || o.BlockSize < 4<<10 || o.BlockSize > 1<<20:
		return fmt.Errorf("blocks of %d bytes: %w", o.BlockSize, fs.ErrInvalid)
	case o.Workers < 0 || o.Workers > 1024:
		return fmt.Errorf("%d workers: %w", o.Workers, fs.ErrInvalid)
	}
	return nil
}

// builder writes one image.
type builder struct {
	o     WriteOptions
	src   Tree
	codec *compressing
	out   *output
	sum   Summary

	root      *node
	inodes    []*node // by number, less one
	newest    uint32
	fragments []fragment
	ids       map[uint32]uint16 // users and groups, by index
	idList    []uint32
	attrs     attrWriter
}

func (b *builder) write(ctx context.Context) error {
	if err := b.scan(ctx); err != nil {
		return err
	}
	b.out.write(b.codec.options)
	if err := b.writeContent(ctx); err != nil {
		return err
	}
	s := superblock{inodes: uint32(len(b.inodes)), modified: b.newest, flags: b.flags(), exportTable: noTable}
	if err := b.writeTables(ctx, &s); err != nil {
		return err
	}
	return b.finish(&s)
}

// Flags of the superblock that say how an image was made.
const (
	flagNoFragments = 0x0010
	flagAllEnds     = 0x0020 // ends of big files are in fragments, too
	flagDuplicates  = 0x0040 // were looked for
	flagExport      = 0x0080
	flagNoAttrs     = 0x0200
)

func (b *builder) flags() uint16 {
	flags := uint16(flagDuplicates)
	if b.o.NoFragments {
		flags |= flagNoFragments
	} else {
		flags |= flagAllEnds
	}
	if !b.o.NoExport {
		flags |= flagExport
	}
	if b.attrs.empty() {
		flags |= flagNoAttrs
	}
	if b.codec.options != nil {
		flags |= flagOptions
	}
	return flags
}

// finish writes what makes the image one: padding first, the superblock last.
func (b *builder) finish(s *superblock) error {
	s.used = b.out.at
	if pad := -s.used & 4095; !b.o.NoPadding {
		b.out.write(make([]byte, pad))
	}
	b.sum.Size, b.sum.Inodes, b.sum.Fragments = b.out.at, len(b.inodes), len(b.fragments)
	s.blockSize, s.compressor = b.o.BlockSize, b.codec.number
	s.fragments, s.ids = uint32(len(b.fragments)), len(b.idList)
	if err := b.out.flush(); err != nil {
		return err
	}
	if _, err := b.out.w.WriteAt(s.encode(), 0); err != nil {
		return fmt.Errorf("writing the superblock: %w", err)
	}
	return nil
}

// encode is the superblock as it is on disk.
func (s *superblock) encode() []byte {
	b := le.AppendUint32(nil, magic)
	b = le.AppendUint32(b, s.inodes)
	b = le.AppendUint32(b, s.modified)
	b = le.AppendUint32(b, uint32(s.blockSize))
	b = le.AppendUint32(b, s.fragments)
	b = le.AppendUint16(b, s.compressor)
	b = le.AppendUint16(b, uint16(bits.TrailingZeros(uint(s.blockSize))))
	b = le.AppendUint16(b, s.flags)
	b = le.AppendUint16(b, uint16(s.ids))
	b = le.AppendUint16(b, 4) // the format's version, 4.0
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, uint64(s.root))
	for _, at := range []int64{s.used, s.idTable, s.attrTable, s.inodeTable, s.directoryTable, s.fragmentTable, s.exportTable} {
		b = le.AppendUint64(b, uint64(at))
	}
	return b
}

// output appends to the image. It remembers the first error, which flush
// returns.
type output struct {
	w       io.WriterAt
	at      int64 // where the next byte goes
	pending []byte
	err     error
}

// outputBuffer is how many bytes are gathered for one write.
const outputBuffer = 1 << 20

func (o *output) write(p []byte) {
	o.pending = append(o.pending, p...)
	o.at += int64(len(p))
	if len(o.pending) >= outputBuffer {
		_ = o.flush() // remembered
	}
}

func (o *output) flush() error {
	if o.err == nil && len(o.pending) > 0 {
		if _, err := o.w.WriteAt(o.pending, o.at-int64(len(o.pending))); err != nil {
			o.err = fmt.Errorf("writing the image: %w", err)
		}
	}
	o.pending = o.pending[:0]
	return o.err
}
