package zstd

import "math/bits"

// Finite state entropy (RFC 8878, 4.1): symbols have shares of the states of a
// table. To write one takes few bits if its share is large.

// shares are those of the symbols. A share of -1 is one state at the table's end.
type shares struct {
	log uint // the table has 1<<log states
	of  []int16
}

// share divides a table among symbols that came so often. No share of a symbol
// that came is 0.
func share(counts []uint32, total uint32, log uint) shares {
	s := shares{log, make([]int16, len(counts))}
	size := int64(1) << log
	left := size
	for i, n := range counts {
		if n == 0 {
			continue
		}
		s.of[i] = int16(max(1, (int64(n)*size+int64(total)/2)/int64(total)))
		left -= int64(s.of[i])
	}
	for ; left > 0; left-- {
		s.of[s.neediest(counts, 1)]++
	}
	for ; left < 0; left++ {
		s.of[s.neediest(counts, -1)]--
	}
	return s
}

// neediest is the symbol for which a state more gains most, or a state less
// costs least.
func (s shares) neediest(counts []uint32, change int) int {
	best, bestGain := -1, int64(0)
	for i, n := range counts {
		have := int(s.of[i])
		if n == 0 || have+change < 1 {
			continue
		}
		gain := int64(n) * int64(logarithm(uint32(have+change)<<8)-logarithm(uint32(have)<<8))
		if best < 0 || gain > bestGain {
			best, bestGain = i, gain
		}
	}
	return best
}

// cost is about how many 256ths of a bit the symbols take, without the table.
func (s shares) cost(counts []uint32) int64 {
	total := int64(0)
	for i, n := range counts {
		if n == 0 {
			continue
		}
		if i >= len(s.of) || s.of[i] == 0 {
			return 1 << 60
		}
		have := max(s.of[i], 1)
		total += int64(n) * int64(int32(s.log)*bit-logarithm(uint32(have)))
	}
	return total
}

// appendTo appends the description of the shares (RFC 8878, 4.1.1).
func (s shares) appendTo(dst []byte) []byte {
	w := &bitWriter{out: dst}
	w.add(uint64(s.log-5), 4)
	left, width := 1<<s.log+1, s.log+1
	for i := 0; left > 1; i++ {
		of := int(s.of[i])
		value, threshold := of+1, 1<<(width-1)
		spare := 2*threshold - 1 - left // so many of the values take a bit less
		if left -= max(of, -of); value >= threshold {
			value += spare
		}
		if value < spare {
			w.add(uint64(value), width-1)
		} else {
			w.add(uint64(value), width)
		}
		if of == 0 {
			i += s.zeros(w, i+1)
		}
		for left < 1<<(width-1) {
			width--
		}
	}
	w.flush()
	return w.out
}

// zeros writes how many symbols from i on have no share, in parts of up to 3.
func (s shares) zeros(w *bitWriter, i int) int {
	n := 0
	for s.of[i+n] == 0 {
		n++
	}
	for left := n; ; left -= 3 {
		w.add(uint64(min(left, 3)), 2)
		if left < 3 {
			return n
		}
	}
}

// table is what is needed to write symbols.
type table struct {
	log     uint
	next    []uint16 // states, by symbol and rank
	symbols []change
}

// change is how a symbol changes the state: the bits that go out, times 65536
// and less a bound to be added to the state; and where its next states are.
type change struct{ bits, find int32 }

// newTable spreads the symbols over a table (RFC 8878, 4.1.1).
func newTable(s shares) *table {
	size := 1 << s.log
	spread := s.spread()
	t := &table{log: s.log, next: make([]uint16, size), symbols: make([]change, len(s.of))}
	start := make([]int, len(s.of))
	total := 0
	for i, of := range s.of {
		start[i] = total
		n := max(int(of), -int(of))
		if n == 0 {
			continue
		}
		out := int(s.log)
		if n > 1 {
			out -= bits.Len(uint(n-1)) - 1
		}
		t.symbols[i] = change{int32(out<<16 - n<<out), int32(total - n)}
		total += n
	}
	for state, symbol := range spread {
		t.next[start[symbol]] = uint16(size + state)
		start[symbol]++
	}
	return t
}

// spread is which symbol each state has.
func (s shares) spread() []uint8 {
	size := 1 << s.log
	out := make([]uint8, size)
	high := size - 1
	for i, of := range s.of {
		if of < 0 {
			out[high] = uint8(i)
			high--
		}
	}
	step, at := size>>1+size>>3+3, 0
	for i, of := range s.of {
		for range of {
			out[at] = uint8(i)
			for at = (at + step) & (size - 1); at > high; {
				at = (at + step) & (size - 1)
			}
		}
	}
	return out
}

// start is a state in which a symbol was written.
func (t *table) start(symbol uint8) uint32 {
	c := t.symbols[symbol]
	out := uint32(c.bits+1<<15) >> 16
	return uint32(t.next[int32((out<<16-uint32(c.bits))>>out)+c.find])
}

// write writes a symbol and returns the next state.
func (t *table) write(w *bitWriter, state uint32, symbol uint8) uint32 {
	c := t.symbols[symbol]
	out := (state + uint32(c.bits)) >> 16
	w.add(uint64(state&(1<<out-1)), uint(out))
	return uint32(t.next[int32(state>>out)+c.find])
}

// finish writes the last state.
func (t *table) finish(w *bitWriter, state uint32) { w.add(uint64(state&(1<<t.log-1)), t.log) }
