package squashfs

import (
	"encoding/binary"
	"fmt"
)

// A block of metadata has two bytes before it: its size in the image, and
// whether it is stored as it is.
const (
	metaSize  = 8 << 10
	metaPlain = 0x8000
)

// ref points into metadata: 48 bits for the block, from the start of its table,
// and 16 for the place in the block once it is decompressed.
type ref uint64

func (r ref) block() int64 { return int64(r >> 16) }
func (r ref) offset() int  { return int(r & 0xffff) }

// region is a part of the image, from start to end.
type region struct{ start, end int64 }

// metaBlock returns the block of metadata at this position in the image, and
// the position behind it. It must not be changed.
func (f *FS) metaBlock(at int64, in region) (data []byte, next int64, err error) {
	if at < in.start || at > in.end-2 {
		return nil, 0, damage("metadata at %d, outside of %d to %d", at, in.start, in.end)
	}
	e, err := f.cache.get(blockKey{at: at}, func() (block, error) { return f.loadMeta(at) })
	if err != nil {
		return nil, 0, err
	}
	if e.next > in.end {
		return nil, 0, damage("metadata from %d to %d, past %d", at, e.next, in.end)
	}
	return e.data, e.next, nil
}

func (f *FS) loadMeta(at int64) (block, error) {
	var head [2]byte
	if err := f.readFull(head[:], at); err != nil {
		return block{}, err
	}
	word := binary.LittleEndian.Uint16(head[:])
	size := int(word &^ metaPlain)
	next := at + 2 + int64(size)
	if size == 0 || size > metaSize || next > f.super.used {
		return block{}, damage("metadata block of %d bytes at %d", size, at)
	}
	data := make([]byte, size)
	if err := f.readFull(data, at+2); err != nil {
		return block{}, err
	}
	if word&metaPlain != 0 {
		return block{data, next}, nil
	}
	data, err := f.decompress(data, metaSize)
	if err != nil {
		return block{}, fmt.Errorf("metadata block at %d: %w", at, err)
	}
	// Without this, a chain of empty blocks would be read for nothing.
	if len(data) == 0 {
		return block{}, damage("metadata block at %d is empty", at)
	}
	return block{data, next}, nil
}

// metaCursor reads structures from metadata, across its blocks.
type metaCursor struct {
	cursor
	f        *FS
	in       region
	at, next int64 // of the block that is read now
	size     int   // of that block, decompressed
}

// metaAt returns a cursor that starts at a reference into a table.
func (f *FS) metaAt(in region, r ref) (*metaCursor, error) {
	if r.block() > in.end-in.start {
		return nil, damage("metadata at %d of a table of %d bytes", r.block(), in.end-in.start)
	}
	m := &metaCursor{f: f, in: in, next: in.start + r.block()}
	b, err := m.fetch()
	if err != nil {
		return nil, err
	}
	if r.offset() > len(b) {
		return nil, damage("byte %d of a metadata block of %d", r.offset(), len(b))
	}
	m.b, m.more = b[r.offset():], m.fetch
	return m, nil
}

func (m *metaCursor) fetch() ([]byte, error) {
	data, next, err := m.f.metaBlock(m.next, m.in)
	if err != nil {
		return nil, err
	}
	m.at, m.next, m.size = m.next, next, len(data)
	return data, nil
}

// pos is where the cursor stands, for [FS.metaAt].
func (m *metaCursor) pos() ref { return ref(m.at-m.in.start)<<16 | ref(m.size-len(m.b)) }
