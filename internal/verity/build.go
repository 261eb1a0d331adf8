package verity

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Build hashes the data and writes superblock and tree, as much as
// [Superblock.TreeSize] says, from the beginning of out. It returns the root
// hash. The bytes depend on the superblock and the data alone, not on the number
// of workers, which is as for [Reader.Verify].
func Build(ctx context.Context, data io.ReaderAt, out io.WriterAt, s *Superblock, workers int) (root []byte, err error) {
	l, err := s.layout()
	if err != nil {
		return nil, err
	}
	super, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	b := newBuilder(s, l, out)
	step := s.chunkBlocks()
	crew := make([]*hasher, workersFor(workers, (s.DataBlocks+step-1)/step))
	for i := range crew {
		crew[i] = &hasher{s: s, digester: l.digester(s.Salt), data: data}
	}
	for next := uint64(0); next < s.DataBlocks; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var group sync.WaitGroup
		for _, h := range crew {
			h.first, h.count = next, min(step, s.DataBlocks-next)
			next += h.count
			group.Go(h.run)
		}
		group.Wait()
		for _, h := range crew {
			if err := b.take(h); err != nil {
				return nil, err
			}
		}
	}
	if err := b.finish(); err != nil {
		return nil, err
	}
	first := make([]byte, s.HashBlockSize)
	copy(first, super)
	if err := b.write(first, 0); err != nil {
		return nil, err
	}
	return b.root, nil
}

// A hasher makes the digests of some data blocks.
type hasher struct {
	s            *Superblock
	digester     *digester
	data         io.ReaderAt
	first, count uint64
	buffer       []byte
	digests      []byte
	err          error
}

func (h *hasher) run() {
	size := h.s.DataBlockSize
	n := int(h.count) * size
	if len(h.buffer) < n {
		h.buffer = make([]byte, n)
	}
	h.digests = h.digests[:0]
	if h.err = readFull(h.data, h.buffer[:n], int64(h.first)*int64(size)); h.err != nil {
		return
	}
	for block := range slices.Chunk(h.buffer[:n], size) {
		h.digests = append(h.digests, h.digester.of(block)...)
	}
}

// A builder has the last block of each level in memory.
type builder struct {
	layout
	digester *digester
	out      io.WriterAt
	levels   [][]byte // the block of each that is being filled,
	filled   []int    // with how much,
	next     []uint64 // and its number
	root     []byte
}

func newBuilder(s *Superblock, l layout, out io.WriterAt) *builder {
	b := &builder{layout: l, digester: l.digester(s.Salt), out: out, filled: make([]int, len(l.starts)), next: slices.Clone(l.starts)}
	for range l.starts {
		b.levels = append(b.levels, make([]byte, s.HashBlockSize))
	}
	return b
}

func (b *builder) take(h *hasher) error {
	if h.err != nil {
		return fmt.Errorf("reading data: %w", h.err)
	}
	for digest := range slices.Chunk(h.digests, b.digest) {
		if err := b.add(0, digest); err != nil {
			return err
		}
	}
	return nil
}

// add puts a digest into a level, or makes it the root hash above them all.
func (b *builder) add(level int, digest []byte) error {
	if level == len(b.levels) {
		b.root = slices.Clone(digest)
		return nil
	}
	copy(b.levels[level][b.filled[level]:], digest)
	b.filled[level] += b.slot
	if b.filled[level] < len(b.levels[level]) {
		return nil
	}
	return b.flush(level)
}

// flush writes the block of a level and tells the level above.
func (b *builder) flush(level int) error {
	block := b.levels[level]
	if err := b.write(block, b.next[level]); err != nil {
		return err
	}
	digest := b.digester.of(block)
	clear(block)
	b.filled[level] = 0
	b.next[level]++
	return b.add(level+1, digest)
}

func (b *builder) finish() error {
	for level := range b.levels {
		if b.filled[level] == 0 {
			continue
		}
		if err := b.flush(level); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) write(block []byte, number uint64) error {
	if _, err := b.out.WriteAt(block, int64(number)*int64(len(block))); err != nil {
		return fmt.Errorf("writing hash block %d: %w", number, err)
	}
	return nil
}
