package erofs

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/lockport/lockport/internal/imagefs"
)

// layout is how an inode has its data.
type layout uint16

const (
	layoutPlain      layout = iota // blocks in a row
	layoutCompressed               // in the first of two forms
	layoutInline                   // as plain, with the end behind the inode
	layoutCompact                  // compressed, in the other form
	layoutChunks                   // chunks of some blocks, each anywhere
)

// Bits of a chunked inode's format.
const (
	chunkBits    = 0x1f // of a chunk's size, more than a block's
	chunkIndexes = 0x20 // eight bytes for each chunk, else four
)

// noBlock is the address of a chunk of zeros.
const noBlock = 1<<32 - 1

// node is an inode of any kind.
type node struct {
	e      *reader
	info   imagefs.Info
	layout layout
	data   uint32 // address of the first block, format of chunks, or device
	attrs  int64  // position of the attributes that the inode has of its own
	behind int64  // position behind these
}

// Node reads the inode of a number.
func (e *reader) Node(number uint64) (imagefs.Node, error) {
	n, err := e.readInode(number)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	return n, nil
}

func (e *reader) readInode(number uint64) (*node, error) {
	if number > uint64(e.blocks.Size())/slotSize {
		return nil, e.damage("it would be behind the image's end")
	}
	at := e.metaAt + int64(number)*slotSize
	b, err := e.blocks.Bytes(at, slotSize)
	if err != nil {
		return nil, err
	}
	format := le.Uint16(b)
	if format>>4 != 0 || layout(format>>1) > layoutChunks {
		return nil, fmt.Errorf("%w: inode format %#x", ErrUnsupported, format)
	}
	n := &node{e: e, layout: layout(format >> 1), data: le.Uint32(b[16:]), attrs: at + slotSize}
	if format&1 == 0 {
		n.parse(b)
	} else {
		if b, err = e.blocks.Bytes(at, 2*slotSize); err != nil {
			return nil, err
		}
		n.attrs += slotSize
		n.parseExtended(b)
	}
	n.info.Mode, n.info.Inode, n.behind = imagefs.Mode(le.Uint16(b[4:])), number, n.attrs
	if count := le.Uint16(b[2:]); count > 0 {
		n.behind += xattrHead + 4*(int64(count)-1)
	}
	return n, n.check()
}

// parse reads what the short form of an inode has in its own way.
func (n *node) parse(b []byte) {
	n.info.Size, n.info.Links = int64(le.Uint32(b[8:])), uint32(le.Uint16(b[6:]))
	n.info.UID, n.info.GID = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
	n.info.ModTime = time.Unix(n.e.built, n.e.builtNS)
}

// parseExtended reads what the long form has in its own way.
func (n *node) parseExtended(b []byte) {
	n.info.Size, n.info.Links = int64(le.Uint64(b[8:])), le.Uint32(b[44:])
	n.info.UID, n.info.GID = le.Uint32(b[24:]), le.Uint32(b[28:])
	n.info.ModTime = time.Unix(int64(le.Uint64(b[32:])), int64(le.Uint32(b[40:])))
}

// check looks at what the inode says, so far as one can tell from itself.
func (n *node) check() error {
	mode, size, image := n.info.Mode, n.info.Size, n.e.blocks.Size()
	if mode&fs.ModeIrregular != 0 {
		return n.e.damage("it is of no type")
	}
	if mode&fs.ModeDevice != 0 {
		n.info.Major, n.info.Minor = imagefs.Device(n.data)
	}
	if !mode.IsRegular() && !mode.IsDir() && mode.Type() != fs.ModeSymlink {
		return nil
	}
	flat := n.layout == layoutPlain || n.layout == layoutInline
	if size < 0 || flat && size > image || size>>n.e.bits > 1<<40 {
		return n.e.damage("%d bytes in an image of %d", uint64(size), image)
	}
	return nil
}

// Info says what the inode has.
func (n *node) Info() imagefs.Info { return n.info }

// Map finds the data at an offset.
func (n *node) Map(off int64) (imagefs.Extent, error) {
	switch n.layout {
	case layoutPlain, layoutInline:
		return n.mapFlat(off)
	case layoutChunks:
		return n.mapChunk(off)
	}
	return imagefs.Extent{}, errCompressed
}

// mapFlat finds data that is in a row, but for its end.
func (n *node) mapFlat(off int64) (imagefs.Extent, error) {
	block := int64(1) << n.e.bits
	row := n.info.Size
	if n.layout == layoutInline {
		row = (n.info.Size - 1) &^ (block - 1) // all but the last block
	}
	if off < row {
		return imagefs.Extent{At: int64(n.data)<<n.e.bits + off, Len: row - off}, nil
	}
	// The end may not go on in the next block, as Linux has it.
	if n.behind&(block-1)+n.info.Size-row > block {
		return imagefs.Extent{}, n.e.damage("%d bytes at %d, across blocks", n.info.Size-row, n.behind)
	}
	return imagefs.Extent{At: n.behind + off - row, Len: n.info.Size - off}, nil
}

// mapChunk finds the chunk of an offset. Its address is in a table behind the
// inode.
func (n *node) mapChunk(off int64) (imagefs.Extent, error) {
	format := uint16(n.data)
	if format&^(chunkBits|chunkIndexes) != 0 {
		return imagefs.Extent{}, fmt.Errorf("%w: chunk format %#x", ErrUnsupported, format)
	}
	bits := n.e.bits + uint(format&chunkBits)
	unit := int64(4)
	if format&chunkIndexes != 0 {
		unit = 8
	}
	table := (n.behind + unit - 1) &^ (unit - 1)
	b, err := n.e.blocks.Bytes(table+(off>>bits)*unit, int(unit))
	if err != nil {
		return imagefs.Extent{}, fmt.Errorf("table of chunks: %w", err)
	}
	if unit == 8 && le.Uint16(b[2:]) != 0 {
		return imagefs.Extent{}, fmt.Errorf("%w: data on device %d", ErrUnsupported, le.Uint16(b[2:]))
	}
	block, within := le.Uint32(b[unit-4:]), off&(1<<bits-1)
	return imagefs.Extent{
		At:   int64(block)<<n.e.bits + within,
		Len:  1<<bits - within,
		Hole: block == noBlock,
	}, nil
}
