package squashfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// cutter reads files, in the order of their numbers, and makes jobs of them.
//
// Duplicates are found by their SHA-256, which is only taken of files that have
// their size in common with others. One that is longer than a block and may be a
// duplicate is read twice, so that it need not be kept meanwhile.
type cutter struct {
	p     *pipeline
	b     *builder
	size  int64 // of a block
	zeros []byte
	peers map[int64]int // how many files have this size
	seen  map[int64]bool
	known map[fingerprint]*content
	hash  hash.Hash

	spare  *job // that was not needed
	end    *job // the fragment that is being filled
	count  uint32
	passed int64
}

// fingerprint tells contents of one size apart.
type fingerprint [sha256.Size]byte

func newCutter(p *pipeline) *cutter {
	c := &cutter{p: p, b: p.b, size: int64(p.b.o.BlockSize), peers: map[int64]int{}, seen: map[int64]bool{}}
	c.known, c.hash, c.zeros = map[fingerprint]*content{}, sha256.New(), make([]byte, c.size)
	for _, n := range c.b.inodes {
		if n.kind == kindFile {
			c.peers[n.Size]++
		}
	}
	return c
}

func (c *cutter) all() error {
	for _, n := range c.b.inodes {
		if n.kind != kindFile {
			continue
		}
		if err := c.file(n); err != nil {
			return fmt.Errorf("reading %s: %w", n.path, err)
		}
		c.passed += n.Size
	}
	return c.closeFragment()
}

// file finds or makes the content of a file.
func (c *cutter) file(n *node) error {
	var early fingerprint
	twice := c.seen[n.Size] && n.Size > c.size
	if twice {
		print, err := c.fingerprint(n)
		if err != nil {
			return err
		}
		if n.content = c.known[print]; n.content != nil {
			c.b.sum.Duplicates += n.Size
			return nil
		}
		early = print
	}
	s, err := c.open(n)
	if err != nil {
		return err
	}
	defer s.close()
	if n.content, err = c.cut(s); err != nil {
		return err
	}
	if err := s.finish(); err != nil {
		return err
	}
	if !s.hashed {
		return nil
	}
	if twice && early != s.sum() {
		return errChanged
	}
	c.known[s.sum()], c.seen[n.Size] = n.content, true
	return nil
}

// fingerprint reads a file for nothing else.
func (c *cutter) fingerprint(n *node) (fingerprint, error) {
	s, err := c.open(n)
	if err != nil {
		return fingerprint{}, err
	}
	defer s.close()
	j, err := c.job()
	if err != nil {
		return fingerprint{}, err
	}
	c.spare = j
	for left := n.Size; left > 0; left -= c.size {
		if err := c.p.ctx.Err(); err != nil {
			return fingerprint{}, err
		}
		if _, err := s.read(j.buffer[:min(left, c.size)]); err != nil {
			return fingerprint{}, err
		}
	}
	return s.sum(), s.finish()
}

// cut makes jobs of a file, if its content is new.
func (c *cutter) cut(s *source) (*content, error) {
	n := s.n
	out := &content{fragment: none, words: make([]uint32, (n.Size+c.size-1)/c.size)}
	for i := range out.words {
		length := min(c.size, n.Size-int64(i)*c.size)
		inFragment := length < c.size && !c.b.o.NoFragments
		room, err := c.room(length, inFragment)
		if err != nil {
			return nil, err
		}
		hole, err := s.read(room)
		if err != nil {
			return nil, err
		}
		if length == n.Size && s.hashed && c.known[s.sum()] != nil {
			c.b.sum.Duplicates += n.Size
			return c.known[s.sum()], nil
		}
		switch {
		case hole:
			out.holes += length
			c.b.sum.Holes += length
		case inFragment:
			out.words = out.words[:i]
			out.fragment, out.offset = c.count, uint32(len(c.end.raw))
			c.end.raw = c.end.raw[:len(c.end.raw)+len(room)]
		default:
			j := c.spare
			c.spare, j.raw, j.content, j.slot = nil, room, out, &out.words[i]
			c.send(j)
		}
	}
	return out, nil
}

