package verity

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// ram is a device in memory that grows when it is written to.
type ram []byte

func (r *ram) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(*r).ReadAt(p, off) }

func (r *ram) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(*r) {
		*r = append(*r, make([]byte, end-len(*r))...)
	}
	return copy((*r)[off:], p), nil
}

// noise is data that is the same every time.
func noise(n int) ram {
	b := make(ram, n)
	random := rand.New(rand.NewPCG(1, uint64(n)))
	for i := 0; i < n; i += 8 {
		copy(b[i:], binary.LittleEndian.AppendUint64(nil, random.Uint64()))
	}
	return b
}

func superblock(algorithm string, data, hash int, blocks uint64, salt string) *Superblock {
	return &Superblock{UUID: [16]byte{1, 2, 3, 15: 4}, Algorithm: algorithm, DataBlockSize: data, HashBlockSize: hash, DataBlocks: blocks, Salt: []byte(salt)}
}

// build makes data of a superblock's size, and its tree.
func build(t testing.TB, s *Superblock) (data, tree ram, root []byte) {
	t.Helper()
	data = noise(int(s.DataSize()))
	root, err := Build(t.Context(), &data, &tree, s, 2)
	if err != nil {
		t.Fatal(err)
	}
	if size, err := s.TreeSize(); err != nil || size != int64(len(tree)) {
		t.Fatalf("a tree of %d bytes, not %d: %v", len(tree), size, err)
	}
	return data, tree, root
}

func open(t testing.TB, data, tree ram, root []byte) *Reader {
	t.Helper()
	r, err := NewReader(&data, &tree, root)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReaderReads(t *testing.T) {
	t.Parallel()
	for _, blocks := range []uint64{1, 2, 8, 9, 64, 65, 600} {
		s := superblock("sha512", 512, 512, blocks, "salt")
		data, tree, root := build(t, s)
		r := open(t, append(slices.Clone(data), 1, 2, 3), tree, root)
		if r.Size() != int64(len(data)) || r.Superblock().DataBlocks != blocks {
			t.Errorf("%d blocks: %d bytes", blocks, r.Size())
		}
		for _, at := range [][2]int{{0, len(data)}, {1, 510}, {100, 500}, {511, 2}, {0, 1}, {len(data) - 1, 1}, {512, 512}, {3, len(data) - 3}, {5, 0}} {
			from, n := at[0], min(at[1], max(len(data)-at[0], 0))
			p := make([]byte, n)
			m, err := r.ReadAt(p, int64(from))
			if from < len(data) && (m != n || err != nil || !bytes.Equal(p, data[from:from+n])) {
				t.Errorf("%d blocks, %d bytes at %d: %d, %v", blocks, n, from, m, err)
			}
		}
		all, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<40))
		if err != nil || !bytes.Equal(all, data) {
			t.Errorf("%d blocks: %v", blocks, err)
		}
		if err := r.Verify(t.Context(), 3); err != nil {
			t.Errorf("%d blocks: %v", blocks, err)
		}
		if n, err := r.ReadAt(make([]byte, 10), r.Size()-4); n != 4 || !errors.Is(err, io.EOF) {
			t.Errorf("over the end: %d, %v", n, err)
		}
		if n, err := r.ReadAt(make([]byte, 10), r.Size()); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("behind the end: %d, %v", n, err)
		}
		if _, err := r.ReadAt(make([]byte, 10), -1); err == nil {
			t.Error("before the start")
		}
	}
}

