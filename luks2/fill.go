package luks2

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/lockport/lockport/secret"
)

// fillPiece is how much is encrypted at a time: a multiple of each sector size.
const fillPiece = 1 << 20

// Fill encrypts content into the data on a device of the given size in bytes, from
// its beginning, without the kernel, and brings it to the disk. What is left of the
// last sector becomes zeros; what comes behind stays as it is. It returns how many
// bytes there were. More than there is room for is [io.ErrShortWrite], found when
// the room is full. The key stays the caller's, as with [Header.NewReader].
func (h *Header) Fill(ctx context.Context, data Store, size int64, key *secret.Bytes, content io.Reader) (int64, error) {
	r, err := h.NewReader(data, size, key)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, fillPiece)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return at, err
		}
		n, end := io.ReadFull(content, buf)
		last := errors.Is(end, io.EOF) || errors.Is(end, io.ErrUnexpectedEOF)
		if end != nil && !last {
			return at, fmt.Errorf("reading the content: %w", end)
		}
		if int64(n) > r.size-at {
			return at, fmt.Errorf("the content is longer than the %d bytes that there is room for: %w", r.size, io.ErrShortWrite)
		}
		if err := r.write(data, buf, n, at); err != nil {
			return at, err
		}
		at += int64(n)
		if last {
			return at, data.Sync()
		}
	}
}

// write encrypts the first n bytes of a buffer to a place that is a sector's
// beginning, and destroys the buffer.
func (r *Reader) write(data io.WriterAt, buf []byte, n int, at int64) error {
	whole := (int64(n) + r.unit - 1) / r.unit * r.unit
	clear(buf[n:whole])
	for i := int64(0); i < whole; i += r.unit {
		sector := buf[i : i+r.unit]
		r.cipher.Encrypt(sector, sector, r.tweak+uint64(at+i)/sectorSize)
	}
	if _, err := data.WriteAt(buf[:whole], r.offset+at); err != nil {
		return fmt.Errorf("writing the data: %w", err)
	}
	return nil
}
