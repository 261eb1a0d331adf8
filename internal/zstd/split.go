package zstd

// A block's symbols are written with codes of the block's own. Where the symbols
// change, two blocks with codes that fit are shorter than one, though each has to
// describe its codes.

// Pieces of a block between which it may be divided, and sequences in a piece.
const (
	pieceMax  = 32
	pieceSize = 80
)

// The symbols of all four kinds are counted in one list.
const (
	literalsAt = 0
	lengthsAt  = literalsAt + 256
	matchesAt  = lengthsAt + 36
	offsetsAt  = matchesAt + 53
	kindsEnd   = offsetsAt + 32
)

// What describing codes takes, about, in 256ths of a bit: for the symbols that are
// in use, of literals and of the others; and for each block.
const (
	literalCode256 = 7 * bit / 2
	otherCode256   = 4 * bit
	headers256     = 12 * 8 * bit
)

type tally [kindsEnd]uint32

// part is a block in the making: sequences up to one, and literals up to one.
type part struct{ sequences, literals int }

// splitter finds out how to divide a block.
type splitter struct {
	upTo  [pieceMax + 1]tally // of the pieces before
	ends  [pieceMax + 1]part
	parts []part
}

// split returns the parts of a block that together are likely to be shortest.
func (s *splitter) split(list []sequence, literals []byte) []part {
	s.parts = append(s.parts[:0], part{len(list), len(literals)})
	pieces := min(len(list)/pieceSize, pieceMax)
	if pieces < 2 {
		return s.parts
	}
	s.count(list, literals, pieces)
	var costs [pieceMax + 1]int64
	var from [pieceMax + 1]int
	for end := 1; end <= pieces; end++ {
		costs[end] = 1 << 60
		for start := range end {
			if c := costs[start] + s.cost(start, end); c < costs[end] {
				costs[end], from[end] = c, start
			}
		}
	}
	for at := from[pieces]; at > 0; at = from[at] {
		s.parts = append(s.parts, s.ends[at])
	}
	for i, j := 0, len(s.parts)-1; i < j; i, j = i+1, j-1 {
		s.parts[i], s.parts[j] = s.parts[j], s.parts[i]
	}
	return s.parts
}

// count counts the symbols of pieces with equally many sequences.
func (s *splitter) count(list []sequence, literals []byte, pieces int) {
	at := 0
	s.upTo[0], s.ends[0] = tally{}, part{}
	for i := range pieces {
		t := &s.upTo[i+1]
		*t = s.upTo[i]
		end := len(list) * (i + 1) / pieces
		begin := at
		for _, q := range list[s.ends[i].sequences:end] {
			at += q.literals
			t[lengthsAt+int(literalCode(q.literals))]++
			t[matchesAt+int(matchCode(q.length))]++
			t[offsetsAt+int(offsetCode(q.value))]++
		}
		if i+1 == pieces {
			at = len(literals)
		}
		for _, c := range literals[begin:at] {
			t[literalsAt+int(c)]++
		}
		s.ends[i+1] = part{end, at}
	}
}

// cost is about how many 256ths of a bit a block of these pieces takes, but for
// the extra bits, which are the same in every block.
func (s *splitter) cost(start, end int) int64 {
	before, after := &s.upTo[start], &s.upTo[end]
	sum := int64(headers256)
	for _, k := range [...]struct{ from, to, code int }{
		{literalsAt, lengthsAt, literalCode256}, {lengthsAt, matchesAt, otherCode256}, {matchesAt, offsetsAt, otherCode256}, {offsetsAt, kindsEnd, otherCode256},
	} {
		total := int64(0)
		for i := k.from; i < k.to; i++ {
			n := after[i] - before[i]
			if n == 0 {
				continue
			}
			total += int64(n)
			sum += int64(k.code) - int64(n)*int64(logarithm(n))
		}
		if total > 0 {
			sum += total * int64(logarithm(uint32(total)))
		}
	}
	return sum
}
