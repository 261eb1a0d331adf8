package verity

import (
	"container/list"
	"sync"
)

// cache keeps the verified hash blocks that were used last. It is safe for
// concurrent use; the blocks are never changed.
type cache struct {
	mu     sync.Mutex
	room   int
	blocks map[uint64]*list.Element
	used   *list.List // of entry, the last used one in front
}

type entry struct {
	at    uint64
	block []byte
}

func newCache(room int) *cache {
	return &cache{room: room, blocks: map[uint64]*list.Element{}, used: list.New()}
}

func (c *cache) get(at uint64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.blocks[at]
	if !ok {
		return nil
	}
	c.used.MoveToFront(e)
	return e.Value.(entry).block
}

func (c *cache) put(at uint64, block []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.blocks[at]; ok { // by another worker, meanwhile
		return
	}
	c.blocks[at] = c.used.PushFront(entry{at, block})
	if c.used.Len() > c.room {
		oldest := c.used.Back()
		c.used.Remove(oldest)
		delete(c.blocks, oldest.Value.(entry).at)
	}
}
