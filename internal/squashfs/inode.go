package squashfs

import (
	"fmt"
	"io/fs"
	"strings"
)

// kind is an inode's type, in the numbering of the basic ones. The extended
// ones, with more fields, are 7 more.
type kind uint16

const (
	kindDir kind = iota + 1
	kindFile
	kindLink
	kindBlock
	kindChar
	kindFIFO
	kindSocket

	extended = 7
)

const none = 0xffffffff // no fragment, no attributes

type kindWords struct {
	name string
	mode fs.FileMode
}

func (k kind) words() kindWords {
	if k < kindDir || k > kindSocket {
		return kindWords{fmt.Sprintf("thing of type %d", uint16(k)), fs.ModeIrregular}
	}
	return [...]kindWords{
		{"directory", fs.ModeDir}, {"file", 0}, {"symbolic link", fs.ModeSymlink}, {"block device", fs.ModeDevice},
		{"character device", fs.ModeDevice | fs.ModeCharDevice}, {"fifo", fs.ModeNamedPipe}, {"socket", fs.ModeSocket},
	}[k-1]
}

func (k kind) String() string { return k.words().name }

// inode is a file of any kind.
type inode struct {
	f        *FS
	ref      ref
	kind     kind
	perm     uint16
	uid, gid uint32
	modified uint32
	number   uint32
	links    uint32
	attrs    uint32 // index of its attributes, or none
	size     int64  // of a file or link in bytes, of a directory in its table
	target   string // of a link
	device   uint32

	start    ref   // of a directory's listing
	index    ref   // of a directory's index
	indexes  int   // entries of that
	data     int64 // position of a file's blocks
	fragment uint32
	offset   uint32 // in the fragment
	words    ref    // of the list of a file's blocks
}

// readInode reads the inode at a place in the table of inodes.
func (f *FS) readInode(r ref) (*inode, error) {
	n, err := f.parseInode(r)
	if err != nil {
		return nil, fmt.Errorf("inode at %d:%d: %w", r.block(), r.offset(), err)
	}
	return n, nil
}

func (f *FS) parseInode(r ref) (*inode, error) {
	m, err := f.metaAt(f.inodeOf, r)
	if err != nil {
		return nil, err
	}
	n := &inode{f: f, ref: r, kind: kind(m.u16()), perm: m.u16() & 0o7777, attrs: none, fragment: none}
	more := n.kind > extended
	if more {
		n.kind -= extended
	}
	uid, gid := m.u16(), m.u16()
	n.modified, n.number = m.u32(), m.u32()
	if m.err != nil {
		return nil, m.err
	}
	if err := n.check(uid, gid); err != nil {
		return nil, err
	}
	n.parseRest(m, more)
	if m.err != nil {
		return nil, fmt.Errorf("%s %d: %w", n.kind, n.number, m.err)
	}
	return n, nil
}

func (n *inode) check(uid, gid uint16) (err error) {
	if n.kind < kindDir || n.kind > kindSocket {
		return damage("a %s", n.kind)
	}
	if n.number == 0 || n.number > n.f.super.inodes {
		return damage("number %d of %d", n.number, n.f.super.inodes)
	}
	if n.uid, err = n.f.owner(uid); err != nil {
		return err
	}
	n.gid, err = n.f.owner(gid)
	return err
}

func (n *inode) parseRest(m *metaCursor, more bool) {
	switch {
	case n.kind == kindDir && more:
		n.parseLongDir(m)
	case n.kind == kindDir:
		n.parseDir(m)
	case n.kind == kindFile:
		n.parseFile(m, more)
	case n.kind == kindLink:
		n.parseLink(m, more)
	default:
		n.parseSpecial(m, more)
	}
}

func (n *inode) parseDir(m *metaCursor) {
	block := m.u32()
	n.links, n.size = m.u32(), int64(m.u16())
	n.start = ref(block)<<16 | ref(m.u16())
	m.u32() // the parent's number; trusted for nothing
	n.checkListing(m)
}

func (n *inode) parseLongDir(m *metaCursor) {
	n.links, n.size = m.u32(), int64(m.u32())
	block := m.u32()
	m.u32() // the parent's number
	n.indexes = int(m.u16())
	n.start = ref(block)<<16 | ref(m.u16())
	n.attrs = m.u32()
	n.index = m.pos()
	n.checkListing(m)
}

func (n *inode) checkListing(m *metaCursor) {
	if m.err == nil && n.size > maxListing {
		m.err = damage("a listing of %d bytes", n.size)
	}
}

func (n *inode) parseFile(m *metaCursor, more bool) {
	n.links = 1
	if more {
		n.data, n.size = m.i64(), m.i64()
		m.u64() // bytes in holes
		n.links = m.u32()
	} else {
		n.data = int64(m.u32())
	}
	n.fragment, n.offset = m.u32(), m.u32()
	if more {
		n.attrs = m.u32()
	} else {
		n.size = int64(m.u32())
	}
	n.words = m.pos()
	if m.err == nil {
		m.err = n.checkFile()
	}
}

func (n *inode) checkFile() error {
	switch {
	case n.size < 0 || n.blocks() > maxBlocks:
		return damage("%d bytes", uint64(n.size))
	case n.data < 0 || n.data > n.f.super.used:
		return damage("data at %d", n.data)
	case n.fragment != none && int64(n.offset)+n.tail() > int64(n.f.super.blockSize):
		return damage("the end at %d of a fragment", n.offset)
	}
	// Each block has four bytes in the table of inodes, which is only so long.
	room := (n.f.inodeOf.end - n.f.inodeOf.start) / 3 * metaSize
	if n.blocks()*4 > room {
		return damage("%d blocks", n.blocks())
	}
	return nil
}

func (n *inode) parseLink(m *metaCursor, more bool) {
	n.links = m.u32()
	size := m.u32()
	if m.err == nil && (size == 0 || size > maxTarget) {
		m.err = damage("a target of %d bytes", size)
	}
	n.target, n.size = string(m.bytes(int(size))), int64(size)
	if m.err == nil && strings.Contains(n.target, "\x00") {
		m.err = damage("a target with a null")
	}
	if more {
		n.attrs = m.u32()
	}
}

// parseSpecial reads what is left: devices, and things without content.
func (n *inode) parseSpecial(m *metaCursor, more bool) {
	n.links = m.u32()
	if n.kind == kindBlock || n.kind == kindChar {
		n.device = m.u32()
	}
	if more {
		n.attrs = m.u32()
	}
}
