package ext4

import (
	"fmt"

	"github.com/lockport/lockport/internal/imagefs"
)

const (
	extentMagic = 0xf30a
	extentSize  = 12 // of a header, and of each entry
	maxDepth    = 5  // of the tree
	maxLength   = 32768
	noMore      = 1 << 32 // behind the last block that a file can have
)

// run is a run of a file's blocks.
type run struct {
	start uint64 // in the image
	count uint64
	hole  bool
}

// Map finds the data at an offset.
func (n *node) Map(off int64) (imagefs.Extent, error) {
	if n.fast {
		return imagefs.Extent{At: n.at + pointersAt + off, Len: n.info.Size - off}, nil
	}
	if n.flags&flagInline != 0 {
		return n.mapInline(off)
	}
	bits := n.e.super.blockBits
	block, within := uint64(off)>>bits, off&(1<<bits-1)
	find := n.mapPointers
	if n.flags&flagExtents != 0 {
		find = n.mapExtents
	}
	r, err := find(block)
	if err != nil {
		return imagefs.Extent{}, fmt.Errorf("block %d: %w", block, err)
	}
	if end := r.start + r.count; !r.hole && (r.start == 0 || end > n.e.super.blocks) {
		return imagefs.Extent{}, n.e.damage("blocks %d to %d of %d", r.start, end, n.e.super.blocks)
	}
	return imagefs.Extent{At: int64(r.start)<<bits + within, Len: int64(r.count)<<bits - within, Hole: r.hole}, nil
}

// mapExtents looks a block up in the tree of extents, whose root is in the
// inode.
func (n *node) mapExtents(block uint64) (run, error) {
	tree, next := n.pointers(), uint64(noMore)
	depth := int(le.Uint16(tree[6:]))
	if depth > maxDepth {
		return run{}, n.e.damage("a tree of extents of depth %d", depth)
	}
	for ; ; depth-- {
		list, err := n.extentList(tree, depth)
		if err != nil {
			return run{}, err
		}
		// The last entry that does not begin behind the block.
		i := 0
		for i < len(list) && uint64(le.Uint32(list[i:])) <= block {
			i += extentSize
		}
		if i < len(list) {
			next = min(next, uint64(le.Uint32(list[i:])))
		}
		if i == 0 {
			return run{count: next - block, hole: true}, nil
		}
		entry := list[i-extentSize : i]
		if depth == 0 {
			return extentRun(entry, block, next), nil
		}
		child := uint64(le.Uint32(entry[4:])) | uint64(le.Uint16(entry[8:]))<<32
		if tree, err = n.e.block(child); err != nil {
			return run{}, fmt.Errorf("tree of extents: %w", err)
		}
	}
}

// extentList returns the entries of a node of the tree, which is as far above
// the leaves as depth says.
func (n *node) extentList(tree []byte, depth int) ([]byte, error) {
	count := int(le.Uint16(tree[2:]))
	switch {
	case le.Uint16(tree) != extentMagic || int(le.Uint16(tree[6:])) != depth:
		return nil, n.e.damage("no node of a tree of extents, %#x", tree[:8])
	case (1+count)*extentSize > len(tree):
		return nil, n.e.damage("%d extents", count)
	}
	list := tree[extentSize : (1+count)*extentSize]
	for i := extentSize; i < len(list); i += extentSize {
		if le.Uint32(list[i:]) <= le.Uint32(list[i-extentSize:]) {
			return nil, n.e.damage("extents out of order")
		}
	}
	return list, nil
}

// extentRun is what an extent says of a block, which is not before it. Longer
// ones than can be are ones without content.
func extentRun(entry []byte, block, next uint64) run {
	first, count := uint64(le.Uint32(entry)), uint64(le.Uint16(entry[4:]))
	hole := count > maxLength
	if hole {
		count -= maxLength
	}
	skip := block - first
	if skip >= count {
		return run{count: next - block, hole: true}
	}
	start := uint64(le.Uint16(entry[6:]))<<32 | uint64(le.Uint32(entry[8:]))
	return run{start + skip, min(count-skip, next-block), hole}
}

// direct is how many blocks an inode without extents has pointers to. Three
// further pointers lead to blocks of pointers, in one, two or three steps.
const direct = 12

// mapPointers looks a block up as ext2 has it.
func (n *node) mapPointers(block uint64) (run, error) {
	list := n.pointers()
	if block < direct {
		return pointerRun(list[:direct*4], block), nil
	}
	block -= direct
	each := uint64(n.e.super.blockSize() / 4)
	span, steps := each, uint64(0) // blocks that the pointer stands for
	for ; block >= span; steps++ {
		if steps == 2 {
			return run{}, n.e.damage("behind what a file can have")
		}
		block -= span
		span *= each
	}
	for index := direct + steps; ; {
		pointer := uint64(le.Uint32(list[index*4:]))
		if pointer == 0 {
			return run{count: span - block, hole: true}, nil
		}
		var err error
		if list, err = n.e.block(pointer); err != nil {
			return run{}, fmt.Errorf("pointers: %w", err)
		}
		span /= each
		index, block = block/span, block%span
		if span == 1 {
			return pointerRun(list, index), nil
		}
	}
}

// pointerRun is the run that begins at a pointer in a list of them. Null is a
// hole.
func pointerRun(list []byte, index uint64) run {
	start := uint64(le.Uint32(list[index*4:]))
	r := run{start: start, count: 1, hole: start == 0}
	for at := (index + 1) * 4; at < uint64(len(list)); at += 4 {
		next := uint64(le.Uint32(list[at:]))
		if r.hole && next != 0 || !r.hole && next != r.start+r.count {
			break
		}
		r.count++
	}
	return r
}

// block returns a block of the tree of extents or of pointers.
func (e *reader) block(number uint64) ([]byte, error) {
	if number == 0 || number >= e.super.blocks {
		return nil, e.damage("block %d of %d", number, e.super.blocks)
	}
	return e.blocks.Bytes(int64(number)<<e.super.blockBits, int(e.super.blockSize()))
}
