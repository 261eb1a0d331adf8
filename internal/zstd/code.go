package zstd

import "math/bits"

// A sequence copies literals, and then bytes from before. The value of its
// offset is 1 to 3 for one of the last three offsets, or the offset and 3.
type sequence struct {
	literals, length int
	value            uint32
}

const minMatch = 3

// coding is how numbers become symbols: each symbol stands for the numbers from
// its base on that its extra bits can tell apart.
type coding struct {
	base  []uint32
	extra []uint8
}

// literalCoding and matchCoding are those of the numbers of literals and, less
// minMatch, of bytes to copy (RFC 8878, 3.1.1.3.2.1.1).
var (
	literalCoding = newCoding(16, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
	matchCoding   = newCoding(32, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
)

// newCoding makes a coding: some symbols that are their numbers, and then these.
func newCoding(plain int, extra ...uint8) coding {
	c := coding{extra: append(make([]uint8, plain), extra...)}
	next := uint32(0)
	for _, e := range c.extra {
		c.base = append(c.base, next)
		next += 1 << e
	}
	return c
}

// symbols of small numbers.
var (
	smallLiteral = literalCoding.small(64)
	smallMatch   = matchCoding.small(128)
)

func (c coding) small(n int) []uint8 {
	out := make([]uint8, n)
	symbol := 0
	for i := range out {
		for symbol+1 < len(c.base) && c.base[symbol+1] <= uint32(i) {
			symbol++
		}
		out[i] = uint8(symbol)
	}
	return out
}

func literalCode(n int) uint8 {
	if n < len(smallLiteral) {
		return smallLiteral[n]
	}
	return uint8(bits.Len(uint(n)) - 1 + 19)
}

// matchCode is the symbol of a match's length.
func matchCode(length int) uint8 {
	n := length - minMatch
	if n < len(smallMatch) {
		return smallMatch[n]
	}
	return uint8(bits.Len(uint(n)) - 1 + 36)
}

// offsetCode is the symbol of an offset's value, and the number of its extra
// bits.
func offsetCode(value uint32) uint8 { return uint8(bits.Len32(value) - 1) }

// resolve returns the offset of a value, and the last three offsets after it.
// Without literals before, the values 1 to 3 mean others.
func resolve(reps [3]uint32, value uint32, noLiterals bool) (uint32, [3]uint32) {
	if value > 3 {
		return value - 3, [3]uint32{value - 3, reps[0], reps[1]}
	}
	if noLiterals {
		value++
	}
	switch value {
	case 1:
		return reps[0], reps
	case 2:
		return reps[1], [3]uint32{reps[1], reps[0], reps[2]}
	case 3:
		return reps[2], [3]uint32{reps[2], reps[0], reps[1]}
	}
	return reps[0] - 1, [3]uint32{reps[0] - 1, reps[0], reps[1]}
}
