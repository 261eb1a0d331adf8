package erofs

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/lockport/lockport/internal/squashfs"
)

// Bounds of the format on attributes.
const (
	maxAttrName  = 255 // bytes behind the prefix
	maxAttrValue = math.MaxUint16
	maxAttrs     = xattrHead + 4*(math.MaxUint16-1) // bytes of one inode
	maxShared    = math.MaxUint8                    // of one inode
)

// sharedAttrs are the attributes of all inodes, and of these the ones that are
// stored once, in an area of their own.
type sharedAttrs struct {
	counts map[string]*sharedAttr // by their bytes
	order  []string               // in which they were met
	area   []byte
	at     int64 // of the area in the image, in bytes
}

type sharedAttr struct {
	count  int
	chosen bool
	offset int64 // in the area
}

// add notes the attributes of an inode and returns them sorted.
func (s *sharedAttrs) add(list []squashfs.Attr) ([]squashfs.Attr, error) {
	if len(list) == 0 {
		return nil, nil
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b squashfs.Attr) int { return cmp.Compare(a.Name, b.Name) })
	size := xattrHead
	for i, a := range list {
		if i > 0 && list[i-1].Name == a.Name {
			return nil, unsuitable("attribute %q is there twice", a.Name)
		}
		if err := checkAttr(a); err != nil {
			return nil, err
		}
		size += len(s.note(a))
	}
	if size > maxAttrs {
		return nil, unsuitable("%d bytes of attributes", size)
	}
	return list, nil
}

func checkAttr(a squashfs.Attr) error {
	kind, short := splitAttr(a.Name)
	list := kind != 0 && strings.HasPrefix(prefixes[kind], "system.")
	switch {
	case kind == 0 || list != (short == "") || len(short) > maxAttrName || strings.Contains(short, "\x00"):
		return unsuitable("the attribute %q", a.Name[:min(len(a.Name), 300)])
	case len(a.Value) > maxAttrValue:
		return unsuitable("%d bytes in attribute %q", len(a.Value), a.Name)
	}
	return nil
}

// splitAttr returns the number of a name's prefix, or 0, and what is behind it.
func splitAttr(name string) (kind int, short string) {
	for i, p := range prefixes {
		if p != "" && strings.HasPrefix(name, p) {
			return i, name[len(p):]
		}
	}
	return 0, ""
}

// attrBytes is an attribute as it is in an image.
func attrBytes(a squashfs.Attr) []byte {
	kind, short := splitAttr(a.Name)
	b := make([]byte, 0, xattrEntry+len(short)+len(a.Value)+3)
	b = append(b, byte(len(short)), byte(kind))
	b = le.AppendUint16(b, uint16(len(a.Value)))
	b = append(append(b, short...), a.Value...)
	return append(b, make([]byte, -len(b)&3)...)
}

// note counts an attribute and returns its bytes.
func (s *sharedAttrs) note(a squashfs.Attr) []byte {
	b := attrBytes(a)
	known := s.counts[string(b)]
	if known == nil {
		if s.counts == nil {
			s.counts = map[string]*sharedAttr{}
		}
		known = &sharedAttr{}
		s.counts[string(b)] = known
		s.order = append(s.order, string(b))
	}
	known.count++
	return b
}

// choose makes the area of those that take less room there: a reference is four
// bytes.
func (s *sharedAttrs) choose() {
	for _, b := range s.order {
		a := s.counts[b]
		if a.chosen = (a.count-1)*len(b) > 4*a.count; a.chosen {
			a.offset = int64(len(s.area))
			s.area = append(s.area, b...)
		}
	}
	s.order = nil
}

// split divides an inode's attributes into offsets of shared ones and the bytes
// of its own.
func (s *sharedAttrs) split(list []squashfs.Attr) (shared []int64, own []byte) {
	for _, a := range list {
		b := attrBytes(a)
		if known := s.counts[string(b)]; known.chosen && len(shared) < maxShared {
			shared = append(shared, known.offset)
		} else {
			own = append(own, b...)
		}
	}
	return shared, own
}

// size is how many bytes an inode's attributes take behind it.
func (s *sharedAttrs) size(list []squashfs.Attr) int {
	if len(list) == 0 {
		return 0
	}
	shared, own := s.split(list)
	return xattrHead + 4*len(shared) + len(own)
}

// append appends an inode's attributes. The area's place is known by then.
func (s *sharedAttrs) append(b []byte, list []squashfs.Attr) []byte {
	if len(list) == 0 {
		return b
	}
	shared, own := s.split(list)
	head := [xattrHead]byte{4: byte(len(shared))}
	b = append(b, head[:]...)
	for _, offset := range shared {
		// Counted from the start of the block in which the area starts.
		b = le.AppendUint32(b, uint32((s.at%blockSize+offset)/4))
	}
	return append(b, own...)
}
