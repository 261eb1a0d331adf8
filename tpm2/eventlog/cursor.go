package eventlog

import (
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// cursor reads the little-endian structures of the firmware and remembers the
// first thing that is wrong. What it returns are parts of the bytes it was given.
type cursor struct {
	b   []byte
	off int
	err error
}

// bytes takes a 64 bit number, for that is what some fields are.
func (c *cursor) bytes(n uint64) []byte {
	if left := uint64(len(c.b) - c.off); c.err == nil && n > left {
		c.err = fmt.Errorf("%d bytes where %d are needed", left, n)
	}
	if c.err != nil {
		return nil
	}
	from := c.off
	c.off += int(n)
	return c.b[from:c.off:c.off]
}

func (c *cursor) u8() uint8 {
	if b := c.bytes(1); b != nil {
		return b[0]
	}
	return 0
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

// utf16z reads UTF-16 text up to its NUL.
func (c *cursor) utf16z() string {
	from := c.off
	for c.err == nil {
		if c.u16() == 0 && c.err == nil {
			return utf16Text(c.b[from : c.off-2])
		}
	}
	return ""
}

// utf16Text decodes UTF-16; an odd byte at the end is dropped.
func utf16Text(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}
