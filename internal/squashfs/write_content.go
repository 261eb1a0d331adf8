package squashfs

import (
	"context"
	"fmt"
	"sync"
)

// content is where the bytes of a regular file are. Duplicates share it.
type content struct {
	start    int64 // of its blocks
	started  bool
	words    []uint32 // of its blocks; 0 is one of zeros
	holes    int64    // bytes in those
	fragment uint32   // that has its end, or none
	offset   uint32   // in the fragment
}

// fragment is where a block of small files and of files' ends is.
type fragment struct {
	at   int64
	word uint32
}

// job is a block on its way from the reader through a worker to the image. There
// is a fixed number of them, which bounds the memory of all that.
type job struct {
	buffer []byte // of the size of a block
	raw    []byte // what of it is in use
	packed []byte
	word   uint32
	err    error
	done   chan struct{} // gets one value when packed is made

	content *content // whose block it is; of a fragment nil
	slot    *uint32  // where the word goes
	passed  int64    // bytes of content that were read since the job before
}

// pipeline is where the jobs are.
type pipeline struct {
	b       *builder
	ctx     context.Context
	free    chan *job
	work    chan *job
	ordered chan *job // as they come in the image
}

// writeContent writes the content of all files. This goroutine writes, another
// one reads, others compress.
func (b *builder) writeContent(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	jobs := 2*b.o.Workers + 4
	p := &pipeline{b, ctx, make(chan *job, jobs), make(chan *job, jobs), make(chan *job, jobs)}
	for range jobs {
		p.free <- &job{buffer: make([]byte, b.o.BlockSize), done: make(chan struct{}, 1)}
	}
	var group sync.WaitGroup
	for range b.o.Workers {
		group.Go(func() { p.compress(cancel) })
	}
	group.Go(func() {
		defer close(p.ordered)
		defer close(p.work)
		if err := newCutter(p).all(); err != nil {
			cancel(err)
		}
	})
	err := p.writeBlocks()
	if err != nil {
		cancel(err)
	}
	group.Wait()
	return context.Cause(ctx)
}

// compress is a worker.
func (p *pipeline) compress(fail func(error)) {
	c, err := p.b.codec.open()
	if err != nil {
		fail(err)
		return
	}
	for j := range p.work {
		if p.ctx.Err() == nil {
			j.packed, j.word, j.err = packBlock(c, j.packed[:0], j.raw)
		}
		j.done <- struct{}{}
	}
}

// packBlock compresses a block, if that makes it smaller, and returns its word.
func packBlock(c encoder, dst, raw []byte) (packed []byte, word uint32, err error) {
	packed, err = c.encode(dst, raw)
	if err != nil {
		return nil, 0, fmt.Errorf("compressing: %w", err)
	}
	if len(packed) >= len(raw) {
		return append(packed[:0], raw...), uint32(len(raw)) | wordPlain, nil
	}
	return packed, uint32(len(packed)), nil
}

// writeBlocks writes jobs in their order, and passes them back.
func (p *pipeline) writeBlocks() error {
	state := Progress{TotalBytes: p.b.sum.Content}
	for {
		j, err := p.next()
		if err != nil {
			return err
		}
		if j == nil {
			state.Bytes = state.TotalBytes
			p.b.progress(state)
			return p.b.out.flush()
		}
		if err := p.place(j); err != nil {
			return err
		}
		state.Bytes += j.passed
		p.free <- j
		p.b.progress(state)
	}
}

func (b *builder) progress(p Progress) {
	if p.Written = b.out.at; b.o.Progress != nil {
		b.o.Progress(p)
	}
}

// next waits for the next job to be compressed. At the end there is none.
func (p *pipeline) next() (*job, error) {
	var j *job
	select {
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	case j = <-p.ordered:
	}
	if j == nil {
		return nil, nil
	}
	select {
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	case <-j.done:
		return j, j.err
	}
}

// place writes a block and notes where it is.
func (p *pipeline) place(j *job) error {
	at := p.b.out.at
	p.b.out.write(j.packed)
	switch {
	case j.content == nil:
		p.b.fragments = append(p.b.fragments, fragment{at, j.word})
	case !j.content.started:
		j.content.start, j.content.started = at, true
		fallthrough
	default:
		*j.slot = j.word
	}
	return p.b.out.err
}
