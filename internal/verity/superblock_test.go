package verity

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestSuperblocksThatAreRefused(t *testing.T) {
	t.Parallel()
	good, err := superblock("sha256", 4096, 4096, 10, "salt").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		at    int
		bytes string
		want  string
	}{
		"magic":          {0, "Verity", "no verity superblock"},
		"version":        {8, "\x02", "version 2"},
		"hash type":      {12, "\x00", "hash type 0"},
		"algorithm":      {32, "md5\x00\x00\x00", `"md5"`},
		"sha1":           {32, "sha1\x00\x00", `"sha1"`},
		"long algorithm": {32, strings.Repeat("a", 32), "hash algorithm"},
		"behind a NUL":   {40, "x", "reserved"},
		"small blocks":   {64, "\x00\x01", "256 bytes"},
		"odd blocks":     {64, "\x01\x10", "4097 bytes"},
		"no blocks":      {68, "\x00\x00", "blocks of 0 bytes"},
		"huge blocks":    {68, "\x00\x00\x00\x80", "2147483648 bytes"},
		"no data":        {72, "\x00", "no data"},
		"much data":      {72, "\xff\xff\xff\xff\xff\xff\xff\xff", "data blocks"},
		"overflow":       {72, "\x01\x00\x00\x00\x00\x00\x10\x00", "data blocks"},
		"long salt":      {80, "\x01\x01", "257 bytes"},
		"padding":        {82, "\x01", "reserved"},
		"behind salt":    {88 + 4, "x", "reserved"},
		"end":            {511, "x", "reserved"},
	} {
		bad := bytes.Clone(good)
		copy(bad[c.at:], c.bytes)
		s, err := ParseSuperblock(bad)
		if err == nil || s != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if _, err := ParseSuperblock(good[:511]); !errors.Is(err, ErrNoSuperblock) {
		t.Error(err)
	}
	if s, err := ParseSuperblock(append(good, 1)); err != nil || s.Algorithm != "sha256" {
		t.Error(err)
	}
	// Large hash blocks of a device that is as large as can be are too many.
	if _, err := superblock("sha512", 512, 512<<10, 1<<51, "").Marshal(); err != nil {
		t.Error(err)
	}
	if _, err := superblock("sha512", 512, 512, 1<<51, "").Marshal(); err != nil {
		t.Error(err)
	}
	for _, s := range []*Superblock{superblock("sha256", 512, 512, 1<<51+1, ""), superblock("sha256", 512, 512, 1, strings.Repeat("x", 257))} {
		if _, err := s.Marshal(); err == nil {
			t.Errorf("%+v is taken", s)
		}
		if _, err := s.TreeSize(); err == nil {
			t.Errorf("%+v is taken", s)
		}
		if _, err := Build(t.Context(), new(ram), new(ram), s, 1); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}

func TestFlippedBitsOfTheSuperblock(t *testing.T) {
	t.Parallel()
	s := superblock("sha256", 512, 1024, 70, "some salt")
	data, tree, root := build(t, s)
	for bit := range SuperblockSize * 8 {
		if bit/8 >= 16 && bit/8 < 32 { // the UUID says nothing about the tree
			continue
		}
		tree[bit/8] ^= 1 << (bit % 8)
		r, err := NewReader(&data, &tree, root)
		if err != nil && r != nil {
			t.Error("a reader comes with an error")
		}
		if err == nil {
			// The number of blocks isn't covered: less can be made of the data, but not more.
			l, err := r.Superblock().layout()
			if err != nil {
				t.Fatal(err)
			}
			if n := r.Superblock().DataBlocks; n == s.DataBlocks || (r.Verify(t.Context(), 1) == nil) != (n < s.DataBlocks && len(l.starts) == 2) {
				t.Errorf("bit %d of byte %d: %d blocks", bit%8, bit/8, n)
			}
		}
		tree[bit/8] ^= 1 << (bit % 8)
	}
}

func FuzzSuperblock(f *testing.F) {
	for _, s := range []*Superblock{superblock("sha256", 4096, 4096, 1000, "salt"), superblock("sha3-512", 512, 1024, 1, "")} {
		b, err := s.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(700))
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		s, err := ParseSuperblock(b)
		if err != nil {
			if s != nil {
				t.Error("a superblock comes with an error")
			}
			return
		}
		again, err := s.Marshal()
		if err != nil || !bytes.Equal(again, b[:SuperblockSize]) {
			t.Errorf("%+v: %v", s, err)
		}
		if size, err := s.TreeSize(); err != nil || size <= 0 || s.DataSize() <= 0 {
			t.Errorf("%+v: %d, %v", s, size, err)
		}
		// Any device is read without harm, and nothing of it believed.
		data, tree := noise(int(n)), ram(b)
		root := make([]byte, map[string]int{"sha384": 48, "sha3-384": 48, "sha512": 64, "sha3-512": 64}[s.Algorithm])
		if len(root) == 0 {
			root = make([]byte, 32)
		}
		if r, err := NewReader(&data, &tree, root); err == nil || r != nil {
			t.Errorf("zeros are the root hash of %+v", s)
		}
	})
}
