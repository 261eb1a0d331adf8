package squashfs

import (
	"encoding/binary"
	"fmt"
	"math"
)

var le = binary.LittleEndian

// metaWriter gathers metadata and compresses it in blocks. It remembers the
// first error.
type metaWriter struct {
	c    encoder
	done []byte // blocks with their heads
	rest []byte // less than a block
	err  error
}

// pos is where the next byte goes.
func (m *metaWriter) pos() ref { return ref(len(m.done))<<16 | ref(len(m.rest)) }

func (m *metaWriter) write(p []byte) {
	for len(p) > 0 && m.err == nil {
		n := min(len(p), metaSize-len(m.rest))
		m.rest = append(m.rest, p[:n]...)
		p = p[n:]
		if len(m.rest) == metaSize {
			m.flush()
		}
	}
}

func (m *metaWriter) flush() {
	if len(m.rest) == 0 || m.err != nil {
		return
	}
	head := len(m.done)
	m.done = append(m.done, 0, 0)
	m.done, m.err = m.c.encode(m.done, m.rest)
	size := len(m.done) - head - 2
	if size >= len(m.rest) {
		m.done = append(m.done[:head+2], m.rest...)
		size = len(m.rest) | metaPlain
	}
	if m.err == nil {
		le.PutUint16(m.done[head:], uint16(size))
	}
	m.rest = m.rest[:0]
	// References have 32 bits for a block.
	if len(m.done) > math.MaxUint32 {
		m.err = unsuitable("a table of more than 4 GiB")
	}
}

// finish appends the blocks to the image and returns where they start.
func (m *metaWriter) finish(o *output) (start int64, err error) {
	if m.flush(); m.err != nil {
		return 0, fmt.Errorf("compressing metadata: %w", m.err)
	}
	start = o.at
	o.write(m.done)
	return start, o.err
}
