package squashfs

import (
	"cmp"
	"slices"
	"strings"
)

// attrWriter gathers the sets of attributes that inodes have. Inodes with equal
// ones share a set.
type attrWriter struct {
	sets  [][]Attr
	index map[string]uint32
}

// attrSpaces are the namespaces, by the format's numbers.
var attrSpaces = [...]string{"user.", "trusted.", "security."}

func (w *attrWriter) empty() bool { return len(w.sets) == 0 }

// add notes a set and returns its index.
func (w *attrWriter) add(list []Attr) (uint32, error) {
	if len(list) == 0 {
		return none, nil
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Attr) int { return cmp.Compare(a.Name, b.Name) })
	var key []byte
	for i, a := range list {
		if i > 0 && list[i-1].Name == a.Name {
			return 0, unsuitable("attribute %q is there twice", a.Name)
		}
		if err := checkAttr(a); err != nil {
			return 0, err
		}
		key = appendAttr(key, a)
	}
	if len(key) > maxAttrs {
		return 0, unsuitable("%d bytes of attributes", len(key))
	}
	if i, ok := w.index[string(key)]; ok {
		return i, nil
	}
	if uint64(len(w.sets)) >= none {
		return 0, unsuitable("more than %d sets of attributes", len(w.sets))
	}
	if w.index == nil {
		w.index = map[string]uint32{}
	}
	i := uint32(len(w.sets))
	w.sets, w.index[string(key)] = append(w.sets, list), i
	return i, nil
}

func checkAttr(a Attr) error {
	space, short := splitAttr(a.Name)
	switch {
	case space < 0 || short == "" || len(a.Name) > maxAttrName || strings.Contains(short, "\x00"):
		return unsuitable("the attribute %q", a.Name[:min(len(a.Name), 300)])
	case len(a.Value) > maxAttrValue:
		return unsuitable("%d bytes in attribute %q", len(a.Value), a.Name)
	}
	return nil
}

func splitAttr(name string) (space int, short string) {
	for i, s := range attrSpaces {
		if strings.HasPrefix(name, s) {
			return i, name[len(s):]
		}
	}
	return -1, ""
}

// appendAttr appends a pair with its value.
func appendAttr(b []byte, a Attr) []byte {
	b = appendAttrName(b, a.Name, 0)
	b = le.AppendUint32(b, uint32(len(a.Value)))
	return append(b, a.Value...)
}

func appendAttrName(b []byte, name string, flag uint16) []byte {
	space, short := splitAttr(name)
	b = le.AppendUint16(b, uint16(space)|flag)
	b = le.AppendUint16(b, uint16(len(short)))
	return append(b, short...)
}

// refSize is the size of a reference to a value that is elsewhere.
const refSize = 8

// writeAttrs writes the pairs and the lookup table of the sets. A value that was
// there before is only referred to.
func (b *builder) writeAttrs(c encoder) (int64, error) {
	if b.attrs.empty() {
		return noTable, nil
	}
	m := metaWriter{c: c}
	values := map[string]ref{}
	var table []byte
	for _, set := range b.attrs.sets {
		table = le.AppendUint64(table, uint64(m.pos()))
		size := 0
		for _, a := range set {
			at, ok := values[string(a.Value)]
			if ok {
				pair := appendAttrName(nil, a.Name, attrElsewhere)
				pair = le.AppendUint32(pair, refSize)
				m.write(le.AppendUint64(pair, uint64(at)))
			} else {
				m.write(appendAttrName(nil, a.Name, 0))
				if len(a.Value) > refSize {
					values[string(a.Value)] = m.pos()
				}
				m.write(le.AppendUint32(nil, uint32(len(a.Value))))
				m.write(a.Value)
			}
			size += len(appendAttrName(nil, a.Name, 0)) + 4 + len(a.Value)
		}
		table = le.AppendUint32(table, uint32(len(set)))
		table = le.AppendUint32(table, uint32(size))
	}
	start, err := m.finish(b.out)
	if err != nil {
		return 0, err
	}
	head := le.AppendUint64(nil, uint64(start))
	head = le.AppendUint32(head, uint32(len(b.attrs.sets)))
	return b.writeLookup(c, table, le.AppendUint32(head, 0))
}
