package luks2

import (
	"errors"
	"fmt"
	"io"

	"github.com/lockport/lockport/secret"
)

// Reader reads the plaintext of a volume without the kernel. It is safe for
// concurrent use.
type Reader struct {
	data   io.ReaderAt
	offset int64
	size   int64
	unit   int64
	tweak  uint64
	cipher sectorCipher
}

// NewReader returns a reader over the data on a device of the given size in
// bytes. The key stays the caller's and may be wiped when NewReader returns;
// what the cipher made of it lives as long as the Reader. Only ciphers that we
// run ourselves are possible; see [ErrUnsupported].
func (h *Header) NewReader(data io.ReaderAt, size int64, key *secret.Bytes) (*Reader, error) {
	s, err := h.Segment()
	if err != nil {
		return nil, err
	}
	if s.Offset == 0 && data == io.ReaderAt(h.store) {
		return nil, errHeaderElsewhere
	}
	length, err := s.length(size)
	if err != nil {
		return nil, err
	}
	c, err := openCipher(s.Encryption, key)
	if err != nil {
		return nil, err
	}
	return &Reader{data: data, offset: s.Offset, size: length, unit: int64(s.SectorSize), tweak: s.IVTweak, cipher: c}, nil
}

// Size returns the length of the plaintext in bytes.
func (r *Reader) Size() int64 { return r.size }

// ReadAt is io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= r.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	want := min(int64(len(p)), r.size-off)
	start := off - off%r.unit
	end := (off + want + r.unit - 1) / r.unit * r.unit
	// Aligned requests, which is what a copy makes, are decrypted in place.
	buf := p
	if start != off || end-start != want {
		buf = make([]byte, end-start)
	}
	buf = buf[:end-start]
	if err := r.read(buf, start); err != nil {
		return 0, err
	}
	n := int(want)
	if &buf[0] != &p[0] {
		n = copy(p[:want], buf[off-start:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// read decrypts whole sectors.
func (r *Reader) read(b []byte, at int64) error {
	if err := readFull(r.data, b, r.offset+at); err != nil {
		return fmt.Errorf("reading the data: %w", err)
	}
	for i := int64(0); i < int64(len(b)); i += r.unit {
		sector := b[i : i+r.unit]
		// The IV counts sectors of 512 bytes whatever the sector size is.
		r.cipher.Decrypt(sector, sector, r.tweak+uint64(at+i)/sectorSize)
	}
	return nil
}
