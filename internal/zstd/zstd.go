// Package zstd compresses blocks of up to 1 MiB, each for itself, to frames of
// the Zstandard format (RFC 8878) that are about as small as those of libzstd's
// slower levels. No library for Go does that; for speed rather than size, and to
// decompress, use github.com/klauspost/compress.
//
// It weighs many ways to write a block with matches of what comes before, by
// what their symbols are likely to cost, and takes the cheapest ([RFC 8878]
// leaves all that to the writer).
//
// [RFC 8878]: https://www.rfc-editor.org/rfc/rfc8878
package zstd

import (
	"encoding/binary"

	"github.com/klauspost/compress/huff0"
)

var le = binary.LittleEndian

// MaxSource is the greatest length of what [Encoder.Encode] compresses.
const MaxSource = 1 << 20

// blockMax is the greatest length of a block of the format.
const blockMax = 128 << 10

// Effort is how long to search.
type Effort struct {
	Depth int // how many places to compare a position with, at least 1
	Nice  int // length of a match that is good enough, from 16 to 256
}

// Encoder compresses. It is used by one goroutine at a time. What it returns
// depends on nothing but its effort and the source.
type Encoder struct {
	finder   finder
	prices   prices
	nodes    []node
	found    []match
	path     []step
	sequence []sequence
	literals []byte
	huff     huff0.Scratch
	sections sections
	splitter splitter
	reps     [3]uint32
}

// NewEncoder makes an encoder, of about 2 MiB and 8 bytes for each byte of the
// longest source.
func NewEncoder(e Effort) *Encoder {
	e.Depth, e.Nice = max(e.Depth, 1), min(max(e.Nice, 16), maxNice)
	return &Encoder{
		finder: finder{depth: e.Depth, nice: e.Nice},
		nodes:  make([]node, segmentMax+maxNice+1),
	}
}

// Encode appends a frame with src to dst. Bytes of src after [MaxSource] make it
// panic.
func (e *Encoder) Encode(dst, src []byte) []byte {
	if len(src) > MaxSource {
		panic("zstd: source too long")
	}
	dst = appendFrameHeader(dst, len(src))
	if len(src) == 0 {
		return appendBlockHeader(dst, blockRaw, 0, true)
	}
	e.finder.reset(src)
	e.reps = [3]uint32{1, 4, 8}
	for at := 0; at < len(src); at += blockMax {
		end := min(at+blockMax, len(src))
		dst = e.block(dst, at, end)
	}
	return dst
}

// appendFrameHeader appends a header with the length and without a window,
// which then is the length.
func appendFrameHeader(dst []byte, n int) []byte {
	const magic, singleSegment = 0xfd2fb528, 1 << 5
	dst = le.AppendUint32(dst, magic)
	switch {
	case n < 256:
		return append(dst, singleSegment, byte(n))
	case n < 256+1<<16:
		return le.AppendUint16(append(dst, singleSegment|1<<6), uint16(n-256))
	}
	return le.AppendUint32(append(dst, singleSegment|2<<6), uint32(n))
}

// Types of blocks.
const (
	blockRaw        = 0
	blockRLE        = 1
	blockCompressed = 2
)

func appendBlockHeader(dst []byte, kind, size int, last bool) []byte {
	word := size<<3 | kind<<1
	if last {
		word |= 1
	}
	return append(dst, byte(word), byte(word>>8), byte(word>>16))
}

// block appends one or more blocks with these bytes of the source.
func (e *Encoder) block(dst []byte, from, to int) []byte {
	src := e.finder.src
	last, raw, reps := to == len(src)-len(padding), src[from:to], e.reps
	if n := len(raw); n > 1 && allEqual(raw) {
		return append(appendBlockHeader(dst, blockRLE, n, last), raw[0])
	}
	e.parse(src, from, to)
	head := len(dst)
	parts := e.splitter.split(e.sequence, e.literals)
	if out := e.compressed(dst, parts, last); out != nil {
		return out
	}
	if len(parts) > 1 {
		if out := e.compressed(dst[:head], []part{{len(e.sequence), len(e.literals)}}, last); out != nil {
			return out
		}
	}
	// A raw block leaves the offsets as they were.
	e.reps = reps
	return append(appendBlockHeader(dst[:head], blockRaw, len(raw), last), raw...)
}

// compressed appends what was parsed as one or more blocks. It returns nil if one
// of them does not get shorter, for which the format has only raw blocks.
func (e *Encoder) compressed(dst []byte, parts []part, last bool) []byte {
	var begin part
	for i, end := range parts {
		head := len(dst)
		dst = append(dst, 0, 0, 0)
		list, literals := e.sequence[begin.sequences:end.sequences], e.literals[begin.literals:end.literals]
		dst = e.appendLiterals(dst, literals)
		dst = e.sections.append(dst, list)
		length := len(literals)
		for _, q := range list {
			length += q.length
		}
		size := len(dst) - head - 3
		if size >= length {
			return nil
		}
		appendBlockHeader(dst[:head], blockCompressed, size, last && i == len(parts)-1)
		begin = end
	}
	return dst
}

func allEqual(b []byte) bool {
	for _, c := range b[1:] {
		if c != b[0] {
			return false
		}
	}
	return true
}

// Types of sections of literals.
const (
	literalsRaw        = 0
	literalsRLE        = 1
	literalsCompressed = 2
)

// appendLiterals appends the section of literals.
func (e *Encoder) appendLiterals(dst, lits []byte) []byte {
	if len(lits) > 1 && allEqual(lits) {
		return append(appendPlainHeader(dst, literalsRLE, len(lits)), lits[0])
	}
	if packed, streams := e.huffman(lits); packed != nil {
		return append(appendPackedHeader(dst, len(lits), len(packed), streams), packed...)
	}
	return append(appendPlainHeader(dst, literalsRaw, len(lits)), lits...)
}

// huffman compresses literals to one stream or four; it returns nil if they are
// better left as they are.
func (e *Encoder) huffman(lits []byte) (packed []byte, streams int) {
	if len(lits) < 16 {
		return nil, 0
	}
	e.huff.Reuse = huff0.ReusePolicyNone
	var err error
	if streams = 4; len(lits) < 1024 {
		streams = 1
		packed, _, err = huff0.Compress1X(lits, &e.huff)
	} else {
		packed, _, err = huff0.Compress4X(lits, &e.huff)
	}
	if err != nil || len(packed)+5 >= len(lits) {
		return nil, 0
	}
	return packed, streams
}

func appendPlainHeader(dst []byte, kind, n int) []byte {
	switch {
	case n < 1<<5:
		return append(dst, byte(kind|n<<3))
	case n < 1<<12:
		return le.AppendUint16(dst, uint16(kind|1<<2|n<<4))
	}
	word := kind | 3<<2 | n<<4
	return append(dst, byte(word), byte(word>>8), byte(word>>16))
}

func appendPackedHeader(dst []byte, n, packed, streams int) []byte {
	format, bits := 0, 10
	switch {
	case streams == 4 && n < 1<<10:
		format = 1
	case n >= 1<<14:
		format, bits = 3, 18
	case n >= 1<<10:
		format, bits = 2, 14
	}
	word := uint64(literalsCompressed | format<<2 | n<<4 | packed<<(4+bits))
	for range (4 + 2*bits + 7) / 8 {
		dst = append(dst, byte(word))
		word >>= 8
	}
	return dst
}
