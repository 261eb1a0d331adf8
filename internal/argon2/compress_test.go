package argon2

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// FuzzCompress compares the block compressions with each other.
func FuzzCompress(f *testing.F) {
	f.Add([]byte(nil), uint64(0), false)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, uint64(1), true)
	for seed := range uint64(64) {
		f.Add([]byte("seed"), seed, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, xor bool) {
		var x, y, old block
		r := rand.New(rand.NewPCG(seed, 0))
		for i := range x {
			x[i], y[i], old[i] = r.Uint64(), r.Uint64(), r.Uint64()
		}
		for i := 0; i < blockWords && 8*i+8 <= len(data); i++ {
			x[i] = binary.LittleEndian.Uint64(data[8*i:])
		}
		for name, c := range compressors() {
			z, got, want := new(block), old, old
			compressGeneric(&want, &x, &y, new(block), xor)
			if c(&got, &x, &y, z, xor); got != want {
				t.Errorf("%s differs from generic", name)
			}
			// The generators of Argon2i store over their input.
			got = y
			compressGeneric(&want, &x, &y, new(block), false)
			if c(&got, &x, &got, z, false); got != want {
				t.Errorf("%s, in place, differs from generic", name)
			}
		}
	})
}

func BenchmarkCompress(b *testing.B) {
	for name, c := range compressors() {
		b.Run(name, func(b *testing.B) {
			var out, x, y, z block
			b.SetBytes(blockSize)
			for b.Loop() {
				c(&out, &x, &y, &z, true)
			}
		})
	}
}
