package imagefs

import (
	"fmt"
	"io"
	"sync"
)

// keptBytes is how much of the blocks read last is kept, twice.
const keptBytes = 512 << 10

// Blocks is the image of a file system, of which blocks with inodes and the
// like are kept for another use. It is safe for concurrent use.
type Blocks struct {
	image   io.ReaderAt
	size    int64
	block   int64 // bytes
	damaged error

	mu sync.Mutex
	// Blocks move from old to young when they are used. When young is full it
	// becomes old, and what nobody used since then is gone.
	young, old map[int64][]byte
}

// NewBlocks makes blocks of blockSize bytes of the first size bytes of an image.
// Errors about what is outside of it wrap damaged.
func NewBlocks(image io.ReaderAt, size, blockSize int64, damaged error) *Blocks {
	return &Blocks{image: image, size: size, block: blockSize, damaged: damaged, young: map[int64][]byte{}}
}

// Size is the length of the image in bytes.
func (b *Blocks) Size() int64 { return b.size }

// Damage is the format's error for a damaged image, that says what is wrong.
func (b *Blocks) Damage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", b.damaged, fmt.Sprintf(format, args...))
}

// Bytes returns n bytes at a position, which the caller must not change and has
// bounded.
func (b *Blocks) Bytes(at int64, n int) ([]byte, error) {
	if err := b.check(at, int64(n)); err != nil {
		return nil, err
	}
	block, err := b.get(at / b.block)
	if err != nil {
		return nil, err
	}
	within := at % b.block
	if within+int64(n) <= int64(len(block)) {
		return block[within : within+int64(n) : within+int64(n)], nil
	}
	out := append([]byte{}, block[within:]...)
	for len(out) < n {
		at += b.block - at%b.block
		if block, err = b.get(at / b.block); err != nil {
			return nil, err
		}
		out = append(out, block[:min(len(block), n-len(out))]...)
	}
	return out, nil
}

func (b *Blocks) check(at, n int64) error {
	if at < 0 || n < 0 || n > b.size || at > b.size-n {
		return b.Damage("%d bytes at %d of an image of %d", n, at, b.size)
	}
	return nil
}

// get returns a block, of which at least the first byte is in the image.
func (b *Blocks) get(i int64) ([]byte, error) {
	if block := b.look(i); block != nil {
		return block, nil
	}
	at := i * b.block
	block := make([]byte, min(b.block, b.size-at))
	if err := b.readFull(block, at); err != nil {
		return nil, err
	}
	b.keep(i, block)
	return block, nil
}

func (b *Blocks) look(i int64) []byte {
	b.mu.Lock()
	block, ok := b.young[i]
	if !ok {
		block = b.old[i]
	}
	b.mu.Unlock()
	if !ok && block != nil {
		b.keep(i, block)
	}
	return block
}

func (b *Blocks) keep(i int64, block []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if int64(len(b.young)) >= max(4, keptBytes/b.block) {
		b.old, b.young = b.young, map[int64][]byte{}
	}
	b.young[i] = block
}

// readFull reads all of p, past the cache. That it is in the image was checked,
// so an early end is the reader's fault.
func (b *Blocks) readFull(p []byte, at int64) error {
	n, err := b.image.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at %d: %w", len(p), at, err)
}

// Extent is a run of a file's bytes that are in a row in the image, or zeros.
type Extent struct {
	At   int64 // in the image
	Len  int64 // at least 1; it may go on behind the file's end
	Hole bool  // zeros that are not in the image
}

// ReadAt reads the content of a file or directory, or the target of a link. As
// [io.ReaderAt] has it, fewer bytes than asked for come with [io.EOF] or another
// error.
func (b *Blocks) ReadAt(n Node, p []byte, off int64) (total int, err error) {
	size := n.Info().Size
	for len(p) > 0 && off < size {
		k, err := b.readExtent(n, p[:min(int64(len(p)), size-off)], off)
		if err != nil {
			return total, fmt.Errorf("inode %d at %d: %w", n.Info().Inode, off, err)
		}
		p, off, total = p[k:], off+int64(k), total+k
	}
	if len(p) > 0 {
		return total, io.EOF
	}
	return total, nil
}

// readExtent reads from one extent, at least a byte of it.
func (b *Blocks) readExtent(n Node, p []byte, off int64) (int, error) {
	e, err := n.Map(off)
	if err != nil {
		return 0, err
	}
	if e.Len <= 0 {
		return 0, b.Damage("an extent of %d bytes", e.Len)
	}
	p = p[:min(int64(len(p)), e.Len)]
	if e.Hole {
		clear(p)
		return len(p), nil
	}
	if err := b.check(e.At, int64(len(p))); err != nil {
		return 0, err
	}
	return len(p), b.readFull(p, e.At)
}

// Content reads a directory or other content that has to be in memory, of at
// most limit bytes.
func (b *Blocks) Content(n Node, limit int64) ([]byte, error) {
	size := n.Info().Size
	if size < 0 || size > limit {
		return nil, b.Damage("inode %d: %d bytes of at most %d", n.Info().Inode, size, limit)
	}
	p := make([]byte, size)
	if _, err := b.ReadAt(n, p, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return p, nil
}

// EachBlock calls do with each block of a directory, until there is an error.
// The last one may be short. The bytes are overwritten afterwards.
func (b *Blocks) EachBlock(n Node, do func(block []byte) error) error {
	size := n.Info().Size
	if size > maxListing {
		return b.Damage("a directory of %d bytes", size)
	}
	p := make([]byte, b.block)
	for off := int64(0); off < size; off += b.block {
		part := p[:min(b.block, size-off)]
		if _, err := b.ReadAt(n, part, off); err != nil {
			return err
		}
		if err := do(part); err != nil {
			return err
		}
	}
	return nil
}
