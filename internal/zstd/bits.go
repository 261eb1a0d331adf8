package zstd

// bitWriter appends bits, the lowest first.
type bitWriter struct {
	out  []byte
	bits uint64
	n    uint // bits that are pending, less than 32
}

// add appends the low n bits of v, which has no others; n is at most 32.
func (w *bitWriter) add(v uint64, n uint) {
	w.bits |= v << w.n
	w.n += n
	if w.n >= 32 {
		w.out = le.AppendUint32(w.out, uint32(w.bits))
		w.bits >>= 32
		w.n -= 32
	}
}

// flush appends what is pending, filled up with zeros.
func (w *bitWriter) flush() {
	for n := w.n; n > 0; n -= min(n, 8) {
		w.out = append(w.out, byte(w.bits))
		w.bits >>= 8
	}
	w.bits, w.n = 0, 0
}
