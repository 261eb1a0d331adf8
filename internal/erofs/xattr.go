package erofs

import (
	"fmt"

	"github.com/lockport/lockport/internal/imagefs"
)

const (
	xattrHead   = 12   // bytes before an inode's attributes
	xattrEntry  = 4    // bytes before an attribute's name
	xattrPrefix = 0x80 // the name begins with one of the image's own prefixes
)

// prefixes are what names begin with, by number. Lists of access rights have no
// more of a name.
var prefixes = [...]string{
	1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security.",
}

// Xattrs reads the attributes: first those behind the inode, then those that it
// shares with others, as Linux does.
func (n *node) Xattrs() ([]imagefs.Attr, error) {
	size := n.behind - n.attrs
	if size == 0 {
		return nil, nil
	}
	// At most 256 KiB, as the size is in 16 bits.
	b, err := n.e.blocks.Bytes(n.attrs, int(size))
	if err != nil {
		return nil, err
	}
	shared := int64(b[4])
	if xattrHead+shared*4 > size {
		return nil, n.e.damage("%d shared ones in %d bytes", shared, size)
	}
	var list []imagefs.Attr
	for own := b[xattrHead+shared*4:]; len(own) > 0; {
		a, used, err := n.e.attr(own)
		if err != nil {
			return nil, err
		}
		own = own[used:]
		list = appendAttr(list, a)
	}
	for i := range shared {
		a, err := n.e.sharedAttr(le.Uint32(b[xattrHead+i*4:]))
		if err != nil {
			return nil, err
		}
		list = appendAttr(list, a)
	}
	return list, nil
}

// appendAttr leaves out what has no name: Linux does not show attributes of
// namespaces that it does not know.
func appendAttr(list []imagefs.Attr, a imagefs.Attr) []imagefs.Attr {
	if a.Name == "" {
		return list
	}
	return append(list, a)
}

func (e *reader) sharedAttr(number uint32) (imagefs.Attr, error) {
	at := e.sharedAt + int64(number)*4
	head, err := e.blocks.Bytes(at, xattrEntry)
	if err != nil {
		return imagefs.Attr{}, err
	}
	b, err := e.blocks.Bytes(at, xattrEntry+int(head[0])+int(le.Uint16(head[2:])))
	if err != nil {
		return imagefs.Attr{}, err
	}
	a, _, err := e.attr(b)
	return a, err
}

// attr reads the attribute at the start of b, and tells how much of b it takes.
// One of an unknown namespace gets no name.
func (e *reader) attr(b []byte) (a imagefs.Attr, used int, err error) {
	if len(b) < xattrEntry {
		return a, 0, e.damage("%d bytes left", len(b))
	}
	kind, name, end := b[1], xattrEntry+int(b[0]), xattrEntry+int(b[0])+int(le.Uint16(b[2:]))
	switch {
	case end > len(b):
		return a, 0, e.damage("one of %d bytes in %d", end, len(b))
	case kind&xattrPrefix != 0:
		return a, 0, fmt.Errorf("%w: prefixes of attributes' names", ErrUnsupported)
	}
	if int(kind) < len(prefixes) && prefixes[kind] != "" {
		a.Name = prefixes[kind] + string(b[xattrEntry:name])
		a.Value = append([]byte{}, b[name:end]...) // b is the cache's
	}
	return a, min((end+3)&^3, len(b)), nil
}
