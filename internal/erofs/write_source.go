package erofs

import (
	"bytes"
	"errors"
	"hash"
	"io"

	"github.com/lockport/lockport/internal/squashfs"
)

// sourceBuffer is how much of a file is read at once. It is a multiple of every
// unit.
const sourceBuffer = 1 << 20

// source is a file that is being read, by units of zeros or of something.
type source struct {
	b      *builder
	e      *entity
	unit   int64
	f      io.ReadCloser
	seeker squashfs.DataSeeker // or nil
	at     int64               // of the file's bytes that come next to the buffer
	ahead  []byte              // of the buffer, not passed yet
	holes  []byte              // where holes are, for the fingerprint
	hole   int64               // bytes of the one before what comes next
}

var errChanged = unsuitable("it changed while it was read")

func (b *builder) open(e *entity) (*source, error) {
	s := &source{b: b, e: e, unit: unitOf(e.Size)}
	return s, s.reopen()
}

func (s *source) reopen() error {
	f, err := s.b.src.Open(s.e.path)
	if err != nil {
		return err
	}
	s.f, s.at, s.ahead, s.hole, s.holes = f, 0, nil, 0, nil
	s.seeker, _ = f.(squashfs.DataSeeker)
	if s.e.Size <= sourceBuffer {
		s.seeker = nil // it is read at once, and its end is looked for
	}
	return nil
}

// close needs no check: nothing was written.
func (s *source) close() {
	if s.f != nil {
		_ = s.f.Close()
	}
}

// rewind goes back to the start. What fits into the buffer is still there.
func (s *source) rewind() error {
	if s.e.Size <= sourceBuffer {
		s.ahead, s.hole, s.holes = s.b.buffer[:s.e.Size], 0, nil
		return nil
	}
	s.close()
	s.f = nil
	return s.reopen()
}

// left is how many bytes are to come.
func (s *source) left() int64 { return s.e.Size - s.at + int64(len(s.ahead)) }

// next returns the next units: data, or the size of what is only zeros. There
// has to be one at least. The data is valid until the next call.
func (s *source) next(h hash.Hash) (data []byte, hole int64, err error) {
	if len(s.ahead) == 0 {
		if hole, err = s.skip(); err != nil || hole > 0 {
			s.hole += hole
			return nil, hole, err
		}
		if err := s.fill(); err != nil {
			return nil, 0, err
		}
	}
	zero := isZero(s.ahead[:s.unit])
	n := s.unit
	for n+s.unit <= int64(len(s.ahead)) && isZero(s.ahead[n:n+s.unit]) == zero {
		n += s.unit
	}
	data, s.ahead = s.ahead[:n], s.ahead[n:]
	if zero {
		s.hole += n
		return nil, n, nil
	}
	if h != nil {
		s.add(h, data)
	}
	return data, 0, nil
}

// rest returns what is less than a unit, and checks that there is no more.
func (s *source) rest(h hash.Hash) ([]byte, error) {
	if s.left() > 0 && len(s.ahead) == 0 {
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	data := s.ahead
	s.ahead = nil
	if h != nil {
		s.add(h, data)
		h.Write(le.AppendUint64(s.holes, uint64(len(s.holes))))
	}
	return data, nil
}

// add adds data to a fingerprint, which is of all data and of where the holes
// are. What is a hole depends on the content, and not on how it is stored.
func (s *source) add(h hash.Hash, data []byte) {
	if s.hole > 0 {
		end := s.e.Size - s.left() - int64(len(data))
		s.holes = le.AppendUint64(le.AppendUint64(s.holes, uint64(end)), uint64(s.hole))
		s.hole = 0
	}
	h.Write(data)
}

// hash reads the file for a fingerprint, and returns so many bytes of its end.
func (s *source) hash(h hash.Hash, end int) ([]byte, error) {
	for s.left() >= s.unit {
		if _, _, err := s.next(h); err != nil {
			return nil, err
		}
	}
	rest, err := s.rest(h)
	if err != nil {
		return nil, err
	}
	return rest[len(rest)-end:], nil
}

func isZero(p []byte) bool { return len(p) == 0 || p[0] == 0 && bytes.Equal(p, zeros[:len(p)]) }

// skip passes whole units that the file knows to be in a hole.
func (s *source) skip() (int64, error) {
	if s.seeker == nil {
		return 0, nil
	}
	next, err := s.seeker.NextData(s.at)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if err == io.EOF || next > s.e.Size {
		next = s.e.Size
	}
	hole := max(next-s.at, 0) / s.unit * s.unit
	if s.at += hole; s.at == s.e.Size {
		return hole, s.checkEnd()
	}
	return hole, nil
}

// fill reads the next part of the file.
func (s *source) fill() error {
	if err := s.b.ctx.Err(); err != nil {
		return err
	}
	if err := s.seek(); err != nil {
		return err
	}
	p := s.b.buffer[:min(sourceBuffer, s.e.Size-s.at)]
	_, err := io.ReadFull(s.f, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errChanged
	}
	if err != nil {
		return err
	}
	s.ahead = p
	if s.at += int64(len(p)); s.at == s.e.Size {
		return s.checkEnd()
	}
	return nil
}

// seek goes to where the next bytes are: to ask for data may have moved it.
func (s *source) seek() error {
	if s.seeker == nil {
		return nil
	}
	_, err := s.seeker.Seek(s.at, io.SeekStart)
	return err
}

// checkEnd checks that the file ends where it was said to.
func (s *source) checkEnd() error {
	if err := s.seek(); err != nil {
		return err
	}
	n, err := io.ReadFull(s.f, make([]byte, 1))
	if n != 0 {
		return errChanged
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
