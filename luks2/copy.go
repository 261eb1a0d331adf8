package luks2

import (
	"context"
	"fmt"
	"io"
	"runtime"
)

// CopyTo writes the whole plaintext to w, decrypting pieces of the given size
// on all processors. It stops when the context ends.
func (r *Reader) CopyTo(ctx context.Context, w io.Writer, piece int) error {
	type result struct {
		b   []byte
		err error
	}
	workers := runtime.GOMAXPROCS(0)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Each piece has a channel of its own in the queue, which keeps their order
	// and bounds how far the workers run ahead.
	queue := make(chan chan result, workers)
	go func() {
		defer close(queue)
		for at := int64(0); at < r.size && ctx.Err() == nil; at += int64(piece) {
			done := make(chan result, 1)
			select {
			case queue <- done:
			case <-ctx.Done():
				return
			}
			go func() {
				b := make([]byte, min(int64(piece), r.size-at))
				_, err := r.ReadAt(b, at)
				done <- result{b, err}
			}()
		}
	}()
	for done := range queue {
		got := <-done
		if got.err != nil {
			return got.err
		}
		if _, err := w.Write(got.b); err != nil {
			return fmt.Errorf("writing the plaintext: %w", err)
		}
	}
	return ctx.Err()
}
