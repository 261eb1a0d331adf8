package argon2

// chooser generates the pseudo-random numbers that do not depend on memory
// content, 128 at a time.
type chooser struct {
	on            bool
	input, output block
}

// The words of a chooser's input, by RFC 9106 section 3.4.1.2.
const (
	wordPass = iota
	wordLane
	wordSlice
	wordTotal
	wordPasses
	wordVariant
	wordCounter
)

// begin prepares a lane for a new slice.
func (w *worker) begin(l *lane) {
	if w.pass == 0 && w.slice == 0 {
		l.column = 2 // the first two are given
	}
	c := &l.chooser
	c.on = w.variant == I || w.pass == 0 && w.slice < sliceCount/2
	if !c.on {
		return
	}
	c.input = block{
		wordPass:    uint64(w.pass),
		wordLane:    uint64(l.index),
		wordSlice:   uint64(w.slice),
		wordTotal:   uint64(w.total()),
		wordPasses:  uint64(w.passes),
		wordVariant: uint64(w.variant),
	}
	if l.column > 0 {
		w.refill(c)
	}
}

// refill generates the next 128 numbers.
func (w *worker) refill(c *chooser) {
	var zero block
	c.input[wordCounter]++
	w.compress(&c.output, &zero, &c.input, w.z, false)
	w.compress(&c.output, &zero, &c.output, w.z, false)
}

// choose finds the reference block of a lane's next block, and lets it come.
func (w *worker) choose(l *lane) {
	var random uint64
	if c := &l.chooser; c.on {
		if l.column%blockWords == 0 {
			w.refill(c)
		}
		random = c.output[l.column%blockWords]
	} else {
		_, prev := w.here(l)
		random = prev[0]
	}
	from := uint32((random >> 32) % uint64(len(w.lanes)))
	if w.pass == 0 && w.slice == 0 {
		from = l.index
	}
	first, count := w.window(l, from == l.index)
	// The square makes recent blocks likelier.
	x := random & 0xffffffff
	x = x * x >> 32
	back := uint64(count) * x >> 32
	column := (uint64(first) + uint64(count) - 1 - back) % uint64(w.columns)
	l.ref = w.at(from, uint32(column))
	prefetch(l.ref)
}

// window returns the blocks of a lane that may be referenced, as the first
// column and how many follow it, wrapping at the end: those of the last three
// full slices (as many as exist in the first pass), and in the same lane those
// of this slice too, but never the block before the one to fill.
func (w *worker) window(l *lane, same bool) (first, count uint32) {
	if w.pass > 0 {
		first = (w.slice + 1) % sliceCount * w.segment
		count = (sliceCount - 1) * w.segment
	} else {
		count = w.slice * w.segment
	}
	if same {
		return first, count + l.column - 1
	}
	if l.column == 0 {
		count--
	}
	return first, count
}
