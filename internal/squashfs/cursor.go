package squashfs

import "encoding/binary"

// cursor reads the little-endian structures of an image and remembers the first
// thing that is wrong. What it returns are parts of the bytes it was given, or
// of what more fetches: a structure may go on in the next block.
type cursor struct {
	b    []byte
	err  error
	more func() ([]byte, error) // nil if b is all there is
	used int                    // bytes taken
}

// bytes takes n bytes, which the caller has bounded.
func (c *cursor) bytes(n int) []byte {
	if c.err != nil || n < 0 {
		return nil
	}
	if n <= len(c.b) {
		out := c.b[:n:n]
		c.b, c.used = c.b[n:], c.used+n
		return out
	}
	return c.gather(n)
}

// gather takes bytes across blocks. Memory is taken as they are found.
func (c *cursor) gather(n int) []byte {
	var out []byte
	for len(out) < n {
		if len(c.b) == 0 && !c.next(n-len(out)) {
			return nil
		}
		k := min(n-len(out), len(c.b))
		out = append(out, c.b[:k]...)
		c.b, c.used = c.b[k:], c.used+k
	}
	return out
}

func (c *cursor) next(need int) bool {
	if c.more == nil {
		c.err = damage("%d bytes are missing", need)
		return false
	}
	c.b, c.err = c.more()
	return c.err == nil
}

func (c *cursor) u16() uint16 {
	if b := c.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// i64 reads a position. None that counts is negative but [noTable].
func (c *cursor) i64() int64 { return int64(c.u64()) }
