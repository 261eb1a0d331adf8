package verity

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// chunkBytes is what a worker reads at once.
const chunkBytes = 1 << 20

// chunkBlocks is how many blocks that are.
func (s *Superblock) chunkBlocks() uint64 { return uint64(max(chunkBytes/s.DataBlockSize, 1)) }

// workersFor is how many workers take part in work on so many chunks; less than
// one asked for are as many as there are processors.
func workersFor(asked int, chunks uint64) int {
	if asked < 1 {
		asked = runtime.GOMAXPROCS(0)
	}
	return int(min(uint64(asked), chunks))
}

// Verify reads all of the data, and with it all of the tree, with a number of
// workers at once; 0 is one for each processor. Each has a buffer of 1 MiB. The
// error is that of the first corrupt block, or the context's.
func (r *Reader) Verify(ctx context.Context, workers int) error {
	step := r.super.chunkBlocks()
	chunks := (r.super.DataBlocks + step - 1) / step
	var next atomic.Uint64
	var first firstError
	var group sync.WaitGroup
	for range workersFor(workers, chunks) {
		group.Go(func() {
			buffer := make([]byte, min(step, r.super.DataBlocks)*uint64(r.super.DataBlockSize))
			for !first.failed() && ctx.Err() == nil {
				chunk := next.Add(1) - 1
				if chunk >= chunks {
					return
				}
				n := min(step, r.super.DataBlocks-chunk*step) * uint64(r.super.DataBlockSize)
				_, err := r.ReadAt(buffer[:n], int64(chunk*step)*int64(r.super.DataBlockSize))
				first.note(chunk, err)
			}
		})
	}
	group.Wait()
	if first.err != nil {
		return first.err
	}
	return ctx.Err()
}

// firstError keeps the error of the first of many chunks. As they are handed out
// in order, and all that were are finished, none before it is left out.
type firstError struct {
	mu    sync.Mutex
	chunk uint64
	err   error
}

func (f *firstError) note(chunk uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && (f.err == nil || chunk < f.chunk) {
		f.chunk, f.err = chunk, err
	}
}

func (f *firstError) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err != nil
}
