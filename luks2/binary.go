package luks2

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
)

// binarySize is the length of the binary header, which the JSON area follows.
const binarySize = 4096

// sizes lists the lengths that a header copy, binary header and JSON area
// together, can have. Format: specification §2.2.
var sizes = []int64{
	16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20,
}

const (
	magicPrimary   = "LUKS\xba\xbe"
	magicSecondary = "SKUL\xba\xbe"
)

// Positions of the fields in the binary header; specification §2.1.
const (
	offVersion   = 6
	offSize      = 8
	offSeqID     = 16
	offLabel     = 24
	offHash      = 72
	offSalt      = 104
	offUUID      = 168
	offSubsystem = 208
	offOffset    = 256
	offChecksum  = 448
	endChecksum  = 512

	labelSize = offHash - offLabel
	uuidSize  = offSubsystem - offUUID
)

// A binaryHeader is the fixed part of one header copy.
type binaryHeader struct {
	size      int64
	seqID     uint64
	label     string
	subsystem string
	uuid      string
	hash      string
}

// errNoMagic: what was read is not a header at all, damaged or otherwise.
var errNoMagic = errors.New("no LUKS2 magic")

// parseBinary reads the binary header of the copy at offset and checks all of
// it but the checksum, which covers the JSON area too.
func parseBinary(b []byte, offset int64) (binaryHeader, error) {
	want := magicPrimary
	if offset != 0 {
		want = magicSecondary
	}
	if string(b[:offVersion]) != want {
		return binaryHeader{}, errNoMagic
	}
	if v := binary.BigEndian.Uint16(b[offVersion:]); v != 2 {
		if v == 1 {
			return binaryHeader{}, fmt.Errorf("%w: it is LUKS1", ErrNotLUKS2)
		}
		return binaryHeader{}, fmt.Errorf("%w: version %d", ErrUnsupported, v)
	}
	size := binary.BigEndian.Uint64(b[offSize:])
	h := binaryHeader{
		size:      int64(size),
		seqID:     binary.BigEndian.Uint64(b[offSeqID:]),
		label:     text(b[offLabel:offHash]),
		hash:      text(b[offHash:offSalt]),
		uuid:      text(b[offUUID:offSubsystem]),
		subsystem: text(b[offSubsystem:offOffset]),
	}
	switch at := binary.BigEndian.Uint64(b[offOffset:]); {
	case at != uint64(offset):
		return h, fmt.Errorf("header says that it stands at %d", at)
	case size > uint64(sizes[len(sizes)-1]) || !slices.Contains(sizes, h.size):
		return h, fmt.Errorf("header size %d is not one of the format", size)
	case offset != 0 && offset != h.size:
		return h, fmt.Errorf("header size %d of the second copy at %d", size, offset)
	}
	if err := checkUUID(h.uuid); err != nil {
		return h, err
	}
	_, err := hashNamed(h.hash)
	return h, err
}

// text returns a field up to its first NUL. The last byte never counts.
func text(field []byte) string {
	s, _, _ := bytes.Cut(field[:len(field)-1], []byte{0})
	return string(s)
}

// checkUUID wants the canonical form, because the UUID becomes part of names.
func checkUUID(s string) error {
	ok := len(s) == 36
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			ok = c == '-'
		default:
			ok = c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		}
	}
	if !ok {
		return fmt.Errorf("UUID %q is not in canonical form", s)
	}
	return nil
}

// newUUID returns a random UUID, version 4. Format: RFC 9562 §5.4.
func newUUID() string {
	var b [16]byte
	// rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// checksum hashes a whole header copy as if its checksum were zero.
func checksum(area []byte, newHash func() hash.Hash) []byte {
	h := newHash()
	h.Write(area[:offChecksum])
	h.Write(make([]byte, endChecksum-offChecksum))
	h.Write(area[endChecksum:])
	return h.Sum(nil)
}

// checkSum compares the checksum that a copy carries with what it should be.
func (h binaryHeader) checkSum(area []byte) error {
	newHash, err := hashNamed(h.hash)
	if err != nil {
		return err
	}
	sum := checksum(area, newHash)
	if subtle.ConstantTimeCompare(sum, area[offChecksum:offChecksum+len(sum)]) != 1 {
		return errors.New("checksum does not match")
	}
	return nil
}

// jsonText returns the metadata of one copy. What follows the text must be
// zero, so that nothing can hide there.
func jsonText(area []byte) ([]byte, error) {
	b := area[binarySize:]
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return nil, errors.New("metadata does not end inside its area")
	}
	if len(bytes.TrimLeft(b[end:], "\x00")) != 0 {
		return nil, errors.New("something stands behind the metadata")
	}
	return b[:end], nil
}

// encode returns the whole copy for the given place. The salt is fresh for
// each copy and write; it only makes the checksums differ.
func (h binaryHeader) encode(json []byte, offset int64) ([]byte, error) {
	newHash, err := hashNamed(h.hash)
	if err != nil {
		return nil, err
	}
	if int64(len(json)) >= h.size-binarySize {
		return nil, fmt.Errorf("%w: %d bytes of metadata, room for %d", ErrFull, len(json), h.size-binarySize-1)
	}
	b := make([]byte, h.size)
	copy(b, magicPrimary)
	if offset != 0 {
		copy(b, magicSecondary)
	}
	binary.BigEndian.PutUint16(b[offVersion:], 2)
	binary.BigEndian.PutUint64(b[offSize:], uint64(h.size))
	binary.BigEndian.PutUint64(b[offSeqID:], h.seqID)
	copy(b[offLabel:offHash-1], h.label)
	copy(b[offHash:], h.hash)
	// rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(b[offSalt:offUUID])
	copy(b[offUUID:], h.uuid)
	copy(b[offSubsystem:offOffset-1], h.subsystem)
	binary.BigEndian.PutUint64(b[offOffset:], uint64(offset))
	copy(b[binarySize:], json)
	copy(b[offChecksum:], checksum(b, newHash))
	return b, nil
}
