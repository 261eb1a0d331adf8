// Package secret holds key material: volume keys, passphrases, PINs.
//
// A [Bytes] lives outside the Go heap, so the garbage collector never copies
// it; its pages are locked into memory and left out of core dumps where the
// system allows. It prints as a placeholder through every formatting verb and
// encoder. [Bytes.Reveal] is the only way in, so that every place that touches
// key material can be found by searching for one word.
//
// The promise is "wiped soon and locked where allowed", not "never copied":
// the cipher and hash packages of the standard library keep copies of the keys
// that they are given.
package secret

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

const placeholder = "[secret]"

// ErrTooLong is returned by [ReadAll] when the input exceeds its limit.
var ErrTooLong = errors.New("secret is too long")

// Bytes is one secret of fixed length. Its owner, which the documentation of
// each function that takes or returns one names, calls [Bytes.Wipe] when done.
// The methods are safe for concurrent use; the slice from Reveal is not.
type Bytes struct {
	mu   sync.Mutex
	page []byte // whole pages from the system, nil once wiped
	n    int
	mark mark // where it was made, in builds that count live secrets
}

// New returns a secret of n zero bytes. The caller wipes it.
func New(n int) *Bytes {
	s := &Bytes{page: allocate(n), n: n}
	s.mark.born(s)
	return s
}

// From moves b into a new secret and zeroes b. The caller wipes the result.
func From(b []byte) *Bytes {
	s := New(len(b))
	copy(s.page, b)
	clear(b)
	return s
}

// Copy returns a secret with the content of b and leaves b as it is, for text
// that is no secret at all, such as test vectors. The caller wipes the result.
func Copy(b []byte) *Bytes {
	s := New(len(b))
	copy(s.page, b)
	return s
}

// Random returns n bytes from the system's generator. The caller wipes it.
func Random(n int) *Bytes {
	s := New(n)
	// rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(s.page[:n])
	return s
}

// ReadAll reads r to its end into a secret of at most limit bytes, without
// leaving copies behind. It returns [ErrTooLong] when there is more. The caller
// wipes the result.
func ReadAll(r io.Reader, limit int) (*Bytes, error) {
	buf := New(min(limit+1, 4096))
	n := 0
	for {
		if n == buf.n {
			if n > limit {
				buf.Wipe()
				return nil, ErrTooLong
			}
			bigger := New(min(limit+1, 4*buf.n))
			copy(bigger.page, buf.page[:n])
			buf.Wipe()
			buf = bigger
		}
		m, err := r.Read(buf.page[n:buf.n])
		n += m
		if n > limit {
			buf.Wipe()
			return nil, ErrTooLong
		}
		if err == io.EOF {
			buf.Shrink(n)
			return buf, nil
		}
		if err != nil {
			buf.Wipe()
			return nil, err
		}
	}
}

// Reveal returns the secret itself, not a copy: it is valid until Wipe, and the
// caller must not keep it. It is nil once the secret is wiped.
func (s *Bytes) Reveal() []byte {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.page == nil {
		return nil
	}
	return s.page[:s.n:s.n]
}

// Len returns the length in bytes, 0 once wiped.
func (s *Bytes) Len() int { return len(s.Reveal()) }

// Clone returns a copy with an owner and a life of its own.
func (s *Bytes) Clone() *Bytes { return Copy(s.Reveal()) }

// Slice returns a copy of the bytes from i up to j. The caller wipes it.
func (s *Bytes) Slice(i, j int) *Bytes { return Copy(s.Reveal()[i:j]) }

// Shrink cuts the secret to its first n bytes and zeroes the rest.
func (s *Bytes) Shrink(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.page == nil || n >= s.n {
		return
	}
	clear(s.page[n:s.n])
	s.n = n
}

// Equal compares in constant time; secrets of different lengths differ.
func (s *Bytes) Equal(o *Bytes) bool {
	return subtle.ConstantTimeCompare(s.Reveal(), o.Reveal()) == 1
}

// Wipe zeroes the secret and gives its memory back. It may be called more than
// once, and on nil.
func (s *Bytes) Wipe() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.page == nil {
		return
	}
	clear(s.page)
	release(s.page)
	s.page, s.n = nil, 0
	s.mark.died(s)
}

// WipeAll wipes each secret of a list.
func WipeAll(list []*Bytes) {
	for _, s := range list {
		s.Wipe()
	}
}

// Format prints the placeholder, whatever the verb.
func (s *Bytes) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, placeholder) }

// String returns the placeholder.
func (s *Bytes) String() string { return placeholder }

// MarshalText returns the placeholder; encoding/json and encoding/xml use it.
func (s *Bytes) MarshalText() ([]byte, error) { return []byte(placeholder), nil }

// MarshalBinary refuses, which keeps secrets out of encoding/gob.
func (s *Bytes) MarshalBinary() ([]byte, error) {
	return nil, errors.New("a secret is not serialised")
}

// LogValue returns the placeholder for log/slog.
func (s *Bytes) LogValue() slog.Value { return slog.StringValue(placeholder) }
