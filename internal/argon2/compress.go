package argon2

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// The size of a block in bytes and in words.
const (
	blockSize  = 1024
	blockWords = blockSize / 8
)

// block is 1 KiB of working memory: 8 rows and 8 columns of 16 bytes each.
type block [blockWords]uint64

// compressFunc is a block compression, as compressGeneric.
type compressFunc func(out, x, y, z *block, xor bool)

// compressGeneric stores G(x, y) in out, or folds it into what out holds. The
// scratch block z has an undefined content afterwards; out may be x or y.
func compressGeneric(out, x, y, z *block, xor bool) {
	if xor {
		for i := range z {
			z[i] = x[i] ^ y[i]
			out[i] ^= z[i]
		}
	} else {
		for i := range z {
			z[i] = x[i] ^ y[i]
			out[i] = z[i]
		}
	}
	for i := 0; i < blockWords; i += 16 {
		r := (*[16]uint64)(z[i : i+16])
		permute(&r[0], &r[1], &r[2], &r[3], &r[4], &r[5], &r[6], &r[7],
			&r[8], &r[9], &r[10], &r[11], &r[12], &r[13], &r[14], &r[15])
	}
	for i := 0; i < 16; i += 2 {
		c := (*[114]uint64)(z[i : i+114])
		permute(&c[0], &c[1], &c[16], &c[17], &c[32], &c[33], &c[48], &c[49],
			&c[64], &c[65], &c[80], &c[81], &c[96], &c[97], &c[112], &c[113])
	}
	for i := range z {
		out[i] ^= z[i]
	}
}

// permute is the function P over the 4x4 matrix of words v0 to v15.
func permute(p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13, p14, p15 *uint64) {
	v0, v1, v2, v3 := *p0, *p1, *p2, *p3
	v4, v5, v6, v7 := *p4, *p5, *p6, *p7
	v8, v9, v10, v11 := *p8, *p9, *p10, *p11
	v12, v13, v14, v15 := *p12, *p13, *p14, *p15

	v0, v4, v8, v12 = mix(v0, v4, v8, v12)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15)

	v0, v5, v10, v15 = mix(v0, v5, v10, v15)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14)

	*p0, *p1, *p2, *p3 = v0, v1, v2, v3
	*p4, *p5, *p6, *p7 = v4, v5, v6, v7
	*p8, *p9, *p10, *p11 = v8, v9, v10, v11
	*p12, *p13, *p14, *p15 = v12, v13, v14, v15
}

// mix is the function GB.
func mix(a, b, c, d uint64) (uint64, uint64, uint64, uint64) {
	a = addMul(a, b)
	d = bits.RotateLeft64(d^a, -32)
	c = addMul(c, d)
	b = bits.RotateLeft64(b^c, -24)
	a = addMul(a, b)
	d = bits.RotateLeft64(d^a, -16)
	c = addMul(c, d)
	b = bits.RotateLeft64(b^c, -63)
	return a, b, c, d
}

// addMul is the sum of both and twice the product of their low halves.
func addMul(a, b uint64) uint64 { return a + b + 2*uint64(uint32(a))*uint64(uint32(b)) }

// bytes returns the memory of the block.
func (b *block) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(b)), blockSize)
}

// fromLittleEndian turns words that were stored as bytes in little-endian order
// into words of this machine, and the other way round.
func (b *block) fromLittleEndian() {
	raw := b.bytes()
	for i := range b {
		b[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
}

// blocksOf returns the memory of page, which starts at a multiple of 8, as blocks.
func blocksOf(page []byte) []block {
	return unsafe.Slice((*block)(unsafe.Pointer(unsafe.SliceData(page))), len(page)/blockSize)
}
