package gpt

import (
	"hash/crc32"
	"io"
	"slices"
	"testing"
)

// ram is a disk in memory.
type ram []byte

func (r ram) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(r)) {
		return 0, io.EOF
	}
	n := copy(p, r[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r ram) WriteAt(p []byte, off int64) (int, error) { return copy(r[off:], p), nil }

func (r ram) read() (*Table, error) { return Read(r, int64(len(r))) }

func uuid(t testing.TB, s string) UUID {
	t.Helper()
	u, err := ParseUUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func typeOf(t testing.TB, d Designator, architecture string) UUID {
	t.Helper()
	u, ok := TypeOf(Kind{d, architecture})
	if !ok {
		t.Fatalf("no type for %s of %s", d, architecture)
	}
	return u
}

// sample is a table with a root and a swap partition.
func sample(t testing.TB, sector int64) *Table {
	return &Table{
		UUID: uuid(t, "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"), SectorSize: sector,
		Partitions: []Partition{
			{Number: 1, Type: typeOf(t, Root, "x86-64"), UUID: uuid(t, "11111111-2222-3333-4444-555555555555"),
				Label: "image_1.2 ü𝄞", Attributes: ReadOnly | GrowFS, Size: 10000},
			{Number: 5, Type: typeOf(t, Swap, ""), UUID: uuid(t, "66666666-7777-8888-9999-aaaaaaaaaaaa"), Size: sector},
		},
	}
}

// write makes a disk with a table, aligned to as little as there can be.
func write(t testing.TB, table *Table) ram {
	t.Helper()
	size, err := table.Place(table.SectorSize)
	if err != nil {
		t.Fatal(err)
	}
	r := make(ram, size)
	if err := table.Write(r, size); err != nil {
		t.Fatal(err)
	}
	return r
}

// reseal changes the header and the entries of both copies, with right
// checksums.
func reseal(t testing.TB, r ram, change func(*header, []byte)) {
	t.Helper()
	d := disk{r: r, size: int64(len(r))}.withSector(512)
	for _, at := range []uint64{1, d.sectors - 1} {
		h, err := parseHeader(r[at*512:][:512])
		if err != nil {
			t.Fatal(err)
		}
		entries := r[h.entries*512:][:128*128]
		change(&h, entries)
		h.entriesCRC = crc32.ChecksumIEEE(entries)
		if h.count != 128 || h.entrySize != 128 { // else the sum would be wrong before the number is
			if n := int(min(h.count, maxEntries)) * int(min(h.entrySize, maxEntrySize)); n < len(r)-int(h.entries*512) && h.entries*512 < uint64(len(r)) {
				h.entriesCRC = crc32.ChecksumIEEE(r[h.entries*512:][:n])
			}
		}
		copy(r[at*512:], h.marshal(512))
	}
}

func same(a, b *Table) bool {
	return a.Scheme == b.Scheme && a.UUID == b.UUID && a.SectorSize == b.SectorSize && slices.Equal(a.Partitions, b.Partitions)
}
