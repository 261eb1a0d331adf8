// Package verity reads, verifies and builds the hash trees of dm-verity, in the
// process and without the device mapper, and checks who signed a tree's root
// hash.
//
// A tree is that of "veritysetup format": the superblock and hash type 1 of the
// cryptsetup project's "DMVerity" page and of the kernel's dm-verity
// documentation. Signatures are those of the UAPI.2 Discoverable Partitions
// Specification, section "Verity", and of the files beside an image.
//
// Everything but the root hash is hostile input. The root hash, or the
// certificates that its signature is checked with, come from somewhere trusted.
package verity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// SuperblockSize is how many bytes a superblock has.
const SuperblockSize = 512

const (
	magic       = "verity\x00\x00"
	maxSalt     = 256
	minBlock    = 512
	maxBlock    = 512 << 10 // as in veritysetup; the kernel takes no more than a page
	maxDevice   = 1 << 60   // keeps sums of offsets inside 63 bits
	saltAt      = 88
	algorithmAt = 32
)

// ErrNoSuperblock says that there is no superblock of dm-verity.
var ErrNoSuperblock = errors.New("no verity superblock")

// Superblock is what a hash tree says about itself.
type Superblock struct {
	UUID          [16]byte // in the order of its text form
	Algorithm     string   // like sha256
	DataBlockSize int
	HashBlockSize int
	DataBlocks    uint64
	Salt          []byte
}

// ParseSuperblock reads a superblock from the beginning of b. What it does not
// understand it refuses, which [ErrNoSuperblock] is for bytes of other kinds.
func ParseSuperblock(b []byte) (*Superblock, error) {
	if len(b) < SuperblockSize || string(b[:8]) != magic {
		return nil, ErrNoSuperblock
	}
	b = b[:SuperblockSize]
	le := binary.LittleEndian
	if version, kind := le.Uint32(b[8:]), le.Uint32(b[12:]); version != 1 || kind != 1 {
		return nil, fmt.Errorf("superblock of version %d with hash type %d, where only 1 and 1 are known", version, kind)
	}
	name, rest, _ := bytes.Cut(b[algorithmAt:64], []byte{0})
	size := int(le.Uint16(b[80:]))
	if size > maxSalt {
		return nil, fmt.Errorf("superblock with a salt of %d bytes", size)
	}
	for _, reserved := range [][]byte{rest, b[82:saltAt], b[saltAt+size:]} {
		if len(bytes.Trim(reserved, "\x00")) > 0 {
			return nil, errors.New("superblock with something in its reserved bytes")
		}
	}
	data, hash := le.Uint32(b[64:]), le.Uint32(b[68:])
	if data > maxBlock || hash > maxBlock { // before they become an int
		return nil, fmt.Errorf("superblock with blocks of %d and %d bytes", data, hash)
	}
	s := &Superblock{UUID: [16]byte(b[16:32]), Algorithm: string(name), DataBlockSize: int(data), HashBlockSize: int(hash),
		DataBlocks: le.Uint64(b[72:]), Salt: slices.Clone(b[saltAt : saltAt+size])}
	if _, err := s.layout(); err != nil {
		return nil, err
	}
	return s, nil
}

// Marshal is the reverse of [ParseSuperblock], and as strict.
func (s *Superblock) Marshal() ([]byte, error) {
	if _, err := s.layout(); err != nil {
		return nil, err
	}
	b := make([]byte, SuperblockSize)
	copy(b, magic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], 1)
	le.PutUint32(b[12:], 1)
	copy(b[16:], s.UUID[:])
	copy(b[algorithmAt:], s.Algorithm)
	le.PutUint32(b[64:], uint32(s.DataBlockSize))
	le.PutUint32(b[68:], uint32(s.HashBlockSize))
	le.PutUint64(b[72:], s.DataBlocks)
	le.PutUint16(b[80:], uint16(len(s.Salt)))
	copy(b[saltAt:], s.Salt)
	return b, nil
}

// DataSize is how many bytes the tree covers.
func (s *Superblock) DataSize() int64 { return int64(s.DataBlocks) * int64(s.DataBlockSize) }

// TreeSize is how many bytes superblock and tree have together.
func (s *Superblock) TreeSize() (int64, error) {
	l, err := s.layout()
	if err != nil {
		return 0, err
	}
	return int64(l.blocks) * int64(s.HashBlockSize), nil
}
