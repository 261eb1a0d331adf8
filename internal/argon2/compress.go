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

// permute is the function P over the 4x4 matrix of words v0 to v15: GB over each
// column of it, then over each diagonal. GB is the four lines of one variable
// here, so that the compiler can put them in line and overlap the four.
func permute(p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13, p14, p15 *uint64) {
	v0, v1, v2, v3 := *p0, *p1, *p2, *p3
	v4, v5, v6, v7 := *p4, *p5, *p6, *p7
	v8, v9, v10, v11 := *p8, *p9, *p10, *p11
	v12, v13, v14, v15 := *p12, *p13, *p14, *p15

	v0, v12 = mix(v0, v4, v12, -32)
	v1, v13 = mix(v1, v5, v13, -32)
	v2, v14 = mix(v2, v6, v14, -32)
	v3, v15 = mix(v3, v7, v15, -32)
	v8, v4 = mix(v8, v12, v4, -24)
	v9, v5 = mix(v9, v13, v5, -24)
	v10, v6 = mix(v10, v14, v6, -24)
	v11, v7 = mix(v11, v15, v7, -24)
	v0, v12 = mix(v0, v4, v12, -16)
	v1, v13 = mix(v1, v5, v13, -16)
	v2, v14 = mix(v2, v6, v14, -16)
	v3, v15 = mix(v3, v7, v15, -16)
	v8, v4 = mix(v8, v12, v4, -63)
	v9, v5 = mix(v9, v13, v5, -63)
	v10, v6 = mix(v10, v14, v6, -63)
	v11, v7 = mix(v11, v15, v7, -63)

	v0, v15 = mix(v0, v5, v15, -32)
	v1, v12 = mix(v1, v6, v12, -32)
	v2, v13 = mix(v2, v7, v13, -32)
	v3, v14 = mix(v3, v4, v14, -32)
	v10, v5 = mix(v10, v15, v5, -24)
	v11, v6 = mix(v11, v12, v6, -24)
	v8, v7 = mix(v8, v13, v7, -24)
	v9, v4 = mix(v9, v14, v4, -24)
	v0, v15 = mix(v0, v5, v15, -16)
	v1, v12 = mix(v1, v6, v12, -16)
	v2, v13 = mix(v2, v7, v13, -16)
	v3, v14 = mix(v3, v4, v14, -16)
	v10, v5 = mix(v10, v15, v5, -63)
	v11, v6 = mix(v11, v12, v6, -63)
	v8, v7 = mix(v8, v13, v7, -63)
	v9, v4 = mix(v9, v14, v4, -63)

	*p0, *p1, *p2, *p3 = v0, v1, v2, v3
	*p4, *p5, *p6, *p7 = v4, v5, v6, v7
	*p8, *p9, *p10, *p11 = v8, v9, v10, v11
	*p12, *p13, *p14, *p15 = v12, v13, v14, v15
}

// mix is a quarter of GB: it adds to a, b and twice the product of the low halves
// of both, and then turns d with that.
func mix(a, b, d uint64, left int) (uint64, uint64) {
	a += b + 2*uint64(uint32(a))*uint64(uint32(b))
	return a, bits.RotateLeft64(d^a, left)
}

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
