package zstd

// Modes of the tables of a section of sequences.
const (
	modePredefined = 0
	modeRLE        = 1
	modeFSE        = 2
)

// field is one of the three numbers of sequences, with the symbols of a block.
type field struct {
	predefined shares
	table      *table // of the predefined shares
	maxLog     uint

	codes  []uint8
	counts []uint32
}

// sections writes sections of sequences.
type sections struct {
	literals, offset, match field
	ready                   bool
}

// prepare sets the shares that need not be written (RFC 8878, 3.1.1.3.2.2).
func (s *sections) prepare() {
	if s.ready {
		return
	}
	s.ready = true
	fill := func(total int, head []int16, low int) []int16 {
		for len(head) < total {
			head = append(head, 1)
		}
		for i := total - low; i < total; i++ {
			head[i] = -1
		}
		return head
	}
	s.literals = field{maxLog: 9, predefined: shares{6, fill(36,
		[]int16{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2}, 4)}}
	s.match = field{maxLog: 9, predefined: shares{6, fill(53, []int16{1, 4, 3, 2, 2, 2, 2, 2, 2}, 7)}}
	s.offset = field{maxLog: 8, predefined: shares{5, fill(29, []int16{1, 1, 1, 1, 1, 1, 2, 2, 2}, 5)}}
	for _, f := range []*field{&s.literals, &s.match, &s.offset} {
		f.table = newTable(f.predefined)
	}
}

// append appends a section.
func (s *sections) append(dst []byte, list []sequence) []byte {
	switch n := len(list); {
	case n == 0:
		return append(dst, 0)
	case n < 128:
		dst = append(dst, byte(n))
	case n < 0x7f00:
		dst = append(dst, byte(n>>8+128), byte(n))
	default:
		dst = le.AppendUint16(append(dst, 255), uint16(n-0x7f00))
	}
	s.prepare()
	s.encode(list)
	modes := len(dst)
	dst = append(dst, 0)
	var tables [3]*table
	for i, f := range []*field{&s.literals, &s.offset, &s.match} {
		var mode byte
		dst, tables[i], mode = f.choose(dst)
		dst[modes] |= mode << (6 - 2*i)
	}
	return s.stream(dst, list, tables)
}

// encode turns the numbers into symbols.
func (s *sections) encode(list []sequence) {
	s.literals.codes, s.offset.codes, s.match.codes = s.literals.codes[:0], s.offset.codes[:0], s.match.codes[:0]
	for _, q := range list {
		s.literals.codes = append(s.literals.codes, literalCode(q.literals))
		s.offset.codes = append(s.offset.codes, offsetCode(q.value))
		s.match.codes = append(s.match.codes, matchCode(q.length))
	}
}

// choose finds the table that a block is smallest with, and appends what
// describes it. For the only symbol that there is, it is nil.
func (f *field) choose(dst []byte) ([]byte, *table, byte) {
	f.counts = append(f.counts[:0], make([]uint32, 64)...)
	most, total := 0, uint32(len(f.codes))
	for _, c := range f.codes {
		f.counts[c]++
		most = max(most, int(c))
	}
	counts := f.counts[:most+1]
	if counts[most] == total && total > 2 {
		return append(dst, byte(most)), nil, modeRLE
	}
	best := f.predefined.cost(counts)
	var own *shares
	for log := uint(5); log <= f.maxLog; log++ {
		// Each symbol needs a state; some states to choose from are good, too.
		if used := symbols(counts); used > 1<<log || used < 2 {
			continue
		}
		s := share(counts, total, log)
		if cost := s.cost(counts) + 8*bit*int64(len(s.appendTo(nil))); cost < best {
			best, own = cost, &s
		}
	}
	if own == nil {
		return dst, f.table, modePredefined
	}
	return own.appendTo(dst), newTable(*own), modeFSE
}

func symbols(counts []uint32) (n int) {
	for _, c := range counts {
		if c > 0 {
			n++
		}
	}
	return n
}

// stream appends the bits of the sequences. They are read from the end, so they
// are written from the last to the first.
func (s *sections) stream(dst []byte, list []sequence, tables [3]*table) []byte {
	w := &bitWriter{out: dst}
	codes := [3][]uint8{s.literals.codes, s.offset.codes, s.match.codes}
	var states [3]uint32
	for i := len(list) - 1; i >= 0; i-- {
		for _, k := range [...]int{1, 2, 0} {
			switch t := tables[k]; {
			case t == nil:
			case i == len(list)-1:
				states[k] = t.start(codes[k][i])
			default:
				states[k] = t.write(w, states[k], codes[k][i])
			}
		}
		q, l, m := list[i], codes[0][i], codes[2][i]
		w.add(uint64(uint32(q.literals)-literalCoding.base[l]), uint(literalCoding.extra[l]))
		w.add(uint64(uint32(q.length-minMatch)-matchCoding.base[m]), uint(matchCoding.extra[m]))
		w.add(uint64(q.value&^(1<<codes[1][i])), uint(codes[1][i]))
	}
	for _, k := range [...]int{2, 1, 0} {
		if tables[k] != nil {
			tables[k].finish(w, states[k])
		}
	}
	w.add(1, 1)
	w.flush()
	return w.out
}
