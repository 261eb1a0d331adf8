package gpt

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	for _, sector := range sectorSizes {
		want := sample(t, sector)
		r := write(t, want)
		got, err := r.read()
		if err != nil {
			t.Fatalf("sectors of %d: %v", sector, err)
		}
		if !same(got, want) || got.Damage() != nil {
			t.Errorf("sectors of %d: %+v, damage %v, not %+v", sector, got, got.Damage(), want)
		}
		if again := write(t, sample(t, sector)); !slices.Equal(r, again) {
			t.Errorf("sectors of %d: written twice, the bytes differ", sector)
		}
	}
}

// Every byte of each copy is covered by a checksum, a rule or the other copy.
func TestEachDamagedByteIsNoticed(t *testing.T) {
	t.Parallel()
	want := sample(t, 512)
	good := write(t, want)
	last := len(good) - 512
	for _, area := range []struct {
		name     string
		from, to int
	}{
		{"primary", 512, 512 + headerSize}, {"primary", 1024, 1024 + 128*128},
		{"backup", last, last + headerSize}, {"backup", last - 128*128, last},
	} {
		for i := area.from; i < area.to; i++ {
			if i > area.from+6*128 { // all alike: no partitions there
				i = min(i+60, area.to-1)
			}
			bad := slices.Clone(good)
			bad[i] ^= 1 << (i % 8)
			got, err := bad.read()
			if err != nil {
				t.Fatalf("byte %d: %v", i, err)
			}
			if !same(got, want) {
				t.Fatalf("byte %d: %+v", i, got)
			}
			if got.Damage() == nil || !strings.HasPrefix(got.Damage().Error(), area.name) {
				t.Fatalf("byte %d: damage %v", i, got.Damage())
			}
			// The same byte of the other copy too leaves nothing.
			if area.name == "primary" && i < 512+headerSize {
				bad[last+i-512] ^= 1 << (i % 8)
				if got, err := bad.read(); err == nil || got != nil {
					t.Fatalf("byte %d of both headers: %+v, %v", i, got, err)
				}
			}
		}
	}
}

