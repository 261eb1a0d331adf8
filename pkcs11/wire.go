package pkcs11

import (
	"encoding/binary"
	"fmt"

	"github.com/lockport/lockport/secret"
)

// Limits of a message, in bytes and numbers. What honest modules send is far
// below.
const (
	maxRequest  = 16 << 10
	maxResponse = 256 << 10
	maxBytes    = 64 << 10 // of one byte array
	maxList     = 4096     // of numbers in a list
)

// absent is the length that stands for no array at all.
const absent = 1<<32 - 1

// A request is the body of a call being written. It may come to hold a PIN, so
// it is of fixed size and wiped after it was sent.
//
// Format: p11-kit, p11-kit/rpc-message.c. All numbers are big-endian: "u" is 64
// bits, "y" is a byte, "ay" is a mark for whether there is data, its length in 32
// bits and the data, "fu" and "fy" are the room for an answer in 32 bits.
type request struct {
	buf *secret.Bytes
	n   int
	err error
}

// newRequest begins with number and signature of the call. The caller wipes it.
func newRequest(f function) *request {
	r := &request{buf: secret.New(maxRequest)}
	r.u32(f.number)
	r.bytes([]byte(f.request))
	return r
}

func (r *request) wipe() { r.buf.Wipe() }

// sent is the message as far as it was written.
func (r *request) sent() []byte { return r.buf.Reveal()[:r.n] }

// room returns the next n bytes to write to.
func (r *request) room(n int) []byte {
	if r.err != nil || n > maxRequest-r.n {
		r.err = fmt.Errorf("a request of more than %d bytes", maxRequest)
		return make([]byte, n)
	}
	r.n += n
	return r.buf.Reveal()[r.n-n : r.n]
}

func (r *request) byte(b byte)    { r.room(1)[0] = b }
func (r *request) u32(v uint32)   { binary.BigEndian.PutUint32(r.room(4), v) }
func (r *request) u64(v uint64)   { binary.BigEndian.PutUint64(r.room(8), v) }
func (r *request) noBytes()       { r.u32(absent) }
func (r *request) bytes(b []byte) { r.u32(uint32(len(b))); copy(r.room(len(b)), b) }
func (r *request) array(b []byte) { r.byte(1); r.bytes(b) }
func (r *request) noArray()       { r.byte(1); r.noBytes() }

// template writes the attributes that are searched for or wanted of a new object.
func (r *request) template(attrs []attribute) {
	r.u32(uint32(len(attrs)))
	for _, a := range attrs {
		r.u32(uint32(a.kind))
		r.byte(1)
		switch a.kind.encoding() {
		case attrBool:
			r.u32(1)
			r.byte(a.value[0])
		case attrNumber:
			r.u32(8) // the size that it has for the module: a C long of 64 bits
			copy(r.room(8), a.value)
		default:
			r.u32(uint32(len(a.value)))
			r.bytes(a.value)
		}
	}
}

// A response is the body of an answer being read. The first thing that is wrong
// with it stays in err, and everything read from then on is zero.
type response struct {
	buf *secret.Bytes
	b   []byte // what is left of it
	err error
}

func (r *response) wipe() {
	if r != nil {
		r.buf.Wipe()
	}
}

func (r *response) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrResponse}, args...)...)
	}
	r.b = nil
}

// take returns the next n bytes, which are valid until the response is wiped, or
// nil.
func (r *response) take(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.fail("it ends too early")
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *response) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *response) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *response) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes reads an array of bytes; nil is none at all.
func (r *response) bytes() []byte {
	n := r.u32()
	if r.err != nil || n == absent {
		return nil
	}
	if n > maxBytes {
		r.fail("an array of %d bytes", n)
		return nil
	}
	return r.take(int(n))
}

// array reads bytes that may be too many for the room that was offered: then
// only their number comes, and ok is false.
func (r *response) array() (b []byte, n uint32, ok bool) {
	if r.byte() == 0 {
		return nil, r.u32(), false
	}
	b = r.bytes()
	return b, uint32(len(b)), r.err == nil
}

// numbers reads a list; ok is false when only its length came.
func (r *response) numbers() (list []uint64, n uint32, ok bool) {
	valid := r.byte() != 0
	n = r.u32()
	if r.err != nil || !valid {
		return nil, n, false
	}
	if n > maxList {
		r.fail("a list of %d numbers", n)
		return nil, n, false
	}
	for range n {
		list = append(list, r.u64())
	}
	return list, n, r.err == nil
}

// text reads a string that is padded with blanks to a length of its own.
func (r *response) text(length int) string {
	b := r.bytes()
	if r.err == nil && len(b) != length {
		r.fail("a text of %d bytes instead of %d", len(b), length)
	}
	return padded(b)
}

// end checks that nothing is left.
func (r *response) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}
