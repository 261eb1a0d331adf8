package squashfs

import (
	"container/list"
	"errors"
	"sync"
)

// blockKey is what a block of the image is kept by. A data block's size comes
// from who refers to it, so it belongs to the key; for metadata it is 0.
type blockKey struct {
	at   int64
	word uint32
}

// block is a block once decompressed, which nobody changes; next is the
// position behind a metadata block.
type block struct {
	data []byte
	next int64
}

// cache keeps the blocks used last, up to a number of bytes. Whoever wants a
// block that another goroutine is loading waits for that one.
type cache struct {
	limit int

	mu     sync.Mutex
	used   int
	recent *list.List // of *cached, the one used last in front
	found  map[blockKey]*list.Element
}

type cached struct {
	block
	key  blockKey
	err  error
	done chan struct{} // closed when block and err are set
}

// cost is what keeping the block takes. Blocks may be empty, yet not for free.
func (c *cached) cost() int { return cap(c.data) + 256 }

func newCache(limit int) *cache {
	return &cache{limit: limit, recent: list.New(), found: map[blockKey]*list.Element{}}
}

// get returns the block of this key, loading it if need be.
func (c *cache) get(key blockKey, load func() (block, error)) (block, error) {
	c.mu.Lock()
	if e, ok := c.found[key]; ok {
		c.recent.MoveToFront(e)
		c.mu.Unlock()
		entry := e.Value.(*cached)
		<-entry.done
		return entry.block, entry.err
	}
	entry := &cached{key: key, done: make(chan struct{}), err: errors.New("loading ended early")}
	e := c.recent.PushFront(entry)
	c.found[key] = e
	c.mu.Unlock()

	// Deferred, so that a panic does not leave others waiting.
	defer c.settle(e, entry)
	b, err := load()
	entry.block, entry.err = b, err
	return b, err
}

// settle accounts for a block that was loaded, and forgets errors: the reader
// may do better next time.
func (c *cache) settle(e *list.Element, entry *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(entry.done)
	if entry.err != nil {
		c.drop(e)
		return
	}
	c.used += entry.cost()
	for last := c.recent.Back(); c.used > c.limit && last != nil && last != e; last = c.recent.Back() {
		if !c.evict(last) {
			break
		}
	}
}

// evict drops a block, but not one that is being loaded.
func (c *cache) evict(e *list.Element) bool {
	entry := e.Value.(*cached)
	select {
	case <-entry.done:
		c.used -= entry.cost()
		c.drop(e)
		return true
	default:
		return false
	}
}

func (c *cache) drop(e *list.Element) {
	c.recent.Remove(e)
	delete(c.found, e.Value.(*cached).key)
}
