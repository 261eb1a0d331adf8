package squashfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

const (
	superblockSize = 96
	magic          = 0x73717368 // "hsqs" on disk
	noTable        = -1         // all bits set: the image does without
)

// flagOptions says that the compressor's options follow the superblock. The
// other flags only say how the image was made.
const flagOptions = 0x0400

// superblock is the start of the image. Positions are in the image.
type superblock struct {
	inodes         uint32
	modified       uint32
	blockSize      int
	fragments      uint32
	compressor     uint16
	flags          uint16
	ids            int
	root           ref
	used           int64 // bytes of the image; padding may follow
	idTable        int64
	attrTable      int64 // or noTable, as the next ones
	inodeTable     int64
	directoryTable int64
	fragmentTable  int64
	exportTable    int64
}

// readSuperblock reads and checks the superblock of an image of this size.
func readSuperblock(r io.ReaderAt, size int64) (superblock, error) {
	if size < superblockSize {
		return superblock{}, fmt.Errorf("%w: %d bytes", ErrNotSquashfs, size)
	}
	b := make([]byte, superblockSize)
	if err := readFull(r, b, 0); err != nil {
		return superblock{}, err
	}
	c := &cursor{b: b}
	if m := c.u32(); m != magic {
		return superblock{}, fmt.Errorf("%w: it starts with %#08x", ErrNotSquashfs, m)
	}
	s := superblock{inodes: c.u32(), modified: c.u32()}
	blockSize := c.u32()
	s.fragments, s.compressor = c.u32(), c.u16()
	blockLog := c.u16()
	s.flags, s.ids = c.u16(), int(c.u16())
	if major, minor := c.u16(), c.u16(); major != 4 || minor != 0 {
		return superblock{}, fmt.Errorf("%w: version %d.%d of the format", ErrUnsupported, major, minor)
	}
	s.root, s.used = ref(c.u64()), c.i64()
	s.idTable, s.attrTable, s.inodeTable = c.i64(), c.i64(), c.i64()
	s.directoryTable, s.fragmentTable, s.exportTable = c.i64(), c.i64(), c.i64()
	if bits.OnesCount32(blockSize) != 1 || blockSize < 4<<10 || blockSize > 1<<20 || blockSize>>blockLog != 1 {
		return superblock{}, damage("blocks of %d bytes (%d bits)", blockSize, blockLog)
	}
	s.blockSize = int(blockSize)
	return s, s.check(size)
}

// check compares the positions with the image's size and each other.
func (s *superblock) check(size int64) error {
	if s.used < superblockSize || s.used > size {
		return damage("it has %d bytes, the file %d", s.used, size)
	}
	for _, t := range s.tables() {
		if t.at == noTable && t.optional {
			continue
		}
		if t.at < superblockSize || t.at >= s.used {
			return damage("table of %s at %d in an image of %d bytes", t.name, t.at, s.used)
		}
	}
	if s.inodeTable >= s.directoryTable {
		return damage("table of inodes at %d, of directories at %d", s.inodeTable, s.directoryTable)
	}
	if s.inodes == 0 || s.ids == 0 {
		return damage("%d inodes, %d owners", s.inodes, s.ids)
	}
	return nil
}

type table struct {
	name     string
	at       int64
	optional bool
}

func (s *superblock) tables() []table {
	return []table{
		{"inodes", s.inodeTable, false},
		{"directories", s.directoryTable, false},
		{"fragments", s.fragmentTable, true},
		{"exports", s.exportTable, true},
		{"owners", s.idTable, false},
		{"attributes", s.attrTable, true},
	}
}

// after is where the next table starts behind this position, or the image ends.
func (s *superblock) after(at int64) int64 {
	end := s.used
	for _, t := range s.tables() {
		if t.at > at {
			end = min(end, t.at)
		}
	}
	return end
}

// checkOptions looks at the options of the compressor. They only matter to
// writers, but LZ4's name the version of its format.
func (f *FS) checkOptions() error {
	if f.super.flags&flagOptions == 0 {
		return nil
	}
	b := make([]byte, 2)
	if err := f.readFull(b, superblockSize); err != nil {
		return err
	}
	word := binary.LittleEndian.Uint16(b)
	n := int64(word &^ metaPlain)
	if word&metaPlain == 0 || n > 64 || superblockSize+2+n > f.super.used {
		return damage("a block of %d bytes", n)
	}
	if f.super.compressor != compLZ4 {
		return nil
	}
	b = make([]byte, n)
	if err := f.readFull(b, superblockSize+2); err != nil {
		return err
	}
	c := &cursor{b: b}
	if version := c.u32(); c.err == nil && version != 1 {
		return fmt.Errorf("%w: lz4 format %d", ErrUnsupported, version)
	}
	return c.err
}
