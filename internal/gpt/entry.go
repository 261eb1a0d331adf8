package gpt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"unicode/utf16"
)

// labelUnits is how many UTF-16 units a label has.
const labelUnits = 36

// readEntries reads and checks the partitions that a header leads to.
func (h header) readEntries(d disk) ([]Partition, error) {
	b, err := d.bytes(h.entries, int(h.count*h.entrySize))
	if err != nil {
		return nil, fmt.Errorf("reading the entries: %w", err)
	}
	if crc32.ChecksumIEEE(b) != h.entriesCRC {
		return nil, errors.New("the checksum of the entries is wrong")
	}
	var list []Partition
	for i := range int(h.count) {
		e := b[i*int(h.entrySize):][:minEntrySize]
		if UUID(e[:16]).IsZero() {
			continue
		}
		p, err := h.parseEntry(e, d.sector)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", i+1, err)
		}
		p.Number = i + 1
		list = append(list, p)
	}
	return list, checkOverlaps(list)
}

// parseEntry reads the part of an entry that UEFI 2.10, table 5.6, gives a
// meaning.
func (h header) parseEntry(e []byte, sector int64) (Partition, error) {
	le := binary.LittleEndian
	first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
	if first > last || first < h.firstUsable || last > h.lastUsable {
		return Partition{}, fmt.Errorf("sectors %d to %d, where %d to %d are usable", first, last, h.firstUsable, h.lastUsable)
	}
	return Partition{
		Type:       UUID(e[:16]).swapped(),
		UUID:       UUID(e[16:32]).swapped(),
		Offset:     int64(first) * sector,
		Size:       int64(last-first+1) * sector,
		Attributes: Attributes(le.Uint64(e[48:])),
		Label:      parseLabel(e[56 : 56+2*labelUnits]),
	}, nil
}

func parseLabel(b []byte) string {
	var units []uint16
	for ; len(b) > 0; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

func (p Partition) marshal(e []byte, sector int64) {
	kind, own := p.Type.swapped(), p.UUID.swapped()
	copy(e, kind[:])
	copy(e[16:], own[:])
	le := binary.LittleEndian
	le.PutUint64(e[32:], uint64(p.Offset/sector))
	le.PutUint64(e[40:], uint64(p.end()/sector)-1)
	le.PutUint64(e[48:], uint64(p.Attributes))
	for i, u := range utf16.Encode([]rune(p.Label)) {
		le.PutUint16(e[56+2*i:], u)
	}
}

func checkOverlaps(list []Partition) error {
	list = slices.SortedFunc(slices.Values(list), func(a, b Partition) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := 1; i < len(list); i++ {
		if a, b := list[i-1], list[i]; a.end() > b.Offset {
			return fmt.Errorf("partitions %d and %d overlap at byte %d", a.Number, b.Number, b.Offset)
		}
	}
	return nil
}