// room is where to read the next bytes of a file to.
func (c *cutter) room(length int64, inFragment bool) ([]byte, error) {
	if !inFragment {
		j, err := c.job()
		if err != nil {
			return nil, err
		}
		c.spare = j
		return j.buffer[:length], nil
	}
	if c.end != nil && int64(len(c.end.raw))+length > c.size {
		if err := c.closeFragment(); err != nil {
			return nil, err
		}
	}
	if c.end == nil {
		j, err := c.job()
		if err != nil {
			return nil, err
		}
		c.end, j.raw, j.content = j, j.buffer[:0], nil
	}
	at := len(c.end.raw)
	return c.end.buffer[at : at+int(length)], c.p.ctx.Err()
}

func (c *cutter) closeFragment() error {
	if c.end == nil || len(c.end.raw) == 0 {
		return nil
	}
	if c.count == none-1 {
		return unsuitable("more than %d fragments", c.count)
	}
	c.send(c.end)
	c.end = nil
	c.count++
	return nil
}

// job waits for a job that is free.
func (c *cutter) job() (j *job, err error) {
	if j, c.spare = c.spare, nil; j != nil {
		return j, c.p.ctx.Err()
	}
	select {
	case <-c.p.ctx.Done():
		return nil, context.Cause(c.p.ctx)
	case j = <-c.p.free:
		return j, nil
	}
}

// send never waits: the channels have room for all jobs.
func (c *cutter) send(j *job) {
	j.passed, c.passed = c.passed, 0
	c.p.ordered <- j
	c.p.work <- j
}

// source is a file that is being read.
type source struct {
	c      *cutter
	n      *node
	f      io.ReadCloser
	seeker DataSeeker // or nil
	at     int64      // of the file's bytes that come next
	hashed bool       // a fingerprint is taken
}

var errChanged = unsuitable("it changed while it was read")

func (c *cutter) open(n *node) (*source, error) {
	f, err := c.b.src.Open(n.path)
	if err != nil {
		return nil, err
	}
	s := &source{c: c, n: n, f: f, hashed: n.Size > 0 && c.peers[n.Size] > 1}
	s.seeker, _ = f.(DataSeeker)
	c.hash.Reset()
	return s, nil
}

// close needs no check: nothing was written.
func (s *source) close() { _ = s.f.Close() }

// read fills p with the next bytes. Only zeros are a hole.
func (s *source) read(p []byte) (hole bool, err error) {
	zeros := s.c.zeros[:len(p)]
	if hole, err = s.skip(int64(len(p))); err != nil {
		return false, err
	}
	if hole {
		copy(p, zeros)
	} else {
		if err := s.fill(p); err != nil {
			return false, err
		}
		hole = p[0] == 0 && bytes.Equal(p, zeros)
	}
	if s.hashed {
		s.c.hash.Write(p)
	}
	return hole, nil
}

// skip passes bytes that the file knows to be a hole.
func (s *source) skip(n int64) (skipped bool, err error) {
	if s.seeker == nil {
		return false, nil
	}
	next, err := s.seeker.NextData(s.at)
	if err == nil && next < s.at+n || err != nil && err != io.EOF {
		return false, err
	}
	s.at += n
	return true, nil
}

func (s *source) fill(p []byte) error {
	if s.seeker != nil {
		// To ask for data may have moved the offset.
		if _, err := s.seeker.Seek(s.at, io.SeekStart); err != nil {
			return err
		}
	}
	_, err := io.ReadFull(s.f, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errChanged
	}
	s.at += int64(len(p))
	return err
}

// finish checks that the file ends where it was said to.
func (s *source) finish() error {
	if s.seeker != nil {
		end, err := s.seeker.Seek(0, io.SeekEnd)
		if err == nil && end != s.n.Size {
			err = errChanged
		}
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

func (s *source) sum() (f fingerprint) {
	s.c.hash.Sum(f[:0])
	return f
}
