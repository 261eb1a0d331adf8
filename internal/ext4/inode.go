package ext4

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/lockport/lockport/internal/imagefs"
)

// Flags of an inode.
const (
	flagExtents    = 0x80000
	flagOwnValue   = 0x200000 // its content is an attribute's value
	flagInline     = 0x10000000
	flagsForbidden = 0x4 | 0x800 // compressed, encrypted
)

const (
	oldInodeSize = 128 // bytes that every inode has
	pointersAt   = 0x28
	pointersSize = 60
)

// node is an inode of any kind.
type node struct {
	e        *reader
	info     imagefs.Info
	at       int64  // in the image
	raw      []byte // all of the inode; the cache's
	flags    uint32
	attrsAt  uint64 // block of attributes, 0 for none
	fast     bool   // a link whose target is in the inode
	inlineAt int64  // of inline data behind the inode's first 60 bytes
	inlined  int64  // bytes there
}

func (n *node) pointers() []byte { return n.raw[pointersAt : pointersAt+pointersSize] }

// Node reads the inode of a number.
func (e *reader) Node(number uint64) (imagefs.Node, error) {
	n, err := e.readInode(number)
	if err == nil && n.flags&flagOwnValue != 0 {
		err = e.damage("it belongs to an attribute")
	}
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	return n, nil
}

// readInode reads an inode that is in a directory or belongs to an attribute.
func (e *reader) readInode(number uint64) (*node, error) {
	if number > uint64(e.super.inodes) || number < uint64(e.super.firstInode) && number != rootInode {
		return nil, e.damage("of %d, the first being %d", e.super.inodes, e.super.firstInode)
	}
	index := uint32(number - 1)
	desc, err := e.blocks.Bytes(e.super.descriptorAt(index/e.super.groupInodes), int(e.super.descSize))
	if err != nil {
		return nil, fmt.Errorf("descriptor of its group: %w", err)
	}
	table := uint64(le.Uint32(desc[0x08:]))
	if e.super.descSize >= 64 {
		table |= uint64(le.Uint32(desc[0x28:])) << 32
	}
	if table <= e.super.firstBlock || table >= e.super.blocks {
		return nil, e.damage("its table at block %d of %d", table, e.super.blocks)
	}
	n := &node{e: e}
	n.at = int64(table)<<e.super.blockBits + int64(index%e.super.groupInodes)*e.super.inodeSize
	if n.raw, err = e.blocks.Bytes(n.at, int(e.super.inodeSize)); err != nil {
		return nil, err
	}
	n.parse(number)
	return n, n.check()
}

func (n *node) parse(number uint64) {
	b := n.raw
	i := &n.info
	i.Inode, i.Mode, i.Links = number, imagefs.Mode(le.Uint16(b)), uint32(le.Uint16(b[0x1a:]))
	i.UID = uint32(le.Uint16(b[0x02:])) | uint32(le.Uint16(b[0x78:]))<<16
	i.GID = uint32(le.Uint16(b[0x18:])) | uint32(le.Uint16(b[0x7a:]))<<16
	i.Size = int64(le.Uint32(b[0x04:]))
	if i.Mode.IsRegular() || i.Mode.IsDir() && n.e.super.incompat&incompatLargeDir != 0 {
		i.Size |= int64(le.Uint32(b[0x6c:])) << 32
	}
	n.flags = le.Uint32(b[0x20:])
	n.attrsAt = uint64(le.Uint32(b[0x68:])) | uint64(le.Uint16(b[0x76:]))<<32
	i.ModTime = n.modTime()
	if i.Mode&fs.ModeDevice != 0 {
		i.Major, i.Minor = device(le.Uint32(b[pointersAt:]), le.Uint32(b[pointersAt+4:]))
	}
	n.fast = i.Mode.Type() == fs.ModeSymlink && n.flags&flagInline == 0 && n.ownBlocks() == 0
}

// ownBlocks is how much room the content takes, in sectors: all that the inode
// has but the block of attributes.
func (n *node) ownBlocks() int64 {
	sectors := int64(le.Uint32(n.raw[0x1c:])) | int64(le.Uint16(n.raw[0x74:]))<<32
	if n.attrsAt != 0 {
		sectors -= 1 << n.e.super.clusterBits >> 9
	}
	return sectors
}

// device splits a device number, of which there is an old form with 8 bits for
// each part, and a new one.
func device(old, packed uint32) (major, minor uint32) {
	if old != 0 {
		return old >> 8 & 0xff, old & 0xff
	}
	return imagefs.Device(packed)
}

// modTime is the time of modification: seconds before or after 1970 in 32 bits,
// and, if the inode is long enough, two more bits of these and nanoseconds.
func (n *node) modTime() time.Time {
	seconds := int64(int32(le.Uint32(n.raw[0x10:])))
	if n.extra() < 0x8c-oldInodeSize {
		return time.Unix(seconds, 0)
	}
	more := le.Uint32(n.raw[0x88:])
	return time.Unix(seconds+int64(more&3)<<32, int64(more>>2))
}

// extra is how many bytes of fields are behind the first 128. Longer inodes
// that do not say so have the first of these fields, and no attributes.
func (n *node) extra() int {
	if len(n.raw) == oldInodeSize {
		return 0
	}
	if n.unsaid() {
		return 32
	}
	return int(le.Uint16(n.raw[oldInodeSize:]))
}

func (n *node) unsaid() bool { return le.Uint16(n.raw[oldInodeSize:]) == 0 }

// check looks at what the inode says, so far as one can tell from itself, and
// finds its inline data.
func (n *node) check() error {
	switch {
	case n.info.Mode&fs.ModeIrregular != 0:
		return n.e.damage("it is of no type, or deleted")
	case n.flags&flagsForbidden != 0:
		return fmt.Errorf("%w: compressed or encrypted (flags %#x)", ErrUnsupported, n.flags)
	case n.info.Size < 0 || n.info.Size>>n.e.super.blockBits > 1<<32:
		return n.e.damage("%d bytes", uint64(n.info.Size))
	case n.extra()%4 != 0 || oldInodeSize+n.extra() > len(n.raw):
		return n.e.damage("%d bytes of further fields", n.extra())
	case n.fast && n.info.Size >= pointersSize:
		return n.e.damage("a target of %d bytes within the inode", n.info.Size)
	}
	if n.flags&flagInline == 0 {
		return nil
	}
	return n.findInline()
}

// Info says what the inode has.
func (n *node) Info() imagefs.Info { return n.info }
