package squashfs

import "fmt"

// attrTable is where the extended attributes are: sets of names and values, and
// a lookup table of the sets.
type attrTable struct {
	sets  uint32
	list  int64  // of the blocks of the lookup table
	pairs region // names and values
}

// attrElsewhere marks a value that is a reference to where it is.
const attrElsewhere = 0x0100

// Attr is an extended attribute.
type Attr struct {
	Name  string // with its namespace, like "security.capability"
	Value []byte
}

// openAttrs finds the table of attributes. Of an image without any there is none.
func (f *FS) openAttrs() error {
	if f.super.attrTable == noTable {
		return nil
	}
	if f.super.attrTable > f.super.used-16 {
		return damage("its head is behind the image's end")
	}
	b := make([]byte, 16)
	if err := f.readFull(b, f.super.attrTable); err != nil {
		return err
	}
	c := &cursor{b: b}
	start := c.i64()
	f.attrs = attrTable{c.u32(), f.super.attrTable + 16, region{start, f.super.attrTable}}
	if start < superblockSize || start > f.super.attrTable {
		return damage("attributes at %d, their table at %d", start, f.super.attrTable)
	}
	return nil
}

// Xattrs reads the extended attributes, in the image's order.
func (s *Stat) Xattrs() ([]Attr, error) {
	if s.n.attrs == none {
		return nil, nil
	}
	list, err := s.n.f.attrSet(s.n.attrs)
	if err != nil {
		return nil, fmt.Errorf("attributes of inode %d: %w", s.n.number, err)
	}
	return list, nil
}

func (f *FS) attrSet(index uint32) ([]Attr, error) {
	if index >= f.attrs.sets {
		return nil, damage("set %d of %d", index, f.attrs.sets)
	}
	c, err := f.tableEntry(f.attrs.list, index, 16)
	if err != nil {
		return nil, err
	}
	at, count, size := ref(c.u64()), c.u32(), c.u32()
	// A pair has six bytes besides its name and value.
	if size > maxAttrs || int64(count)*6 > int64(size) {
		return nil, damage("%d attributes of %d bytes", count, size)
	}
	m, err := f.metaAt(f.attrs.pairs, at)
	if err != nil {
		return nil, err
	}
	var list []Attr
	total := 0
	for range count {
		a, err := f.attr(m)
		if err != nil {
			return nil, err
		}
		if total += len(a.Name) + len(a.Value); total > maxAttrs {
			return nil, damage("more than %d bytes of attributes", maxAttrs)
		}
		list = append(list, a)
	}
	return list, nil
}

// attr reads a name and its value.
func (f *FS) attr(m *metaCursor) (Attr, error) {
	kind, size := m.u16(), int(m.u16())
	if m.err == nil && (size == 0 || size > maxAttrName) {
		return Attr{}, damage("an attribute's name of %d bytes", size)
	}
	name := string(m.bytes(size))
	if m.err != nil {
		return Attr{}, m.err
	}
	space := kind &^ attrElsewhere
	if space > 2 {
		return Attr{}, fmt.Errorf("%w: namespace %d of attribute %q", ErrUnsupported, space, name)
	}
	name = [...]string{"user.", "trusted.", "security."}[space] + name
	if kind&attrElsewhere != 0 {
		other, err := f.elsewhere(m)
		if err != nil {
			return Attr{}, fmt.Errorf("attribute %q: %w", name, err)
		}
		m = other
	}
	value, err := attrValue(m)
	if err != nil {
		return Attr{}, fmt.Errorf("attribute %q: %w", name, err)
	}
	return Attr{name, value}, nil
}

// elsewhere follows a reference to a value, which is an ordinary one.
func (f *FS) elsewhere(m *metaCursor) (*metaCursor, error) {
	if size := m.u32(); m.err == nil && size != 8 {
		return nil, damage("a reference of %d bytes", size)
	}
	at := ref(m.u64())
	if m.err != nil {
		return nil, m.err
	}
	return f.metaAt(f.attrs.pairs, at)
}

func attrValue(m *metaCursor) ([]byte, error) {
	size := m.u32()
	if m.err == nil && size > maxAttrValue {
		return nil, damage("a value of %d bytes", size)
	}
	// A copy: the cursor's bytes are those of the cache.
	value := append([]byte{}, m.bytes(int(size))...)
	return value, m.err
}
