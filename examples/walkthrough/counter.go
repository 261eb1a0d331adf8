package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"syscall"
)

// counter is a number in a file that goes up by one for each visitor. A number is
// handed out only when it is on the disk, and never twice.
//
// The file has two slots, and the higher valid one counts. Each update overwrites the
// other one, so that whatever happens meanwhile the last number is still there. As the
// file never grows, it goes on counting when the disk is full.
type counter struct {
	file   file
	n      uint64 // the last number that is on the disk
	slot   int64  // where that is
	visits chan chan<- visit
	closed chan struct{}
}

type visit struct {
	n   uint64
	err error
}

// file is what a counter needs of an *os.File.
type file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

// Each slot is a line of text at the start of a block of its own.
const (
	slotSize   = 4096
	slotFormat = "%020d %08x\n"
	slotLength = 20 + 1 + 8 + 1
)

func encode(n uint64) []byte {
	sum := crc32.ChecksumIEEE(fmt.Appendf(nil, "%020d", n))
	return fmt.Appendf(nil, slotFormat, n, sum)
}

func decode(slot []byte) (uint64, bool) {
	var n uint64
	if _, err := fmt.Sscanf(string(slot), "%d ", &n); err != nil {
		return 0, false
	}
	return n, string(encode(n)) == string(slot)
}

// openCounter opens the file at the path, or makes it. No two processes can have
// it open at a time.
func openCounter(path string) (*counter, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("making the counter: %w", err)
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
	}
	c, err := newCounter(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading %s: %w", path, err), f.Close())
	}
	return c, nil
}

// create makes a counter that stands at 0. It appears complete or not at all.
func create(path string) error {
	blank := make([]byte, 2*slotSize)
	for i := range blank {
		blank[i] = '\n'
	}
	copy(blank, encode(0))
	copy(blank[slotSize:], encode(0))
	f, err := os.CreateTemp(filepath.Dir(path), ".visitors-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // not there any more if all went well
	_, err = f.Write(blank)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// A link, unlike a renaming, never replaces a counter that another process made.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// newCounter reads a counter and starts the goroutine that keeps it.
func newCounter(f file) (*counter, error) {
	c := &counter{file: f, slot: -1, visits: make(chan chan<- visit), closed: make(chan struct{})}
	for i := range int64(2) {
		slot := make([]byte, slotLength)
		if _, err := f.ReadAt(slot, i*slotSize); err != nil && err != io.EOF {
			return nil, err
		}
		if n, ok := decode(slot); ok && (c.slot < 0 || n > c.n) {
			c.n, c.slot = n, i
		}
	}
	if c.slot < 0 {
		// Better no service than one that counts from the start again.
		return nil, errors.New("no valid number in it")
	}
	go c.keep()
	return c, nil
}

// next counts a visitor. It is safe for concurrent use, but not after close.
func (c *counter) next() (uint64, error) {
	answer := make(chan visit, 1)
	c.visits <- answer
	v := <-answer
	return v.n, v.err
}

func (c *counter) close() error {
	close(c.visits)
	<-c.closed
	return c.file.Close()
}

// keep counts visitors until close. All that have come while the disk was busy are
// counted with one write.
func (c *counter) keep() {
	defer close(c.closed)
	for first := range c.visits {
		batch := []chan<- visit{first}
		for more := true; more; {
			select {
			case next, ok := <-c.visits:
				if more = ok; ok {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		before := c.n
		err := c.store(before + uint64(len(batch)))
		if err != nil {
			log.Print(err)
		}
		for i, answer := range batch {
			if err != nil {
				answer <- visit{err: err}
			} else {
				answer <- visit{n: before + uint64(i) + 1}
			}
		}
	}
}

// store writes the number to the slot that does not have the last one. If that
// fails the slot is written again the next time, and the other one stays as it is.
func (c *counter) store(n uint64) error {
	slot := 1 - c.slot
	_, err := c.file.WriteAt(encode(n), slot*slotSize)
	if err == nil {
		err = c.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("storing the count: %w", err)
	}
	c.n, c.slot = n, slot
	return nil
}
