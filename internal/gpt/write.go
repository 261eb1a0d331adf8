package gpt

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// writtenEntries is how many entries the tables written here have, as those of
// all other tools.
const writtenEntries = 128

// Place gives the partitions their offsets, in the order in which they stand,
// each aligned to a power of two of at least the sector size. It returns the
// size of a disk that has room for them.
func (t *Table) Place(align int64) (size int64, err error) {
	if !slices.Contains(sectorSizes, t.SectorSize) || align < t.SectorSize || align&(align-1) != 0 || align > 1<<30 {
		return 0, fmt.Errorf("aligning to %d bytes on sectors of %d", align, t.SectorSize)
	}
	up := func(n int64) int64 { return (n + align - 1) &^ (align - 1) }
	next := up(int64(firstUsable(t.SectorSize)) * t.SectorSize)
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Size <= 0 || p.Size > maxDisk-2*align-next {
			return 0, fmt.Errorf("partition %d: %d bytes", p.Number, p.Size)
		}
		p.Size = (p.Size + t.SectorSize - 1) / t.SectorSize * t.SectorSize
		p.Offset = next
		next = up(p.end())
	}
	return up(next + int64(firstUsable(t.SectorSize)-1)*t.SectorSize), nil
}

// firstUsable is the first sector behind the primary table.
func firstUsable(sector int64) uint64 {
	return uint64(2 + (writtenEntries*minEntrySize+sector-1)/sector)
}

// Write writes a GPT to a disk of a size in bytes: protective MBR, primary table
// and backup. The bytes depend on the table and the size alone. It refuses a
// table that Read would, and writes nothing then.
func (t *Table) Write(w io.WriterAt, size int64) error {
	if t.Scheme != GPT || !slices.Contains(sectorSizes, t.SectorSize) || size > maxDisk {
		return fmt.Errorf("writing a %s for sectors of %d bytes to a disk of %d", t.Scheme, t.SectorSize, size)
	}
	d := disk{size: size}.withSector(t.SectorSize)
	first := firstUsable(t.SectorSize)
	if d.sectors < 2*first {
		return fmt.Errorf("a disk of %d bytes is too small", size)
	}
	h := header{own: 1, other: d.sectors - 1, firstUsable: first, lastUsable: d.sectors - first, disk: t.UUID,
		entries: 2, count: writtenEntries, entrySize: minEntrySize}
	if err := t.check(h); err != nil {
		return err
	}
	entries := make([]byte, writtenEntries*minEntrySize)
	for _, p := range t.Partitions {
		p.marshal(entries[(p.Number-1)*minEntrySize:][:minEntrySize], t.SectorSize)
	}
	h.entriesCRC = crc32.ChecksumIEEE(entries)
	backup := h
	backup.own, backup.other, backup.entries = h.other, h.own, h.lastUsable+1
	// A disk whose writing is cut off has no table, rather than half of one.
	for _, part := range []struct {
		sector uint64
		bytes  []byte
	}{
		{backup.entries, entries}, {backup.own, backup.marshal(t.SectorSize)},
		{h.entries, entries}, {h.own, h.marshal(t.SectorSize)}, {0, marshalMBR(d.sectors)},
	} {
		if _, err := w.WriteAt(part.bytes, int64(part.sector)*t.SectorSize); err != nil {
			return fmt.Errorf("writing the table to sector %d: %w", part.sector, err)
		}
	}
	return nil
}

// check refuses what could not be read back as it is.
func (t *Table) check(h header) error {
	if t.UUID.IsZero() {
		return errors.New("a disk without UUID")
	}
	numbers, uuids := map[int]bool{}, map[UUID]bool{}
	for _, p := range t.Partitions {
		if err := t.checkPartition(p, h); err != nil {
			return fmt.Errorf("partition %d: %w", p.Number, err)
		}
		if numbers[p.Number] || uuids[p.UUID] {
			return fmt.Errorf("partition %d: number or UUID %s is taken", p.Number, p.UUID)
		}
		numbers[p.Number], uuids[p.UUID] = true, true
	}
	list := slices.SortedFunc(slices.Values(t.Partitions), func(a, b Partition) int { return cmp.Compare(a.Number, b.Number) })
	return checkOverlaps(list)
}

func (t *Table) checkPartition(p Partition, h header) error {
	first, end := int64(h.firstUsable)*t.SectorSize, int64(h.lastUsable+1)*t.SectorSize
	switch {
	case p.Number < 1 || p.Number > writtenEntries:
		return fmt.Errorf("numbers go from 1 to %d", writtenEntries)
	case p.Type.IsZero() || p.UUID.IsZero():
		return errors.New("no type or UUID")
	case p.MBRType != 0 || p.Bootable:
		return errors.New("it is one of an MBR")
	case p.Offset%t.SectorSize != 0 || p.Size%t.SectorSize != 0:
		return fmt.Errorf("%d bytes at %d are not whole sectors", p.Size, p.Offset)
	case p.Size <= 0 || p.Offset < first || p.Offset > end || p.Size > end-p.Offset:
		return fmt.Errorf("%d bytes at %d, where %d to %d are usable", p.Size, p.Offset, first, end)
	case !utf8.ValidString(p.Label) || len(utf16.Encode([]rune(p.Label))) > labelUnits:
		return fmt.Errorf("label %q", p.Label)
	}
	for _, r := range p.Label {
		if r == 0 {
			return fmt.Errorf("label %q", p.Label)
		}
	}
	return nil
}