func TestProtectiveMBR(t *testing.T) {
	t.Parallel()
	good := write(t, sample(t, 512))
	for name, change := range map[string]func(ram){
		"no signature":  func(r ram) { r[510] = 0 },
		"another type":  func(r ram) { r[446+4] = 0x83 },
		"other start":   func(r ram) { r[446+8] = 2 },
		"wrong status":  func(r ram) { r[446] = 1 },
		"nothing there": func(r ram) { clear(r[:512]) },
	} {
		bad := slices.Clone(good)
		change(bad)
		if got, err := bad.read(); err == nil || errors.Is(err, ErrNoTable) || !strings.Contains(err.Error(), "protective") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	clear(good[512:])
	if got, err := good.read(); err == nil || !strings.Contains(err.Error(), "0 headers") {
		t.Errorf("a protective MBR alone: %+v, %v", got, err)
	}
}

func TestTwoSectorSizesAreRefused(t *testing.T) {
	t.Parallel()
	r := write(t, sample(t, 512))
	copy(r[4096:], signature)
	if got, err := r.read(); err == nil || !strings.Contains(err.Error(), "[512 4096]") {
		t.Errorf("%+v, %v", got, err)
	}
}

// A grown image has its backup where the primary header says, and no longer at
// its end.
func TestBackupElsewhere(t *testing.T) {
	t.Parallel()
	want := sample(t, 512)
	r := append(write(t, want), make(ram, 5000)...)
	if got, err := r.read(); err != nil || !same(got, want) || got.Damage() != nil {
		t.Errorf("%+v, %v", got, err)
	}
	r[1024] ^= 1
	if got, err := r.read(); err != nil || !same(got, want) || got.Damage() == nil {
		t.Errorf("%+v, %v", got, err)
	}
	short := r[:len(r)-5000-512]
	if got, err := short.read(); err == nil {
		t.Errorf("cut off: %+v", got)
	}
}

func TestTablesWithRightSumsAndWrongNumbers(t *testing.T) {
	t.Parallel()
	good := write(t, sample(t, 512))
	le := binary.LittleEndian
	const huge = 1 << 63
	for name, c := range map[string]struct {
		change func(*header, []byte)
		want   string
	}{
		"overlap":         {func(h *header, e []byte) { copy(e[4*128+32:], e[32:48]) }, "partitions 1 and 5 overlap"},
		"same twice":      {func(h *header, e []byte) { copy(e[128:], e[:128]) }, "partitions 1 and 2 overlap"},
		"behind the end":  {func(h *header, e []byte) { le.PutUint64(e[40:], h.lastUsable+1) }, "partition 1: sectors 34 to"},
		"huge end":        {func(h *header, e []byte) { le.PutUint64(e[40:], ^uint64(0)) }, "partition 1: sectors"},
		"huge start":      {func(h *header, e []byte) { le.PutUint64(e[32:], huge); le.PutUint64(e[40:], huge) }, "partition 1: sectors"},
		"in the table":    {func(h *header, e []byte) { le.PutUint64(e[32:], 33) }, "partition 1: sectors 33"},
		"backwards":       {func(h *header, e []byte) { le.PutUint64(e[32:], 36); le.PutUint64(e[40:], 35) }, "sectors 36 to 35"},
		"usable overflow": {func(h *header, e []byte) { h.lastUsable = ^uint64(0) }, "usable sectors"},
		"usable reversed": {func(h *header, e []byte) { h.firstUsable = h.lastUsable + 1 }, "usable sectors"},
		"usable at 1":     {func(h *header, e []byte) { h.firstUsable = 1 }, "usable sectors"},
		"no entries":      {func(h *header, e []byte) { h.count = 0 }, "0 entries"},
		"many entries":    {func(h *header, e []byte) { h.count = 1 << 31 }, "2147483648 entries"},
		"small entries":   {func(h *header, e []byte) { h.entrySize = 64 }, "entries of 64 bytes"},
		"large entries":   {func(h *header, e []byte) { h.entrySize = 1 << 31 }, "entries of 2147483648 bytes"},
		"odd entries":     {func(h *header, e []byte) { h.entrySize = 136 }, "entries of 136 bytes"},
		"entries outside": {func(h *header, e []byte) { h.entries = huge }, "entries in sectors"},
		"entries at 0":    {func(h *header, e []byte) { h.entries = 0 }, "entries in sectors 0"},
		"entries too big": {func(h *header, e []byte) { h.count = 256 }, "entries in sectors"},
		"elsewhere":       {func(h *header, e []byte) { h.own += 3 }, "the header says"},
		"alternate":       {func(h *header, e []byte) { h.other = h.own }, "the headers in sectors"},
		"alternate far":   {func(h *header, e []byte) { h.other = huge }, "the headers in sectors"},
	} {
		bad := slices.Clone(good)
		reseal(t, bad, c.change)
		got, err := bad.read()
		if err == nil || got != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestOtherSizesOfEntries(t *testing.T) {
	t.Parallel()
	r := write(t, sample(t, 512))
	reseal(t, r, func(h *header, e []byte) { h.count = 64; h.entrySize = 256 })
	got, err := r.read()
	if err != nil || len(got.Partitions) != 2 || got.Partitions[1].Number != 3 || got.Partitions[1].Label != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// entry makes one of an MBR's.
func entry(status, kind byte, first, length uint32) []byte {
	b := []byte{status, 0, 0, 0, kind, 0, 0, 0}
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, first), length)
}

func mbrDisk(entries ...[]byte) ram {
	r := make(ram, 64*512)
	for i, e := range entries {
		copy(r[mbrEntries+16*i:], e)
	}
	r[510], r[511] = 0x55, 0xaa
	return r
}

func TestMBR(t *testing.T) {
	t.Parallel()
	got, err := mbrDisk(entry(0x80, 0x83, 8, 8), nil, entry(0, 0xea, 32, 32), entry(0, 0x07, 1, 2)).read()
	if err != nil {
		t.Fatal(err)
	}
	want := []Partition{
		{Number: 1, MBRType: 0x83, Bootable: true, Offset: 8 * 512, Size: 8 * 512},
		{Number: 3, MBRType: 0xea, Offset: 32 * 512, Size: 32 * 512},
		{Number: 4, MBRType: 0x07, Offset: 512, Size: 1024},
	}
	if got.Scheme != MBR || !slices.Equal(got.Partitions, want) {
		t.Errorf("%+v", got)
	}
	c, err := got.Choose(Wanted{Architecture: "x86-64"})
	if err != nil || c.Partitions[Root].Number != 1 || c.Partitions[XBOOTLDR].Number != 3 || len(c.Partitions) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	for name, c := range map[string]struct {
		r    ram
		none bool
	}{
		"empty":          {mbrDisk(), true},
		"zeros":          {make(ram, 5000), true},
		"short":          {make(ram, 511), true},
		"boot code":      {mbrDisk(entry(0x42, 0x83, 8, 8)), true},
		"only holes":     {mbrDisk(entry(0, 0, 8, 8)), true},
		"overlap":        {mbrDisk(entry(0, 0x83, 8, 8), entry(0, 0x83, 15, 8)), false},
		"outside":        {mbrDisk(entry(0, 0x83, 8, 57)), false},
		"overflow":       {mbrDisk(entry(0, 0x83, 0xffffffff, 0xffffffff)), false},
		"over the table": {mbrDisk(entry(0, 0x83, 0, 8)), false},
		"nothing in it":  {mbrDisk(entry(0, 0x83, 8, 0)), false},
	} {
		if got, err := c.r.read(); err == nil || errors.Is(err, ErrNoTable) != c.none {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestDiskThatEndsEarly(t *testing.T) {
	t.Parallel()
	r := write(t, sample(t, 512))
	if got, err := Read(r[:700], int64(len(r))); err == nil || errors.Is(err, ErrNoTable) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Read(r, 1<<62); err == nil {
		t.Errorf("%+v", got)
	}
	// Of a truncated file the table is good, but not its partitions.
	if got, err := Read(r, 4096); err == nil {
		t.Errorf("%+v", got)
	}
}
