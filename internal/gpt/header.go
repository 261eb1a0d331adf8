package gpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	signature    = "EFI PART"
	revision     = 0x00010000
	headerSize   = 92
	minEntrySize = 128
	maxEntrySize = 4096
	maxEntries   = 1024 // eight times what all tools make
)

// header is the header of one copy of a table: UEFI 2.10, table 5.5. Places are
// in sectors.
type header struct {
	own, other              uint64 // where this copy's header and the other's are
	firstUsable, lastUsable uint64
	disk                    UUID
	entries                 uint64 // where the entries begin
	count, entrySize        uint32
	entriesCRC              uint32
}

var errNoSignature = errors.New("no signature of a header")

// parseHeader reads the header from a whole sector. What follows the header in
// it is left alone: no checksum covers it, and the specification's promise that
// it is zero is of no use to anybody.
func parseHeader(b []byte) (header, error) {
	if string(b[:8]) != signature {
		return header{}, errNoSignature
	}
	le := binary.LittleEndian
	size := le.Uint32(b[12:])
	if size < headerSize || int64(size) > int64(len(b)) {
		return header{}, fmt.Errorf("a header of %d bytes", size)
	}
	covered := append([]byte(nil), b[:size]...)
	clear(covered[16:20])
	if crc32.ChecksumIEEE(covered) != le.Uint32(b[16:]) {
		return header{}, errors.New("the header's checksum is wrong")
	}
	if v := le.Uint32(b[8:]); v != revision {
		return header{}, fmt.Errorf("a header of revision %#x", v)
	}
	if v := le.Uint32(b[20:]); v != 0 {
		return header{}, fmt.Errorf("the reserved field is %#x", v)
	}
	return header{
		own: le.Uint64(b[24:]), other: le.Uint64(b[32:]),
		firstUsable: le.Uint64(b[40:]), lastUsable: le.Uint64(b[48:]),
		disk:    UUID(b[56:72]).swapped(),
		entries: le.Uint64(b[72:]),
		count:   le.Uint32(b[80:]), entrySize: le.Uint32(b[84:]), entriesCRC: le.Uint32(b[88:]),
	}, nil
}

func (h header) marshal(sector int64) []byte {
	b := make([]byte, sector)
	copy(b, signature)
	le := binary.LittleEndian
	le.PutUint32(b[8:], revision)
	le.PutUint32(b[12:], headerSize)
	for i, v := range []uint64{h.own, h.other, h.firstUsable, h.lastUsable} {
		le.PutUint64(b[24+8*i:], v)
	}
	disk := h.disk.swapped()
	copy(b[56:], disk[:])
	le.PutUint64(b[72:], h.entries)
	le.PutUint32(b[80:], h.count)
	le.PutUint32(b[84:], h.entrySize)
	le.PutUint32(b[88:], h.entriesCRC)
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:headerSize]))
	return b
}

// check bounds all that the header says, for one that was read at a sector.
func (h header) check(at uint64, d disk) error {
	switch {
	case h.own != at:
		return fmt.Errorf("the header says it were in sector %d", h.own)
	case h.firstUsable < 2 || h.firstUsable > h.lastUsable || h.lastUsable >= d.sectors:
		return fmt.Errorf("usable sectors %d to %d on a disk of %d", h.firstUsable, h.lastUsable, d.sectors)
	case h.entrySize < minEntrySize || h.entrySize > maxEntrySize || h.entrySize&(h.entrySize-1) != 0:
		return fmt.Errorf("entries of %d bytes", h.entrySize)
	case h.count == 0 || h.count > maxEntries:
		return fmt.Errorf("%d entries", h.count)
	}
	backup := h.other
	if at != 1 {
		backup = at
	}
	if at == h.other || at != 1 && h.other != 1 || backup <= h.lastUsable || backup >= d.sectors {
		return fmt.Errorf("the headers in sectors %d and %d of %d", h.own, h.other, d.sectors)
	}
	// Below, nothing overflows: a sector number is less than a size of 63 bits,
	// and entries have 4 MiB at most.
	from, to := uint64(2), h.firstUsable
	if at != 1 {
		from, to = h.lastUsable+1, at
	}
	if h.entries < from || h.entries >= to || h.entries+h.entrySectors(d) > to {
		return fmt.Errorf("entries in sectors %d to %d, where %d to %d are for them", h.entries,
			h.entries+h.entrySectors(d)-1, from, to-1)
	}
	return nil
}

func (h header) entrySectors(d disk) uint64 {
	return (uint64(h.count)*uint64(h.entrySize) + uint64(d.sector) - 1) / uint64(d.sector)
}
