package argon2

import (
	"context"
	"sync"
	"sync/atomic"
)

const (
	sliceCount = 4 // a pass has four; lanes wait for each other between them

	// chunk is how many blocks of a lane are filled in one go: a fraction of a
	// millisecond, after which other lanes have their turn and a cancelled
	// context is noticed. It is also how far memory is faulted in ahead of use,
	// little enough to be still in the cache when it is.
	chunk = 256

	// interleave is how many lanes one goroutine fills alternately at most. While
	// it works on one, the block that the other needs next comes in from memory.
	interleave = 2
)

// filler does the passes over the memory of one derivation.
type filler struct {
	lanes    []lane
	columns  uint32 // blocks of a lane
	segment  uint32 // blocks of a lane in one slice
	passes   uint32
	variant  Variant
	workers  int // goroutines
	compress compressFunc

	page    []byte  // what follows lies in here
	blocks  []block // lane after lane
	scratch []block // one for each worker
}

// lane is one row of the memory and how far it has come. One goroutine at a time
// works on it.
type lane struct {
	index   uint32
	column  uint32 // next to fill, counted from the start of the slice
	ref     *block // its reference block
	backed  uint32 // blocks, from the start of the lane, with memory behind them
	chooser chooser
}

// moment is a place in time: lanes wait for each other before the next one.
type moment struct{ pass, slice uint32 }

func newFiller(p Params, workers int, c compressFunc) *filler {
	segment := p.MemoryKiB / (sliceCount * uint32(p.Threads))
	f := &filler{
		lanes:    make([]lane, p.Threads),
		columns:  sliceCount * segment,
		segment:  segment,
		passes:   p.Time,
		variant:  p.Variant,
		workers:  workers,
		compress: c,
	}
	for i := range f.lanes {
		f.lanes[i].index = uint32(i)
	}
	return f
}

// total returns the number of blocks of all lanes.
func (f *filler) total() uint32 { return uint32(len(f.lanes)) * f.columns }

// size returns how much memory the filler needs, in bytes.
func (f *filler) size() uint64 { return (uint64(f.total()) + uint64(f.workers)) * blockSize }

// use sets the memory, of that size, zero, and starting at a page.
func (f *filler) use(page []byte) {
	all := blocksOf(page)
	f.page, f.blocks, f.scratch = page, all[:f.total()], all[f.total():]
}

// at returns a block by its lane and column.
func (f *filler) at(lane, column uint32) *block {
	return &f.blocks[int(lane)*int(f.columns)+int(column)]
}

// populate makes sure that the blocks of a lane up to column end have memory.
func (f *filler) populate(l *lane, end uint32) error {
	if end <= l.backed {
		return nil
	}
	start := int(l.index) * int(f.columns)
	if err := populate(f.page, (start+int(l.backed))*blockSize, (start+int(end))*blockSize); err != nil {
		return err
	}
	l.backed = end
	return nil
}

// fill does all passes. It returns early when ctx ends or memory runs out.
func (f *filler) fill(ctx context.Context) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for pass := range f.passes {
		for slice := range uint32(sliceCount) {
			f.fillSlice(inner, cancel, moment{pass, slice})
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := context.Cause(inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillSlice fills one slice of all lanes, or cancels the context and stops.
func (f *filler) fillSlice(ctx context.Context, cancel context.CancelCauseFunc, m moment) {
	var left atomic.Int32
	left.Store(int32(len(f.lanes)))
	queue := make(chan *lane, len(f.lanes))
	for i := range f.lanes {
		queue <- &f.lanes[i]
	}
	var wg sync.WaitGroup
	for i := range f.workers {
		w := worker{f, m, &f.scratch[i], queue, &left}
		wg.Go(func() {
			if err := w.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
}

// worker is one goroutine of a slice. Workers take lanes from a queue, fill a
// chunk of them and put them back, so that all finish at about the same time
// whatever the numbers of lanes and processors are.
type worker struct {
	*filler
	moment
	z     *block
	queue chan *lane
	left  *atomic.Int32 // lanes that are not filled yet
}

func (w *worker) run(ctx context.Context) error {
	most := min(interleave, (len(w.lanes)+w.workers-1)/w.workers)
	group := make([]*lane, 0, interleave)
	for {
		group = w.take(ctx, group[:0], most)
		if len(group) == 0 {
			return ctx.Err()
		}
		if err := w.fillChunk(group); err != nil {
			return err
		}
		for _, l := range group {
			w.put(l)
		}
	}
}

// take appends lanes to group: at least one, unless all are done or ctx ends.
func (w *worker) take(ctx context.Context, group []*lane, most int) []*lane {
	if ctx.Err() != nil {
		return group
	}
	select {
	case l, ok := <-w.queue:
		if !ok {
			return group
		}
		group = append(group, l)
	case <-ctx.Done():
		return group
	}
	for len(group) < most {
		select {
		case l, ok := <-w.queue:
			if !ok {
				return group
			}
			group = append(group, l)
		default:
			return group
		}
	}
	return group
}

// put returns a lane to the queue, or closes that after the last one.
func (w *worker) put(l *lane) {
	if l.column < w.segment {
		w.queue <- l
		return
	}
	l.column = 0 // for the next slice
	if w.left.Add(-1) == 0 {
		close(w.queue)
	}
}

// fillChunk fills the next blocks of each lane, taking turns.
func (w *worker) fillChunk(group []*lane) error {
	for _, l := range group {
		if l.column == 0 {
			w.begin(l)
		}
		if err := w.populate(l, w.slice*w.segment+min(l.column+chunk, w.segment)); err != nil {
			return err
		}
		if l.column < w.segment {
			w.choose(l)
		}
	}
	for i := range uint32(chunk) {
		idle := true
		for _, l := range group {
			if l.column == w.segment {
				continue
			}
			idle = false
			w.fillBlock(l)
			if l.column++; i < chunk-1 && l.column < w.segment {
				w.choose(l)
			}
		}
		if idle {
			break
		}
	}
	return nil
}

// fillBlock fills the next block of a lane.
func (w *worker) fillBlock(l *lane) {
	out, prev := w.here(l)
	w.compress(out, prev, l.ref, w.z, w.pass > 0)
}

// here returns the next block of a lane to fill and the one before it.
func (w *worker) here(l *lane) (out, prev *block) {
	column := w.slice*w.segment + l.column
	before := column - 1
	if column == 0 {
		before = w.columns - 1
	}
	return w.at(l.index, column), w.at(l.index, before)
}

// wipe zeroes all memory that was used, in parallel: there may be much of it.
func (f *filler) wipe() {
	var next atomic.Int32
	var wg sync.WaitGroup
	for range f.workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(f.lanes); i = int(next.Add(1)) - 1 {
				clear(f.blocks[i*int(f.columns):][:f.lanes[i].backed])
			}
		})
	}
	wg.Wait()
	clear(f.scratch)
}
