package zstd

// segmentMax is how many positions are weighed before a decision.
const segmentMax = 4096

// node is the cheapest way found to a position of the segment.
type node struct {
	price  int32
	run    int32 // literals since the last match
	length int32 // of the match that leads here, or 0 after a literal
	value  uint32
	reps   [3]uint32
}

const unreached = 1 << 30

// step is a match on the way through a segment.
type step struct {
	at     int // in the segment
	length int
	value  uint32
}

// parse cuts src[from:to] into literals and sequences.
func (e *Encoder) parse(src []byte, from, to int) {
	e.sequence, e.literals = e.sequence[:0], e.literals[:0]
	e.prices.first(src[from:to])
	anchor, pos, priced := from, from, from
	for pos+hashBytes <= to {
		e.gather(src, pos, to, e.reps, pos == anchor)
		if len(e.found) == 0 {
			pos++
			continue
		}
		length := e.segment(src, pos, to, int32(pos-anchor))
		for _, s := range e.path {
			anchor = e.emit(src, anchor, pos+s.at, s)
		}
		pos += length
		if pos-priced > 256 {
			e.prices.update()
			priced = pos
		}
	}
	e.literals = append(e.literals, src[anchor:to]...)
}

// emit notes a sequence and returns the position behind it.
func (e *Encoder) emit(src []byte, anchor, at int, s step) int {
	q := sequence{at - anchor, s.length, s.value}
	_, e.reps = resolve(e.reps, s.value, q.literals == 0)
	e.sequence = append(e.sequence, q)
	e.literals = append(e.literals, src[anchor:at]...)
	e.prices.count(src[anchor:at], q)
	return at + s.length
}

// gather collects matches at a position, each longer than the one before:
// first those of the last offsets, which cost least.
func (e *Encoder) gather(src []byte, pos, to int, reps [3]uint32, noLiterals bool) {
	e.found = e.found[:0]
	best := minMatch - 1
	for value := uint32(1); value <= 3; value++ {
		offset := reps[0] - 1
		if i := value - 1; !noLiterals {
			offset = reps[i]
		} else if i < 2 {
			offset = reps[i+1]
		}
		at := pos - int(offset)
		if offset == 0 || at < 0 || src[at] != src[pos] {
			continue
		}
		if n := matchLen(src, at, pos, to); n > best {
			best = n
			e.found = append(e.found, match{n, value})
		}
	}
	if best >= e.finder.nice {
		return
	}
	e.found = e.finder.find(e.found, pos, to, best)
}

// segment finds the cheapest way from a position where there is a match to one
// that no match found on the way goes past. It leaves its matches in path and
// returns its length.
func (e *Encoder) segment(src []byte, pos, to int, run int32) int {
	nodes, p := e.nodes, &e.prices
	nodes[0] = node{price: p.run(run), run: run, reps: e.reps}
	last, cur := 0, 0
	for {
		if cur > 0 {
			e.arrive(nodes[cur-1:cur+1:cur+1], nodes, cur, p, src[pos+cur-1])
			if cur == last {
				e.trace(cur)
				return cur
			}
			// What a literal reaches for almost nothing is not worth a match.
			if nodes[cur+1].price <= nodes[cur].price+bit {
				cur++
				continue
			}
			e.gather(src, pos+cur, to, nodes[cur].reps, nodes[cur].run == 0)
		}
		if n := len(e.found); n > 0 {
			if m := e.found[n-1]; m.length >= e.finder.nice || cur+m.length >= segmentMax {
				e.trace(cur)
				e.path = append(e.path, step{cur, m.length, m.value})
				return cur + m.length
			}
			last = e.relax(nodes, cur, last)
		}
		cur++
	}
}

// arrive settles how a position is reached: by a literal, if that is cheaper
// than the matches found before.
func (e *Encoder) arrive(two []node, nodes []node, cur int, p *prices, literal byte) {
	before, here := &two[0], &two[1]
	price := before.price + p.literal[literal] + p.run(before.run+1) - p.run(before.run)
	if price <= here.price {
		*here = node{price: price, run: before.run + 1, reps: before.reps}
		return
	}
	from := &nodes[cur-int(here.length)]
	_, here.reps = resolve(from.reps, here.value, from.run == 0)
}

// relax offers the matches in found to the positions they reach, and returns the
// last position that any match reaches.
func (e *Encoder) relax(nodes []node, cur, last int) int {
	p := &e.prices
	base := nodes[cur].price + p.run(0)
	from := minMatch
	for _, m := range e.found {
		for last < cur+m.length {
			last++
			nodes[last].price = unreached
		}
		price := base + p.offset[offsetCode(m.value)]
		reached := nodes[cur : cur+m.length+1]
		for length := m.length; length >= from; length-- {
			n := &reached[length]
			total := price + p.match[length]
			if total >= n.price {
				break
			}
			n.price, n.run, n.length, n.value = total, 0, int32(length), m.value
		}
		from = m.length + 1
	}
	return last
}

// trace leaves the matches on the way to a position in path.
func (e *Encoder) trace(cur int) {
	e.path = e.path[:0]
	for cur > 0 {
		n := &e.nodes[cur]
		if n.length == 0 {
			cur--
			continue
		}
		cur -= int(n.length)
		e.path = append(e.path, step{cur, int(n.length), n.value})
	}
	for i, j := 0, len(e.path)-1; i < j; i, j = i+1, j-1 {
		e.path[i], e.path[j] = e.path[j], e.path[i]
	}
}
