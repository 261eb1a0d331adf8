package erofs

import (
	"crypto/sha256"
	"hash"
	"math/bits"
)

// content is how the data of a file is in the image.
type content struct {
	layout layout
	runs   []run
	holes  int64 // bytes
}

// run is a part of a file that is in a row, or a hole.
type run struct {
	from int64  // of the file, in blocks
	at   uint32 // in the image; noBlock of a hole
}

// fingerprint tells contents apart. Two files of one content can have the same
// data if both have its end behind the inode, or neither.
type fingerprint struct {
	sum    [sha256.Size]byte
	size   int64
	inline bool
}

// maxUnit is the most that one hole is a multiple of.
const maxUnit = 16 << blockBits

// unitOf is what holes in a file of a size are multiples of, in bytes. A file with
// holes has a table of four bytes for each, so that is longer in a large file.
func unitOf(size int64) int64 {
	unit := int64(blockSize)
	for unit < maxUnit && size/unit > 1024 {
		unit *= 2
	}
	return unit
}

// writeFile writes a regular file.
func (b *builder) writeFile(e *entity) error {
	if e.Size == 0 {
		b.put(e, layoutPlain, 0, nil)
		return nil
	}
	s, err := b.open(e)
	if err != nil {
		return err
	}
	defer s.close()
	c, end, err := b.content(s)
	if err != nil {
		return err
	}
	switch c.layout {
	case layoutChunks:
		b.chunks = true
		format, table := c.table(e.Size)
		b.put(e, layoutChunks, format, table)
	default:
		var start uint32
		if len(c.runs) > 0 {
			start = c.runs[0].at
		}
		b.put(e, c.layout, start, end)
	}
	return nil
}

// content finds or stores a file's content. Of files that have their size in
// common with others and fill blocks, one that is the same is looked for. For
// that a file that may be one is read twice, if it is larger than the buffer.
func (b *builder) content(s *source) (c *content, end []byte, err error) {
	inline := b.inlineEnd(s.e)
	key := fingerprint{size: s.e.Size, inline: inline > 0}
	if s.e.Size == int64(inline) || b.peers[s.e.Size] < 2 {
		return b.store(s, inline, nil)
	}
	h := sha256.New()
	seen := b.seen[s.e.Size]
	if seen {
		if end, err = s.hash(h, inline); err != nil {
			return nil, nil, err
		}
		h.Sum(key.sum[:0])
		if c = b.known[key]; c != nil {
			end = c.end(end)
			b.sum.Duplicates += s.e.Size - int64(len(end))
			b.progress(s.e.Size)
			return c, end, nil
		}
		if err := s.rewind(); err != nil {
			return nil, nil, err
		}
		h.Reset()
	}
	early := key
	if c, end, err = b.store(s, inline, h); err != nil {
		return nil, nil, err
	}
	h.Sum(key.sum[:0])
	if seen && early != key {
		return nil, nil, errChanged
	}
	b.known[key], b.seen[s.e.Size] = c, true
	return c, end, nil
}

// end is what of the file's end goes behind the inode.
func (c *content) end(end []byte) []byte {
	if c.layout == layoutInline {
		return end
	}
	return nil
}

// store writes a file's data, but for its end if that goes behind the inode.
func (b *builder) store(s *source, inline int, h hash.Hash) (c *content, end []byte, err error) {
	c = &content{}
	at := int64(0)
	for s.left() >= s.unit {
		data, hole, err := s.next(h)
		if err != nil {
			return nil, nil, err
		}
		c.add(b.out, at, data, hole)
		at += int64(len(data)) + hole
		b.progress(int64(len(data)) + hole)
		if b.out.err != nil {
			return nil, nil, b.out.err
		}
	}
	rest, err := s.rest(h)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case c.holes > 0:
		c.layout, inline = layoutChunks, 0
	case inline > 0:
		c.layout = layoutInline
	}
	rest, end = rest[:len(rest)-inline], rest[len(rest)-inline:]
	if c.holes > 0 && isZero(rest) {
		c.add(b.out, at, nil, int64(len(rest)))
	} else {
		c.add(b.out, at, rest, 0)
	}
	b.sum.Holes += c.holes
	b.progress(int64(len(rest) + len(end)))
	return c, end, nil
}

// add adds data or a hole to a file, at its end.
func (c *content) add(out *output, at int64, data []byte, hole int64) {
	r := run{at >> blockBits, noBlock}
	before := len(c.runs) > 0 && c.runs[len(c.runs)-1].at == noBlock
	switch {
	case hole > 0:
		c.holes += hole
		if before {
			return
		}
	case len(data) > 0:
		r.at = uint32(out.append(data) >> blockBits)
		if len(c.runs) > 0 && !before {
			return // nothing else was written between
		}
	default:
		return
	}
	c.runs = append(c.runs, r)
}

// maxChunk is the largest chunk, as a power of two of blocks.
const maxChunk = 10

// table makes the table of chunks, which are as long as the runs allow.
func (c *content) table(size int64) (format uint32, table []byte) {
	blocks := (size + blockSize - 1) >> blockBits
	shift := min(maxChunk, bits.Len64(uint64(blocks)))
	for _, r := range c.runs {
		if r.from > 0 {
			shift = min(shift, bits.TrailingZeros64(uint64(r.from)))
		}
	}
	runs := c.runs
	for at := int64(0); at < blocks; at += 1 << shift {
		for len(runs) > 1 && runs[1].from <= at {
			runs = runs[1:]
		}
		address := runs[0].at
		if address != noBlock {
			address += uint32(at - runs[0].from)
		}
		table = le.AppendUint32(table, address)
	}
	return uint32(shift), table
}
