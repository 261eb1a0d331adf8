package verity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// ErrRootHash says that a tree is not the one that a root hash is of.
var ErrRootHash = errors.New("the root hash is not that of the hash tree")

// CorruptError says which block is not what the tree has the digest of.
type CorruptError struct {
	Tree   bool   // a block of the hash tree, else of the data
	Block  uint64 // counted from the beginning of its device
	Offset int64  // there, in bytes
}

func (e *CorruptError) Error() string {
	what := "data block"
	if e.Tree {
		what = "hash block"
	}
	return fmt.Sprintf("%s %d at offset %d is corrupt", what, e.Block, e.Offset)
}

// Reader reads data of which each block is verified, whenever it is read: what
// comes out is what the root hash stands for. It is safe for concurrent use, as
// far as what it reads from is.
type Reader struct {
	data, tree io.ReaderAt
	super      *Superblock
	layout     layout
	root       []byte
	cache      *cache
	workers    sync.Pool // of *worker
}

// cacheBytes bounds the verified hash blocks that are kept: with blocks of 4 KiB
// and SHA-256 those of 512 MiB of data.
const cacheBytes = 4 << 20

// NewReader reads the superblock and the top of the tree and compares it with
// the root hash, which must come from somewhere trusted. It returns
// [ErrNoSuperblock] and [ErrRootHash]. As with the kernel's dm-verity, the root
// hash does not cover the superblock: who changes that can have the data end
// early, or blocks of the tree taken for data, but nothing of his own making. The two devices stay the caller's and
// must live as long as the reader. Where they are one file, tree begins at the
// superblock.
func NewReader(data, tree io.ReaderAt, root []byte) (*Reader, error) {
	b := make([]byte, SuperblockSize)
	if err := readFull(tree, b, 0); err != nil {
		return nil, fmt.Errorf("reading the superblock: %w", err)
	}
	s, err := ParseSuperblock(b)
	if err != nil {
		return nil, err
	}
	l, err := s.layout()
	if err != nil {
		return nil, err
	}
	if len(root) != l.digest {
		return nil, fmt.Errorf("%w: it has %d bytes, and %s %d", ErrRootHash, len(root), s.Algorithm, l.digest)
	}
	r := &Reader{data: data, tree: tree, super: s, layout: l, root: slices.Clone(root)}
	r.cache = newCache(max(cacheBytes/s.HashBlockSize, 2*(len(l.starts)+1)))
	r.workers.New = func() any { return &worker{r: r, digester: l.digester(s.Salt)} }
	if err := r.checkTop(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Reader) checkTop() error {
	w := r.worker()
	defer r.workers.Put(w)
	var err error
	if top := len(r.layout.starts) - 1; top >= 0 {
		_, err = w.node(top, 0)
	} else {
		_, err = w.read(make([]byte, r.super.DataBlockSize), 0)
	}
	if corrupt := (*CorruptError)(nil); errors.As(err, &corrupt) {
		return fmt.Errorf("%w: %w", ErrRootHash, err)
	}
	return err
}

// Superblock returns what the tree says about itself. It is not to be changed.
func (r *Reader) Superblock() *Superblock { return r.super }

// Size is how many bytes there are to read.
func (r *Reader) Size() int64 { return r.super.DataSize() }

// ReadAt is that of [io.ReaderAt]. A block that is not what it was is a
// [CorruptError]; no byte of it, nor of what comes behind, is then in p.
func (r *Reader) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("reading at %d", offset)
	}
	if offset >= r.Size() {
		return 0, io.EOF
	}
	if left := r.Size() - offset; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	w := r.worker()
	defer r.workers.Put(w)
	n, failed := w.readAt(p, offset)
	if failed != nil {
		return n, failed
	}
	return n, err
}

func (r *Reader) worker() *worker { return r.workers.Get().(*worker) }

// A worker has what one read needs for itself.
type worker struct {
	r        *Reader
	digester *digester
	block    []byte // for reads of less than a block
	leaf     []byte // hash block of level 0 that was used last,
	leafAt   uint64 // and its number there
}

func (w *worker) readAt(p []byte, offset int64) (n int, err error) {
	size := int64(w.r.super.DataBlockSize)
	for n < len(p) {
		block, skip := uint64(offset/size), offset%size
		whole := (len(p) - n) &^ int(size-1)
		var m int
		if skip == 0 && whole > 0 {
			m, err = w.read(p[n:n+whole], block)
		} else {
			if w.block == nil {
				w.block = make([]byte, size)
			}
			if _, err = w.read(w.block, block); err == nil {
				m = copy(p[n:], w.block[skip:])
			}
		}
		n, offset = n+m, offset+int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// read reads whole blocks and verifies them. It returns the bytes before the
// first that is corrupt, and leaves no others in p.
func (w *worker) read(p []byte, first uint64) (int, error) {
	size := w.r.super.DataBlockSize
	if err := readFull(w.r.data, p, int64(first)*int64(size)); err != nil {
		clear(p)
		return 0, fmt.Errorf("reading data: %w", err)
	}
	for n := 0; n < len(p); n += size {
		if err := w.check(p[n:n+size], first+uint64(n/size)); err != nil {
			clear(p[n:])
			return n, err
		}
	}
	return len(p), nil
}

func (w *worker) check(block []byte, number uint64) error {
	want, err := w.want(-1, number)
	if err != nil {
		return err
	}
	if !bytes.Equal(w.digester.of(block), want) {
		return &CorruptError{Block: number, Offset: int64(number) * int64(len(block))}
	}
	return nil
}

// want returns the digest that a block of a level must have; level -1 is the
// data.
func (w *worker) want(level int, number uint64) ([]byte, error) {
	l := w.r.layout
	if level+1 == len(l.starts) {
		return w.r.root, nil
	}
	parent, slot := number/l.perBlock, int(number%l.perBlock)
	node := w.leaf
	if level >= 0 || node == nil || w.leafAt != parent {
		var err error
		if node, err = w.node(level+1, parent); err != nil {
			return nil, err
		}
		if level < 0 {
			w.leaf, w.leafAt = node, parent
		}
	}
	return node[slot*l.slot:][:l.digest], nil
}

// node returns a verified hash block.
func (w *worker) node(level int, number uint64) ([]byte, error) {
	at := w.r.layout.starts[level] + number
	if b := w.r.cache.get(at); b != nil {
		return b, nil
	}
	want, err := w.want(level, number)
	if err != nil {
		return nil, err
	}
	b := make([]byte, w.r.super.HashBlockSize)
	offset := int64(at) * int64(len(b))
	if err := readFull(w.r.tree, b, offset); err != nil {
		return nil, fmt.Errorf("reading the hash tree: %w", err)
	}
	if !bytes.Equal(w.digester.of(b), want) {
		return nil, &CorruptError{Tree: true, Block: at, Offset: offset}
	}
	w.r.cache.put(at, b)
	return b, nil
}

// readFull reads all of p or says that the device ends too early.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%d bytes at %d: %w", len(p), offset, err)
}
