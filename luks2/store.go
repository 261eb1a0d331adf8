package luks2

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// Store is where a header lives: a [File], or a slice of bytes in tests. Sync
// returns when everything written before is on stable storage.
type Store interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Locker is a [Store] that other programs may work on. Lock takes the lock
// that libcryptsetup takes for the same store, shared for reading or exclusive
// for writing, and returns the function that gives it back.
type Locker interface {
	Lock(ctx context.Context, exclusive bool) (unlock func(), err error)
}

// Sizer is a [Store] that knows its size in bytes.
type Sizer interface {
	Size() (int64, error)
}

func lock(ctx context.Context, s Store, exclusive bool) (func(), error) {
	l, ok := s.(Locker)
	if !ok {
		return func() {}, ctx.Err()
	}
	unlock, err := l.Lock(ctx, exclusive)
	if err != nil {
		return nil, fmt.Errorf("locking the header: %w", err)
	}
	return unlock, nil
}

// Memory is a [Store] in a slice of bytes, safe for concurrent use. It does not
// grow: writing past its end fails.
type Memory struct {
	mu sync.RWMutex
	b  []byte
}

// NewMemory returns a store over b, which it takes over.
func NewMemory(b []byte) *Memory { return &Memory{b: b} }

// ReadAt is io.ReaderAt.
func (m *Memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if off < 0 || off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt is io.WriterAt.
func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if off < 0 || off+int64(len(p)) > int64(len(m.b)) {
		return 0, io.ErrShortWrite
	}
	return copy(m.b[off:], p), nil
}

// Sync does nothing.
func (m *Memory) Sync() error { return nil }

// Size returns the length of the slice.
func (m *Memory) Size() (int64, error) { return int64(len(m.b)), nil }