// Every bit of data and tree counts, and an error names the block it is in.
func TestEachFlippedBitIsNoticed(t *testing.T) {
	t.Parallel()
	s := superblock("sha256", 512, 1024, 40, "")
	data, tree, root := build(t, s)
	r, block := open(t, data, tree, root), make([]byte, 512)
	for bit := range len(data) * 8 {
		at := int64(bit / 8 / 512)
		data[bit/8] ^= 1 << (bit % 8)
		var corrupt *CorruptError
		if _, err := r.ReadAt(block, at*512); !errors.As(err, &corrupt) || *corrupt != (CorruptError{false, uint64(at), at * 512}) {
			t.Fatalf("bit %d of the data: %v", bit, err)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	verify := func() error {
		r, err := NewReader(&data, &tree, root)
		if err != nil {
			return err
		}
		return r.Verify(t.Context(), 1)
	}
	for bit := 1024 * 8; bit < len(tree)*8; bit++ {
		if len(tree)*8-bit > 1000 && bit%512 > 16 { // some of each digest, and all of the end
			continue
		}
		tree[bit/8] ^= 1 << (bit % 8)
		var corrupt *CorruptError
		err := verify()
		if !errors.As(err, &corrupt) || *corrupt != (CorruptError{true, uint64(bit / 8 / 1024), int64(bit / 8 / 1024 * 1024)}) {
			t.Fatalf("bit %d of the tree: %v", bit, err)
		}
		if top := bit < 2048*8; top != errors.Is(err, ErrRootHash) {
			t.Fatalf("bit %d of the tree: %v", bit, err)
		}
		tree[bit/8] ^= 1 << (bit % 8)
	}
	for bit := range len(root) * 8 {
		root[bit/8] ^= 1 << (bit % 8)
		if err := verify(); !errors.Is(err, ErrRootHash) {
			t.Fatalf("bit %d of the root hash: %v", bit, err)
		}
		root[bit/8] ^= 1 << (bit % 8)
	}
	if err := verify(); err != nil {
		t.Error(err)
	}
}

// What is corrupt stays inside, wherever a read begins.
func TestNothingCorruptComesOut(t *testing.T) {
	t.Parallel()
	s := superblock("sha256", 512, 512, 20, "")
	data, tree, root := build(t, s)
	data[5*512+100] ^= 1
	r := open(t, data, tree, root)
	for _, from := range []int{0, 512, 700, 5 * 512, 5*512 + 1} {
		p := make([]byte, 8*512)
		n, err := r.ReadAt(p, int64(from))
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.Block != 5 {
			t.Errorf("from %d: %v", from, err)
		}
		if want := max(5*512-from, 0); n != want || !bytes.Equal(p[:n], data[from:from+n]) || len(bytes.Trim(p[n:], "\x00")) > 0 {
			t.Errorf("from %d: %d bytes", from, n)
		}
	}
	if want := "data block 5 at offset 2560 is corrupt"; r.Verify(t.Context(), 4).Error() != want {
		t.Errorf("not %q", want)
	}
}

func TestReaderIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	s := superblock("sha256", 512, 512, 3000, "x")
	data, tree, root := build(t, s)
	r := open(t, data, tree, root)
	r.cache.room = 6 // so that blocks come and go
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(i)))
			p := make([]byte, 3000)
			for range 200 {
				from := random.IntN(len(data) - len(p))
				if n, err := r.ReadAt(p, int64(from)); err != nil || !bytes.Equal(p[:n], data[from:from+len(p)]) {
					t.Errorf("at %d: %v", from, err)
				}
			}
		})
	}
	group.Wait()
	if n := len(r.cache.blocks); n > 6 || n != r.cache.used.Len() {
		t.Errorf("%d blocks in the cache", n)
	}
}

// failing fails every read from an offset on, and tells when it was asked.
type failing struct {
	ram
	from int64
	then func()
}

var errDevice = errors.New("device on fire")

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		f.then()
		return 0, errDevice
	}
	return f.ram.ReadAt(p, off)
}

func TestFailingDevices(t *testing.T) {
	t.Parallel()
	s := superblock("sha256", 4096, 4096, 1000, "")
	data, tree, root := build(t, s)
	bad := &failing{data, 2 << 20, func() {}}
	if r, err := NewReader(bad, &tree, root); err != nil || !errors.Is(r.Verify(t.Context(), 2), errDevice) {
		t.Error(err)
	}
	if _, err := NewReader(&data, &failing{tree, 600, func() {}}, root); !errors.Is(err, errDevice) {
		t.Error(err)
	}
	if _, err := Build(t.Context(), bad, new(ram), s, 2); !errors.Is(err, errDevice) {
		t.Error(err)
	}
	short := tree[:len(tree)-1]
	if err := open(t, data, short, root).Verify(t.Context(), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := &failing{data, 1 << 20, cancel}
	if r, err := NewReader(&data, &tree, root); err != nil || !errors.Is(r.Verify(canceled(t), 2), context.Canceled) {
		t.Error(err)
	}
	if _, err := Build(ctx, stopped, new(ram), s, 1); err == nil {
		t.Error("built while stopped")
	}
	if _, err := Build(canceled(t), &data, new(ram), s, 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestTreesDoNotDependOnWorkers(t *testing.T) {
	t.Parallel()
	s := superblock("sha384", 4096, 512, 1500, "abc")
	data, want, root := build(t, s)
	for workers := range 5 {
		var tree ram
		got, err := Build(t.Context(), &data, &tree, s, workers)
		if err != nil || !bytes.Equal(got, root) || !bytes.Equal(tree, want) {
			t.Errorf("%d workers: %x, %v", workers, got, err)
		}
	}
}

func TestRootHashesOfOtherLengths(t *testing.T) {
	t.Parallel()
	data, tree, root := build(t, superblock("sha256", 512, 512, 3, ""))
	for _, bad := range [][]byte{nil, root[:31], append(slices.Clone(root), 0)} {
		if r, err := NewReader(&data, &tree, bad); !errors.Is(err, ErrRootHash) || r != nil {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	empty := ram{}
	if _, err := NewReader(&data, &empty, root); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}
