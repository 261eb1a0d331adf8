package argon2

import "golang.org/x/sys/cpu"

// compressor returns the fastest block compression that this processor runs.
func compressor() compressFunc {
	if cpu.X86.HasAVX2 {
		return compressAVX2
	}
	return compressGeneric
}

// compressAVX2 does what compressGeneric does, with AVX2 instructions.
//
//go:noescape
func compressAVX2(out, x, y, z *block, xor bool)

// prefetch asks the processor to bring a block into its caches.
//
//go:noescape
func prefetch(b *block)
