package erofs

import (
	"fmt"
	"hash/crc32"
	"io"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// output is the image as it grows, by blocks. It remembers the first error.
type output struct {
	w       io.WriterAt
	next    int64  // where the next block goes, in bytes
	pending []byte // of what was appended last, up to next
	sums    [2]uint32
	err     error
}

// outputBuffer is how many bytes are gathered for one write.
const outputBuffer = 1 << 20

// take keeps room for so many blocks, for writeAt.
func (o *output) take(blocks int64) (at int64) {
	_ = o.flush() // remembered
	return o.advance(blocks)
}

func (o *output) advance(blocks int64) (at int64) {
	at = o.next
	o.next += blocks << blockBits
	if o.next>>blockBits >= maxBlocks && o.err == nil {
		o.err = unsuitable("more than %d blocks", uint32(maxBlocks)-1)
	}
	return at
}

// append writes data to the next blocks. Zeros are added to the last one.
func (o *output) append(p []byte) (at int64) {
	pad := -len(p) & (blockSize - 1)
	at = o.advance(int64(len(p)+pad) >> blockBits)
	o.sum(p)
	direct := pad == 0 && len(p) >= outputBuffer/2
	if direct || len(p)+len(o.pending) > outputBuffer {
		o.flushTo(at)
	}
	if direct {
		o.put(p, at)
		return at
	}
	o.pending = append(append(o.pending, p...), zeros[:pad]...)
	return at
}

// zeros is as long as what is compared with it at once.
var zeros [maxUnit]byte

func (o *output) flush() error {
	o.flushTo(o.next)
	return o.err
}

// flushTo writes what is pending, which ends there.
func (o *output) flushTo(end int64) {
	o.put(o.pending, end-int64(len(o.pending)))
	o.pending = o.pending[:0]
}

// writeAt writes what take kept room for.
func (o *output) writeAt(p []byte, at int64) {
	o.sum(p)
	o.put(p, at)
}

func (o *output) put(p []byte, at int64) {
	if o.err != nil || len(p) == 0 {
		return
	}
	if _, err := o.w.WriteAt(p, at); err != nil {
		o.err = fmt.Errorf("writing the image: %w", err)
	}
}

// sum updates two checksums of all that is written.
func (o *output) sum(p []byte) {
	o.sums[0] = crc32.Update(o.sums[0], castagnoli, p)
	o.sums[1] = crc32.Update(o.sums[1], crc32.IEEETable, p)
}

// metaBlock is a block of inodes that still has room.
type metaBlock struct {
	at   int64
	used int
	data []byte // nil while only places are given
	kept bool   // the data is of the image's first part
}

func (m *metaBlock) free() int { return blockSize - m.used }

// packer finds places for inodes. What is behind an inode, like the end of a
// file, is in the same block, so not all blocks can be filled: the one in which
// the least is left over is taken.
type packer struct {
	out    *output
	open   []*metaBlock
	filled bool // blocks have data, and not only places
	spare  [][]byte
}

// maxOpen is how many blocks wait for what fits. More would hardly fill them
// better.
const maxOpen = 128

// find returns a block for an item of at most a block, at the block's new end.
func (p *packer) find(size int) (m *metaBlock, at int64) {
	for _, o := range p.open {
		if o.free() >= size && (m == nil || o.free() < m.free()) {
			m = o
		}
	}
	if m == nil {
		m = p.add(p.out.take(1))
	}
	at = m.at + int64(m.used)
	m.use(size)
	return m, at
}

// use fills up the block to the next place of an inode.
func (m *metaBlock) use(size int) { m.used = (m.used + size + slotSize - 1) &^ (slotSize - 1) }

// place returns a place for an item of any size. A long one has blocks of its
// own, of which the last one may have room.
func (p *packer) place(size int) (last *metaBlock, at int64) {
	if size <= blockSize {
		return p.find(size)
	}
	whole := int64(size) >> blockBits
	rest := size & (blockSize - 1)
	at = p.out.take((int64(size) + blockSize - 1) >> blockBits)
	if rest > 0 {
		last = p.add(at + whole<<blockBits)
		last.use(rest)
	}
	return last, at
}

// put writes an item to a place of its own.
func (p *packer) put(item []byte) (at int64) {
	m, at := p.place(len(item))
	if len(item) > blockSize {
		whole := len(item) &^ (blockSize - 1)
		p.out.writeAt(item[:whole], at)
		if m != nil {
			copy(m.data, item[whole:])
		}
		return at
	}
	copy(m.data[at-m.at:], item)
	return at
}

// add opens a block, and closes the fullest one if there are too many.
func (p *packer) add(at int64) *metaBlock {
	if len(p.open) == maxOpen {
		p.closeFullest()
	}
	m := &metaBlock{at: at, data: p.buffer()}
	p.open = append(p.open, m)
	return m
}

// buffer is for a block's data, if it has any. The places of the first part are
// given before it has.
func (p *packer) buffer() []byte {
	if !p.filled {
		return nil
	}
	if n := len(p.spare); n > 0 {
		b := p.spare[n-1]
		p.spare = p.spare[:n-1]
		clear(b)
		return b
	}
	return make([]byte, blockSize)
}

func (p *packer) closeFullest() {
	best := 0
	for i, m := range p.open {
		if m.used > p.open[best].used {
			best = i
		}
	}
	p.close(p.open[best])
	p.open[best] = p.open[len(p.open)-1]
	p.open = p.open[:len(p.open)-1]
}

func (p *packer) close(m *metaBlock) {
	if !p.filled || m.kept {
		return
	}
	p.out.writeAt(m.data, m.at)
	p.spare = append(p.spare, m.data)
}

// keep gives the blocks that are open, all of the first part, its bytes, so that
// what follows can fill them. From then on blocks have data.
func (p *packer) keep(first []byte) {
	for _, m := range p.open {
		m.data, m.kept = first[m.at:m.at+blockSize], true
	}
	p.filled = true
}

func (p *packer) closeAll() {
	for _, m := range p.open {
		p.close(m)
	}
	p.open = nil
}
