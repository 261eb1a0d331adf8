package ext4

import (
	"fmt"
	"io"
	"math/bits"
)

const (
	superblockAt   = 1024
	superblockSize = 1024
	magic          = 0xef53
)

// Features that the image has (feature_compat, feature_incompat and
// feature_ro_compat), as far as they matter here.
const (
	compatSparse2 = 0x200

	incompatFileType   = 0x2
	incompatRecover    = 0x4
	incompatJournal    = 0x8
	incompatMetaGroups = 0x10
	incompatExtents    = 0x40
	incompat64Bit      = 0x80
	incompatLargeDir   = 0x4000
	incompatKnown      = incompatFileType | incompatMetaGroups | incompatExtents | incompat64Bit |
		0x100 | // writes by several hosts are detected
		0x200 | // groups share their place for tables
		0x400 | // values of attributes in inodes of their own
		0x2000 | // seed of checksums
		0x8000 | // small files and directories within the inode
		incompatLargeDir

	readOnlySparse = 0x1
)

// refused names features that make an image unreadable to us.
var refused = []struct {
	bit  uint32
	name string
}{
	{incompatRecover, "it was not unmounted, its journal needs recovery"},
	{incompatJournal, "a journal of another image"},
	{0x1, "compression"},
	{0x1000, "data in directories"},
	{0x10000, "encryption"},
	{0x20000, "directories without case (casefold)"},
}

// superblock is what counts of the image's head.
type superblock struct {
	inodes         uint32
	firstInode     uint32 // that is not reserved
	blocks         uint64
	firstBlock     uint64 // that a group has
	blockBits      uint
	clusterBits    uint
	groupBlocks    uint32
	groupInodes    uint32
	inodeSize      int64
	descSize       int64
	firstMetaGroup uint32
	compat         uint32
	incompat       uint32
	readOnly       uint32
	backups        [2]uint32 // groups with a copy, for compatSparse2
}

func (s *superblock) blockSize() int64 { return 1 << s.blockBits }

// readSuperblock reads and checks the superblock of an image of this size.
func readSuperblock(r io.ReaderAt, size int64) (s superblock, err error) {
	if size < superblockAt+superblockSize {
		return s, fmt.Errorf("%w: %d bytes", ErrNotExt4, size)
	}
	b := make([]byte, superblockSize)
	if n, err := r.ReadAt(b, superblockAt); n < len(b) {
		return s, err
	}
	if m := le.Uint16(b[0x38:]); m != magic {
		return s, fmt.Errorf("%w: it has %#04x for a magic number", ErrNotExt4, m)
	}
	if err := s.parse(b); err != nil {
		return s, err
	}
	return s, s.check(size)
}

// parse takes the fields, and refuses what they say that can't be read.
func (s *superblock) parse(b []byte) error {
	s.inodes, s.firstInode, s.inodeSize, s.descSize = le.Uint32(b), 11, 128, 32
	s.blocks, s.firstBlock = uint64(le.Uint32(b[0x04:])), uint64(le.Uint32(b[0x14:]))
	s.groupBlocks, s.groupInodes = le.Uint32(b[0x20:]), le.Uint32(b[0x28:])
	logBlock, logCluster := le.Uint32(b[0x18:]), le.Uint32(b[0x1c:])
	if logBlock > 6 || logCluster > 24 {
		return damage("blocks of 2^%d KiB in clusters of 2^%d", logBlock, logCluster)
	}
	s.blockBits, s.clusterBits = uint(10+logBlock), uint(10+logCluster)
	if le.Uint32(b[0x4c:]) == 0 { // the first revision had fixed values
		return nil
	}
	s.firstInode, s.inodeSize = le.Uint32(b[0x54:]), int64(le.Uint16(b[0x58:]))
	s.compat, s.incompat, s.readOnly = le.Uint32(b[0x5c:]), le.Uint32(b[0x60:]), le.Uint32(b[0x64:])
	s.backups = [2]uint32{le.Uint32(b[0x24c:]), le.Uint32(b[0x250:])}
	if s.incompat&incompat64Bit != 0 {
		s.blocks |= uint64(le.Uint32(b[0x150:])) << 32
		s.descSize = int64(le.Uint16(b[0xfe:]))
	}
	if s.incompat&incompatMetaGroups != 0 {
		s.firstMetaGroup = le.Uint32(b[0x104:])
	}
	return s.refuse()
}

func (s *superblock) refuse() error {
	for _, r := range refused {
		if s.incompat&r.bit != 0 {
			return fmt.Errorf("%w: %s", ErrUnsupported, r.name)
		}
	}
	if more := s.incompat &^ incompatKnown; more != 0 {
		return fmt.Errorf("%w: features %#x", ErrUnsupported, more)
	}
	return nil
}

// check compares the fields with the image's size and each other.
func (s *superblock) check(size int64) error {
	block := s.blockSize()
	switch {
	case s.blocks > uint64(size)>>s.blockBits:
		return damage("it has %d blocks of %d bytes, the file %d bytes", s.blocks, block, size)
	case s.firstBlock >= s.blocks || s.firstBlock > 1:
		return damage("the first of %d blocks is %d", s.blocks, s.firstBlock)
	case s.inodeSize < 128 || s.inodeSize > block || bits.OnesCount64(uint64(s.inodeSize)) != 1:
		return damage("inodes of %d bytes", s.inodeSize)
	case s.descSize < 32 || s.descSize > block || bits.OnesCount64(uint64(s.descSize)) != 1:
		return damage("group descriptors of %d bytes", s.descSize)
	case s.incompat&incompat64Bit != 0 && s.descSize < 64:
		return damage("group descriptors of %d bytes, and addresses of 64 bits", s.descSize)
	case s.groupBlocks == 0 || s.groupInodes == 0 || int64(s.groupInodes) > block*8:
		return damage("groups of %d blocks and %d inodes", s.groupBlocks, s.groupInodes)
	case s.inodes < rootInode || uint64(s.inodes-1)/uint64(s.groupInodes) > (s.blocks-s.firstBlock-1)/uint64(s.groupBlocks):
		return damage("%d inodes in groups of %d", s.inodes, s.groupInodes)
	}
	return nil
}

// descriptorAt is where the descriptor of a group is. They are in a row behind
// the superblock, or those of each run of groups, that fill a block, in the first
// group of these.
func (s *superblock) descriptorAt(group uint32) int64 {
	each := uint32(s.blockSize() / s.descSize)
	run := group / each
	within := int64(group%each) * s.descSize
	super := uint64(superblockAt >> s.blockBits) // block of the superblock
	if s.incompat&incompatMetaGroups == 0 || run < s.firstMetaGroup {
		return int64(super+1+uint64(run))<<s.blockBits + within
	}
	first := run * each // fits, as it is at most group
	block := s.firstBlock + uint64(first)*uint64(s.groupBlocks)
	if s.hasSuperblock(first) {
		block++
	}
	if s.blockBits == 10 && run == 0 && s.firstBlock == 0 {
		block++ // the superblock is the second block
	}
	return int64(block)<<s.blockBits + within
}

// hasSuperblock tells whether a group begins with a copy of the superblock.
func (s *superblock) hasSuperblock(group uint32) bool {
	switch {
	case group == 0:
		return true
	case s.compat&compatSparse2 != 0:
		return group == s.backups[0] || group == s.backups[1]
	case group == 1 || s.readOnly&readOnlySparse == 0:
		return true
	}
	return powerOf(3, group) || powerOf(5, group) || powerOf(7, group)
}

func powerOf(base, n uint32) bool {
	for n%base == 0 {
		n /= base
	}
	return n == 1
}
