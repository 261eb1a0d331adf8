package tpm2

import (
	"encoding/binary"
	"fmt"
)

// Numbers of the TPM 2.0 Library Specification, part 2.
const (
	algRSA       = 0x0001
	algSHA1      = 0x0004
	algAES       = 0x0006
	algKeyedHash = 0x0008
	algSHA256    = 0x000b
	algSHA384    = 0x000c
	algSHA512    = 0x000d
	algNull      = 0x0010
	algRSASSA    = 0x0014
	algECC       = 0x0023
	algCFB       = 0x0043

	curveP256 = 0x0003
	curveP384 = 0x0004

	handleOwner    = 0x40000001
	handleNull     = 0x40000007
	handlePassword = 0x40000009

	tagNoSessions = 0x8001
	tagSessions   = 0x8002

	sessionHMAC   = 0
	sessionPolicy = 1
)

// digestSize is the length of every digest and policy here: SHA-256.
const digestSize = 32

// cursor reads the TPM's big-endian structures and remembers the first thing
// that is wrong. What it returns are parts of the bytes it was given.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) bytes(n int) []byte {
	if c.err == nil && n > len(c.b) {
		c.err = fmt.Errorf("%d bytes where %d are needed", len(c.b), n)
	}
	if c.err != nil {
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u8() uint8 {
	if b := c.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// sized reads a TPM2B: a length of two bytes and that many more.
func (c *cursor) sized() []byte { return c.bytes(int(c.u16())) }

// end returns what went wrong, bytes left over included.
func (c *cursor) end() error {
	if c.err == nil && len(c.b) > 0 {
		c.err = fmt.Errorf("%d bytes too many", len(c.b))
	}
	return c.err
}

func put16(b []byte, v ...uint16) []byte {
	for _, x := range v {
		b = binary.BigEndian.AppendUint16(b, x)
	}
	return b
}

func put32(b []byte, v ...uint32) []byte {
	for _, x := range v {
		b = binary.BigEndian.AppendUint32(b, x)
	}
	return b
}

// putSized appends a TPM2B of the parts joined.
func putSized(b []byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b = put16(b, uint16(n))
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}
