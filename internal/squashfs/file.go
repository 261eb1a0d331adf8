package squashfs

import (
	"fmt"
	"io"
	"sync"
)

// A block's word is its size in the image, and a bit if it is stored as it is.
// Size 0 is a block of zeros.
const (
	wordSize  = 1<<24 - 1
	wordPlain = 1 << 24
)

// blocks is how many blocks of its own a file has: its end may be in a fragment.
func (n *inode) blocks() int64 {
	size, full := int64(n.f.super.blockSize), n.size/int64(n.f.super.blockSize)
	if n.fragment == none && n.size%size != 0 {
		return full + 1
	}
	return full
}

// tail is how many bytes of the file are in a fragment.
func (n *inode) tail() int64 {
	if n.fragment == none {
		return 0
	}
	return n.size % int64(n.f.super.blockSize)
}

func (f *FS) checkWord(word uint32) (size int, err error) {
	size = int(word & wordSize)
	if word&^(wordSize|wordPlain) != 0 || size > f.super.blockSize {
		return 0, damage("a block of %d bytes (%#x)", size, word)
	}
	return size, nil
}

// dataBlock returns a block of files' content, which is not a hole.
func (f *FS) dataBlock(at int64, word uint32) ([]byte, error) {
	size := int64(word & wordSize)
	if at < superblockSize || at > f.super.used-size {
		return nil, damage("%d bytes at %d of an image of %d", size, at, f.super.used)
	}
	b, err := f.cache.get(blockKey{at, word}, func() (block, error) {
		data := make([]byte, size)
		if err := f.readFull(data, at); err != nil || word&wordPlain != 0 {
			return block{data: data}, err
		}
		data, err := f.decompress(data, f.super.blockSize)
		return block{data: data}, err
	})
	if err != nil {
		return nil, fmt.Errorf("%d bytes at %d: %w", size, at, err)
	}
	return b.data, nil
}

// part is how many blocks blockList keeps the words of.
const part = 1024

// blockList finds the blocks of a file. Their positions are sums of the sizes
// before, so it reads the list from its start, but keeps only where each part
// begins: the list of a big file need not fit into memory.
type blockList struct {
	n *inode

	mu    sync.Mutex
	parts []mark
	held  int // the part that words and at are of
	words []uint32
	at    []int64
}

// mark is where a part of the list begins, and the data of its first block.
type mark struct {
	words ref
	data  int64
}

// find returns the position and word of a block.
func (l *blockList) find(i int64) (at int64, word uint32, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parts == nil {
		l.parts = []mark{{l.n.words, l.n.data}}
	}
	want := int(i / part)
	if l.words == nil || l.held != want {
		for p := min(want, len(l.parts)-1); p <= want; p++ {
			if err := l.load(p); err != nil {
				l.words = nil
				return 0, 0, err
			}
		}
	}
	return l.at[i%part], l.words[i%part], nil
}

// load reads a part of the list, and so learns where the next one begins.
func (l *blockList) load(p int) error {
	m, err := l.n.f.metaAt(l.n.f.inodeOf, l.parts[p].words)
	if err != nil {
		return err
	}
	data := l.parts[p].data
	l.held, l.words, l.at = p, l.words[:0], l.at[:0]
	for range min(part, l.n.blocks()-int64(p)*part) {
		word := m.u32()
		if m.err != nil {
			return fmt.Errorf("list of blocks: %w", m.err)
		}
		size, err := l.n.f.checkWord(word)
		if err != nil {
			return err
		}
		l.words, l.at = append(l.words, word), append(l.at, data)
		data += int64(size)
	}
	if p+1 == len(l.parts) {
		l.parts = append(l.parts, mark{m.pos(), data})
	}
	return nil
}

// readAt reads a file's content.
func (l *blockList) readAt(p []byte, off int64) (total int, err error) {
	for len(p) > 0 && off < l.n.size {
		k, err := l.readBlock(p, off)
		if err != nil {
			return total, fmt.Errorf("inode %d at %d: %w", l.n.number, off, err)
		}
		p, off, total = p[k:], off+int64(k), total+k
	}
	if len(p) > 0 {
		return total, io.EOF
	}
	return total, nil
}

// readBlock reads from one block, at least a byte of it.
func (l *blockList) readBlock(p []byte, off int64) (int, error) {
	n, size := l.n, int64(l.n.f.super.blockSize)
	i, within := off/size, off%size
	length := min(size, n.size-i*size)
	p = p[:min(int64(len(p)), length-within)]
	if i >= n.blocks() {
		data, err := n.end()
		if err != nil {
			return 0, err
		}
		return copy(p, data[within:]), nil
	}
	at, word, err := l.find(i)
	if err != nil {
		return 0, err
	}
	if word&wordSize == 0 {
		clear(p)
		return len(p), nil
	}
	data, err := n.f.dataBlock(at, word)
	if err != nil {
		return 0, err
	}
	if int64(len(data)) != length {
		return 0, damage("a block of %d bytes where %d belong", len(data), length)
	}
	return copy(p, data[within:]), nil
}

// end returns the end of a file that has it in a fragment.
func (n *inode) end() ([]byte, error) {
	data, err := n.f.fragment(n.fragment)
	if err != nil {
		return nil, err
	}
	from, to := int64(n.offset), int64(n.offset)+n.tail()
	if to > int64(len(data)) {
		return nil, damage("bytes %d to %d of fragment %d of %d", from, to, n.fragment, len(data))
	}
	return data[from:to], nil
}
