package argon2

import (
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/blake2b"
)

// digest hashes and then forgets: the hash package keeps the end of its input,
// which may be a passphrase, until other input takes its place.
type digest struct{ h hash.Hash }

// newDigest starts a BLAKE2b hash of n bytes, at most 64.
func newDigest(n int) digest {
	h, err := blake2b.New(n, nil)
	if err != nil {
		panic("argon2: " + err.Error()) // only for sizes never asked for here
	}
	return digest{h}
}

func (d digest) bytes(b []byte) { _, _ = d.h.Write(b) }

func (d digest) uint32(v uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	d.bytes(b[:])
}

// field hashes b after its length.
func (d digest) field(b []byte) {
	d.uint32(uint32(len(b)))
	d.bytes(b)
}

// sum writes the hash over out, whose length is that of the hash.
func (d digest) sum(out []byte) {
	d.h.Sum(out[:0])
	d.h.Reset()
	var zero [blake2b.BlockSize]byte
	d.bytes(zero[:])
	d.h.Reset()
}

// hashLong is the hash H' of RFC 9106, of any length, over all parts of input.
// No part may overlap out.
func hashLong(out []byte, input ...[]byte) {
	d := newDigest(min(len(out), blake2b.Size))
	d.uint32(uint32(len(out)))
	for _, part := range input {
		d.bytes(part)
	}
	d.sum(out[:min(len(out), blake2b.Size)])
	// A chain of hashes: the first half of each is output, and so is all of the
	// last one. Each link overwrites the second half of the one before.
	for len(out) > blake2b.Size {
		link := out[:blake2b.Size]
		out = out[blake2b.Size/2:]
		n := min(len(out), blake2b.Size)
		d = newDigest(n)
		d.bytes(link)
		d.sum(out[:n])
	}
}
