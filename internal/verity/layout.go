package verity

import (
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"math/bits"
)

// newHash returns the algorithm of a name of the kernel's. SHA-1 is not among
// them: who builds an image could make two that have the same tree.
func newHash(name string) (func() hash.Hash, error) {
	switch name {
	case "sha256":
		return sha256.New, nil
	case "sha384":
		return sha512.New384, nil
	case "sha512":
		return sha512.New, nil
	case "sha3-256":
		return func() hash.Hash { return sha3.New256() }, nil
	case "sha3-384":
		return func() hash.Hash { return sha3.New384() }, nil
	case "sha3-512":
		return func() hash.Hash { return sha3.New512() }, nil
	}
	return nil, fmt.Errorf("hash algorithm %q", name)
}

// layout says where the blocks of a tree are. Level 0 has the digests of the
// data. The highest level, which has one block, comes first behind the
// superblock. There are no levels when there is a single data block: its digest
// is the root hash.
type layout struct {
	newHash  func() hash.Hash
	digest   int // bytes of one
	slot     int // bytes that a digest is padded to
	perBlock uint64
	starts   []uint64 // first block of each level
	blocks   uint64   // of superblock and tree
}

func (s *Superblock) layout() (layout, error) {
	var l layout
	var err error
	if l.newHash, err = newHash(s.Algorithm); err != nil {
		return layout{}, err
	}
	for _, size := range []int{s.DataBlockSize, s.HashBlockSize} {
		if size < minBlock || size > maxBlock || size&(size-1) != 0 {
			return layout{}, fmt.Errorf("blocks of %d bytes", size)
		}
	}
	switch {
	case len(s.Salt) > maxSalt:
		return layout{}, fmt.Errorf("a salt of %d bytes", len(s.Salt))
	case s.DataBlocks == 0:
		return layout{}, errors.New("no data blocks")
	case s.DataBlocks > maxDevice/uint64(s.DataBlockSize):
		return layout{}, fmt.Errorf("%d data blocks of %d bytes", s.DataBlocks, s.DataBlockSize)
	}
	l.digest = l.newHash().Size()
	l.slot = 1 << bits.Len(uint(l.digest-1))
	l.perBlock = uint64(s.HashBlockSize / l.slot)
	l.place(s.DataBlocks)
	if l.blocks > maxDevice/uint64(s.HashBlockSize) {
		return layout{}, fmt.Errorf("%d hash blocks of %d bytes", l.blocks, s.HashBlockSize)
	}
	return l, nil
}

// place counts the blocks of each level, from the data up, and then puts them
// one behind the other, from the top down.
func (l *layout) place(dataBlocks uint64) {
	var counts []uint64
	for n := dataBlocks; n > 1; {
		n = (n + l.perBlock - 1) / l.perBlock
		counts = append(counts, n)
	}
	l.starts = make([]uint64, len(counts))
	l.blocks = 1
	for i := len(counts) - 1; i >= 0; i-- {
		l.starts[i] = l.blocks
		l.blocks += counts[i]
	}
}

// digester makes the digests of blocks. It is not safe for concurrent use.
type digester struct {
	hash hash.Hash
	salt []byte
	sum  [64]byte
}

func (l layout) digester(salt []byte) *digester { return &digester{hash: l.newHash(), salt: salt} }

// of returns the digest of salt and block, which the next call overwrites.
func (d *digester) of(block []byte) []byte {
	d.hash.Reset()
	d.hash.Write(d.salt)
	d.hash.Write(block)
	return d.hash.Sum(d.sum[:0])
}
