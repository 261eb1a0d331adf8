package squashfs

import "errors"

var (
	errLZOShort = errors.New("lzo: it ends early")
	errLZOFar   = errors.New("lzo: a copy from before the start")
)

// lzoDecoder decodes LZO1X, the format that Linux describes in its
// Documentation/staging/lzo.rst: copies of what was decoded before, by length
// and distance, with literal bytes between them.
type lzoDecoder struct {
	src   []byte
	dst   []byte
	limit int
	err   error
}

// lzo1x decompresses one block.
func lzo1x(src []byte, limit int) ([]byte, error) {
	d := &lzoDecoder{src: src, dst: make([]byte, 0, limit), limit: limit}
	state := d.start()
	for d.err == nil {
		var end bool
		if state, end = d.step(state); end {
			break
		}
	}
	if d.err == nil && len(d.src) > 0 {
		d.err = errors.New("lzo: bytes after the end")
	}
	if d.err != nil {
		return nil, d.err
	}
	return fit(d.dst), nil
}

// manyLiterals is the state after four literals or more; the others are how
// many there were.
const manyLiterals = 4

// start decodes the first byte if it is a number of literals, as it mostly is.
func (d *lzoDecoder) start() (state int) {
	if len(d.src) == 0 || d.src[0] <= 17 {
		return 0
	}
	n := int(d.byte()) - 17
	d.literals(n)
	return min(n, manyLiterals)
}

// step decodes one instruction. What the lowest ones mean depends on the
// literals before.
func (d *lzoDecoder) step(state int) (next int, end bool) {
	op := int(d.byte())
	switch {
	case op >= 64:
		length := op>>5 + 1
		return d.copy(op, op>>2&7+int(d.byte())<<3+1, length), false
	case op >= 32:
		length := d.length(op, 31) + 2
		low := d.word()
		return d.copy(low, low>>2+1, length), false
	case op >= 16:
		length := d.length(op, 7) + 2
		low := d.word()
		distance := op&8<<11 + low>>2
		if distance == 0 {
			return 0, true
		}
		return d.copy(low, distance+16384, length), false
	case state == 0:
		d.literals(d.length(op, 15) + 3)
		return manyLiterals, false
	case state == manyLiterals:
		return d.copy(op, op>>2&3+int(d.byte())<<2+2049, 3), false
	}
	return d.copy(op, op>>2&3+int(d.byte())<<2+1, 2), false
}

// length decodes a length in the low bits of an instruction. If they are zero,
// zero bytes follow for 255 each, and one that is not.
func (d *lzoDecoder) length(op, mask int) int {
	n := op & mask
	if n != 0 {
		return n
	}
	n = mask
	for d.err == nil && n <= d.limit {
		b := int(d.byte())
		if b != 0 {
			return n + b
		}
		n += 255
	}
	return n
}

// copy repeats what was decoded, byte by byte where the copy runs into itself,
// and then copies the literals whose number is in the low two bits.
func (d *lzoDecoder) copy(op, distance, length int) (state int) {
	from := len(d.dst) - distance
	switch {
	case d.err != nil:
		return 0
	case from < 0:
		d.err = errLZOFar
		return 0
	case length > d.limit-len(d.dst):
		d.err = errTooLong
		return 0
	}
	for length > 0 {
		k := min(length, distance)
		d.dst = append(d.dst, d.dst[from:from+k]...)
		from, length = from+k, length-k
	}
	d.literals(op & 3)
	return op & 3
}

func (d *lzoDecoder) literals(n int) {
	switch {
	case d.err != nil:
	case n > len(d.src):
		d.err = errLZOShort
	case n > d.limit-len(d.dst):
		d.err = errTooLong
	default:
		d.dst = append(d.dst, d.src[:n]...)
		d.src = d.src[n:]
	}
}

func (d *lzoDecoder) byte() byte {
	if d.err == nil && len(d.src) == 0 {
		d.err = errLZOShort
	}
	if d.err != nil {
		return 0
	}
	b := d.src[0]
	d.src = d.src[1:]
	return b
}

func (d *lzoDecoder) word() int {
	low := int(d.byte())
	return low | int(d.byte())<<8
}
