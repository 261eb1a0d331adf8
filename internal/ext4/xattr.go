package ext4

import (
	"fmt"

	"github.com/lockport/lockport/internal/imagefs"
)

const (
	attrMagic = 0xea020000
	attrEntry = 16       // bytes before an attribute's name
	maxValue  = 1 << 16  // Linux's own
	maxValues = 16 << 20 // bytes of all of one inode
)

// prefixes are what names begin with, by number. Lists of access rights have no
// more of a name.
var prefixes = [...]string{
	1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security.",
}

// The numbers of these lists, and that of the attribute with inline data.
const (
	kindAccess  = 2
	kindDefault = 3
	kindSystem  = 7
)

// attr is an attribute whose value has not been read.
type attr struct {
	kind  byte
	name  string
	at    int // of the value
	size  int
	inode uint32 // that the value is in, 0 for none
}

// Xattrs reads the attributes: those in the inode, and those in a block that
// inodes with the same ones share.
func (n *node) Xattrs() ([]imagefs.Attr, error) {
	area, list, err := n.ownAttrs()
	if err != nil {
		return nil, err
	}
	c := collector{e: n.e}
	if err := c.add(area, list); err != nil {
		return nil, err
	}
	if n.attrsAt == 0 {
		return c.all, nil
	}
	if area, err = n.e.block(n.attrsAt); err != nil {
		return nil, err
	}
	const head = 32
	if le.Uint32(area) != attrMagic {
		return nil, n.e.damage("block %d has none", n.attrsAt)
	}
	if list, err = n.e.attrs(area, head); err != nil {
		return nil, err
	}
	return c.all, c.add(area, list)
}

// ownAttrs returns the attributes in the inode, behind its fields, and the area
// in which they and their values are.
func (n *node) ownAttrs() (area []byte, list []attr, err error) {
	at := n.ownAttrsAt()
	if len(n.raw) == oldInodeSize || n.unsaid() || at > len(n.raw) || le.Uint32(n.raw[at-4:]) != attrMagic {
		return nil, nil, nil
	}
	area = n.raw[at:]
	list, err = n.e.attrs(area, 0)
	return area, list, err
}

// ownAttrsAt is where that area begins in the inode: behind a magic number.
func (n *node) ownAttrsAt() int { return oldInodeSize + n.extra() + 4 }

// attrs reads the list of attributes that begins at an offset of an area. The
// offsets of their values count from the area's start.
func (e *reader) attrs(area []byte, at int) ([]attr, error) {
	var list []attr
	for {
		if at+4 > len(area) {
			return nil, e.damage("a list of attributes without end")
		}
		b := area[at:]
		if le.Uint32(b) == 0 {
			return list, nil
		}
		name := attrEntry + int(b[0])
		if name > len(b) {
			return nil, e.damage("an attribute in %d bytes", len(b))
		}
		a := attr{b[1], string(b[attrEntry:name]), int(le.Uint16(b[2:])), int(le.Uint32(b[8:])), le.Uint32(b[4:])}
		if a.size > maxValue || a.inode == 0 && a.at+a.size > len(area) {
			return nil, e.damage("%d bytes at %d of attribute %q", a.size, a.at, a.name)
		}
		list = append(list, a)
		at += (name + 3) &^ 3
	}
}

// collector reads the values of an inode's attributes.
type collector struct {
	e    *reader
	all  []imagefs.Attr
	size int
}

func (c *collector) add(area []byte, list []attr) error {
	for _, a := range list {
		if int(a.kind) >= len(prefixes) || prefixes[a.kind] == "" {
			continue // Linux does not show these
		}
		if c.size += a.size; c.size > maxValues {
			return c.e.damage("more than %d bytes of attributes", maxValues)
		}
		name := prefixes[a.kind] + a.name
		value, err := c.e.value(area, a)
		if err != nil {
			return fmt.Errorf("attribute %q: %w", name, err)
		}
		c.all = append(c.all, imagefs.Attr{Name: name, Value: value})
	}
	return nil
}

// value returns a copy of a value, in the form that Linux gives it to programs.
func (e *reader) value(area []byte, a attr) (value []byte, err error) {
	if a.inode != 0 {
		value, err = e.outside(a)
	} else {
		value = append([]byte{}, area[a.at:a.at+a.size]...)
	}
	if err == nil && (a.kind == kindAccess || a.kind == kindDefault) {
		return e.accessList(value)
	}
	return value, err
}

// outside reads a value that has an inode of its own.
func (e *reader) outside(a attr) ([]byte, error) {
	n, err := e.readInode(uint64(a.inode))
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", a.inode, err)
	}
	if n.flags&flagOwnValue == 0 || n.info.Size != int64(a.size) {
		return nil, e.damage("inode %d of %d bytes has no value of %d", a.inode, n.info.Size, a.size)
	}
	return e.blocks.Content(n, maxValue)
}

// accessList brings a list of access rights from ext4's form, version 1, where
// only entries of a named user or group have their number, into the one that
// programs see, version 2.
func (e *reader) accessList(b []byte) ([]byte, error) {
	const user, group = 0x02, 0x08
	if len(b) < 4 || le.Uint32(b) != 1 {
		return nil, e.damage("no list of access rights, %.8x", b)
	}
	out := le.AppendUint32(nil, 2)
	for b = b[4:]; len(b) >= 4; {
		tag, number := le.Uint16(b), uint32(1<<32-1)
		out, b = append(out, b[:4]...), b[4:]
		if tag == user || tag == group {
			if len(b) < 4 {
				break
			}
			number, b = le.Uint32(b), b[4:]
		}
		out = le.AppendUint32(out, number)
	}
	if len(b) > 0 {
		return nil, e.damage("a list of access rights that is cut")
	}
	return out, nil
}

// findInline finds the data behind the first 60 bytes of an inode that has all
// of it inside: they are an attribute's value.
func (n *node) findInline() error {
	_, list, err := n.ownAttrs()
	if err != nil {
		return err
	}
	for _, a := range list {
		if a.kind == kindSystem && a.name == "data" && a.inode == 0 {
			n.inlineAt, n.inlined = n.at+int64(n.ownAttrsAt()+a.at), int64(a.size)
			if n.info.Size > pointersSize+n.inlined {
				return n.e.damage("%d bytes in an inode with room for %d", n.info.Size, pointersSize+n.inlined)
			}
			return nil
		}
	}
	return n.e.damage("its data is not in it")
}

// mapInline finds data that is in the inode, in two parts.
func (n *node) mapInline(off int64) (imagefs.Extent, error) {
	if off < pointersSize {
		return imagefs.Extent{At: n.at + pointersAt + off, Len: pointersSize - off}, nil
	}
	off -= pointersSize
	return imagefs.Extent{At: n.inlineAt + off, Len: n.inlined - off}, nil
}
