package squashfs

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Filters for machine code, by xz's numbers. Compressors like it better with
// absolute targets in its calls, and here the relative ones come back.
const (
	filterX86      = 4
	filterPowerPC  = 5
	filterARM      = 7
	filterARMThumb = 8
	filterSPARC    = 9
)

// undo turns the output of a filter into what went in.
func (f xzFilter) undo(b []byte) error {
	switch f.id {
	case filterX86:
		undoX86(b, f.start)
	case filterPowerPC:
		undoPowerPC(b, f.start)
	case filterARM:
		undoARM(b, f.start)
	case filterARMThumb:
		undoARMThumb(b, f.start)
	case filterSPARC:
		undoSPARC(b, f.start)
	default:
		return fmt.Errorf("%w: xz filter %s", ErrUnsupported, f.name())
	}
	return nil
}

// name is that of a filter that cannot be undone here.
func (f xzFilter) name() string {
	switch f.id {
	case 3:
		return "delta"
	case 6:
		return "ia64"
	case 10:
		return "arm64"
	case 11:
		return "riscv"
	}
	return fmt.Sprintf("%#x", f.id)
}

// undoX86 undoes calls and jumps with 32 bit targets. near has a bit for each of
// the three bytes before that looked like such an opcode and was left alone:
// bytes of its operand are not to be mistaken for an instruction.
func undoX86(b []byte, start uint32) {
	near := uint(0)
	for i := 0; i+4 < len(b); {
		isCall := b[i]&0xfe == 0xe8
		switch {
		case !isCall:
			near = near << 1 & 7
			i++
		case !signByte(b[i+4]) || !callNear(b[i:], near):
			near = (near<<1 | 1) & 7
			i++
		default:
			x86Target(b[i+1:i+5], start+uint32(i)+5, near)
			near = 0
			i += 5
		}
	}
}

// signByte tells whether the highest byte of a target is one that is filtered:
// those within 16 MiB.
func signByte(b byte) bool { return b == 0 || b == 0xff }

// callNear tells whether an opcode that follows others closely is one: at most
// one is near, and its operand was not one to be filtered.
func callNear(b []byte, near uint) bool {
	return near == 0 || bits.OnesCount(near) == 1 && !signByte(b[4-bits.Len(near)])
}

// x86Target makes a target relative to the address behind its instruction.
func x86Target(b []byte, behind uint32, near uint) {
	target := binary.LittleEndian.Uint32(b)
	relative := target - behind
	if near != 0 {
		// To turn over the low bits once is enough: they become the complement of
		// the target's, whose top byte callNear found to be no sign.
		shift := 32 - 8*bits.Len(near)
		if signByte(byte(relative >> (shift - 8))) {
			relative = relative ^ (1<<shift - 1) - behind
		}
	}
	// The highest byte is the sign of the 25 bits that are left.
	relative = uint32(int32(relative<<7) >> 7)
	binary.LittleEndian.PutUint32(b, relative)
}

// undoARM undoes BL.
func undoARM(b []byte, start uint32) {
	for i := 0; i+4 <= len(b); i += 4 {
		if word := binary.LittleEndian.Uint32(b[i:]); word>>24 == 0xeb {
			target := word<<2 - (start + uint32(i) + 8)
			binary.LittleEndian.PutUint32(b[i:], 0xeb<<24|target>>2&0xffffff)
		}
	}
}

// undoARMThumb undoes the pair of halves that BL is.
func undoARMThumb(b []byte, start uint32) {
	for i := 0; i+4 <= len(b); i += 2 {
		high, low := binary.LittleEndian.Uint16(b[i:]), binary.LittleEndian.Uint16(b[i+2:])
		if high>>11 != 0x1e || low>>11 != 0x1f {
			continue
		}
		target := (uint32(high&0x7ff)<<11|uint32(low&0x7ff))<<1 - (start + uint32(i) + 4)
		binary.LittleEndian.PutUint16(b[i:], 0x1e<<11|uint16(target>>12&0x7ff))
		binary.LittleEndian.PutUint16(b[i+2:], 0x1f<<11|uint16(target>>1&0x7ff))
		i += 2
	}
}

// undoPowerPC undoes BL.
func undoPowerPC(b []byte, start uint32) {
	const operand = 0x03fffffc
	for i := 0; i+4 <= len(b); i += 4 {
		if word := binary.BigEndian.Uint32(b[i:]); word&^operand == 0x48000001 {
			binary.BigEndian.PutUint32(b[i:], 0x48000001|(word&operand-(start+uint32(i)))&operand)
		}
	}
}

// undoSPARC undoes CALL, where its target is within 8 MiB: 22 bits and sign.
func undoSPARC(b []byte, start uint32) {
	for i := 0; i+4 <= len(b); i += 4 {
		word := binary.BigEndian.Uint32(b[i:])
		if word>>22 != 0x100 && word>>22 != 0x1ff {
			continue
		}
		target := (word<<2 - (start + uint32(i))) >> 2
		sign := (0x40000000 - target&0x400000) & 0x3fffffff
		binary.BigEndian.PutUint32(b[i:], 0x40000000|sign|target&0x3fffff)
	}
}
