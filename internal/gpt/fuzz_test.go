package gpt

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"
)

// rightSums makes the checksums of all headers right, without which nothing
// behind them is looked at.
func rightSums(r ram) {
	le := binary.LittleEndian
	for _, sector := range sectorSizes {
		for _, at := range []int64{1, int64(len(r))/sector - 1} {
			if at < 1 || (at+1)*sector > int64(len(r)) {
				continue
			}
			h := r[at*sector:][:sector]
			if string(h[:8]) != signature {
				continue
			}
			from, n := le.Uint64(h[72:]), uint64(le.Uint32(h[80:]))*uint64(le.Uint32(h[84:]))
			if size := uint64(len(r)); from < size && n <= size && from*uint64(sector)+n <= size {
				le.PutUint32(h[88:], crc32.ChecksumIEEE(r[from*uint64(sector):][:n]))
			}
			clear(h[16:20])
			le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:max(headerSize, min(int64(le.Uint32(h[12:])), sector))]))
		}
	}
}

// checkTable wants a table to be all inside its disk, and any choice of its
// partitions to keep its promises.
func checkTable(t *testing.T, r ram) {
	t.Helper()
	got, err := r.read()
	if err != nil {
		if got != nil {
			t.Error("a table comes with an error")
		}
		return
	}
	end := int64(0)
	for _, p := range slices.SortedFunc(slices.Values(got.Partitions), func(a, b Partition) int { return cmp.Compare(a.Offset, b.Offset) }) {
		if p.Offset < end || p.Size <= 0 || p.end() > int64(len(r)) {
			t.Errorf("%+v on a disk of %d bytes", p, len(r))
		}
		end = p.end()
	}
	for _, v := range []*Verity{nil, {}, {Of: Usr}, {Hash: make([]byte, 32)}} {
		c, err := got.Choose(Wanted{Architecture: "x86-64", Verity: v})
		if err == nil && c.Protected != "" && c.Partitions[c.Protected].Writable {
			t.Error("what is verified can be written to")
		}
	}
}

func FuzzTable(f *testing.F) {
	for _, sector := range []int64{512, 4096} {
		r := write(f, sample(f, sector))
		f.Add([]byte(r))
		r[1024] ^= 1
		f.Add([]byte(r))
	}
	// A table that is too small for sgdisk, but quick to change.
	small := write(f, sample(f, 512))
	h, err := parseHeader(small[512:1024])
	if err != nil {
		f.Fatal(err)
	}
	h.count, h.firstUsable, h.lastUsable, h.other = 4, 3, 6, 8
	binary.LittleEndian.PutUint64(small[1024+32:], 3)
	binary.LittleEndian.PutUint64(small[1024+40:], 4)
	copy(small[512:], h.marshal(512))
	f.Add([]byte(small[:9*512]))
	f.Add([]byte(mbrDisk(entry(0x80, 0x83, 8, 8), entry(0, 0xea, 32, 32))))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkTable(t, b)
		b = slices.Clone(b)
		rightSums(b)
		checkTable(t, b)
	})
}
