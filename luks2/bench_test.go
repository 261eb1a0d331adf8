package luks2_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/lockport/lockport/luks2"
)

// BenchmarkOpen reads a header with eight keyslots and their tokens.
func BenchmarkOpen(b *testing.B) {
	s := luks2.NewMemory(gunzip(b, filepath.Join(vectors, "v257.img.gz")))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := luks2.Open(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVolumeKey opens a keyslot whose derivation costs next to nothing:
// what is left is decrypting and merging its area.
func BenchmarkVolumeKey(b *testing.B) {
	_, h, key := formatted(b, luks2.FormatOptions{KeySize: 64, KDF: luks2.Minimal()})
	pass := text(b, "first")
	b.ReportAllocs()
	for b.Loop() {
		got, err := h.VolumeKey(b.Context(), 0, pass)
		if err != nil || !got.Equal(key) {
			b.Fatal(err)
		}
		got.Wipe()
	}
}

// BenchmarkCommit writes the header of a volume in memory.
func BenchmarkCommit(b *testing.B) {
	_, h, _ := formatted(b, luks2.FormatOptions{})
	for b.Loop() {
		if err := errors.Join(h.SetLabel("x"), h.Commit(b.Context())); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReader decrypts 1 MiB pieces, as a copy of the plaintext does.
func BenchmarkReader(b *testing.B) {
	s, h, key := formatted(b, luks2.FormatOptions{KeySize: 64, SectorSize: 4096})
	r, err := h.NewReader(s, 2<<20, key)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := r.ReadAt(buf, 0); err != nil {
			b.Fatal(err)
		}
	}
}
