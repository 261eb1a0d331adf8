// Package imagefstest has what the tests of all readers of image formats share:
// reading everything there is in an image, and images that were altered.
package imagefstest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/lockport/lockport/internal/imagefs"
)

// Format is a reader to test.
type Format struct {
	Open   func(r io.ReaderAt, size int64) (*imagefs.FS, error)
	Errors []error // that an image may be blamed by
	Head   [2]int  // the range of the superblock, in bytes
}

// errEnough ends what takes an image longer than it should.
var errEnough = errors.New("enough")

// ReadAll reads whatever there is to read in an image, of files no more than
// their first and last bytes if they are big. It returns the first error, and
// goes on after it.
func ReadAll(ctx context.Context, fsys *imagefs.FS) (first error) {
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	note(fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return errEnough
		}
		note(err)
		if d != nil && err == nil {
			note(readOne(fsys, path))
		}
		return nil
	}))
	if ctx.Err() != nil {
		return errEnough
	}
	return first
}

func readOne(fsys *imagefs.FS, path string) error {
	f, err := fsys.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := info.Sys().(*imagefs.Stat).Xattrs(); err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		_, err = fsys.ReadLink(path)
	case 0:
		if _, err = io.CopyN(io.Discard, f, 100<<10); err == io.EOF {
			err = nil
		}
		last := make([]byte, 10)
		if _, end := f.(*imagefs.File).ReadAt(last, info.Size()-5); err == nil && end != io.EOF && info.Size() > 5 {
			err = end
		}
	}
	return err
}

// Check reads an image that was altered, and looks at what that takes and gives:
// an error that blames the image, or none.
func (f Format) Check(ctx context.Context, t testing.TB, what string, b []byte) error {
	t.Helper()
	fsys, err := f.Open(bytes.NewReader(b), int64(len(b)))
	if err == nil {
		err = ReadAll(ctx, fsys)
	} else if fsys != nil {
		t.Errorf("%s: a file system and an error", what)
	}
	if errors.Is(err, errEnough) || ctx.Err() != nil {
		t.Fatalf("%s: it takes too long", what)
	}
	if err != nil && !f.known(err) {
		t.Errorf("%s: an error of no kind: %v", what, err)
	}
	return err
}

func (f Format) known(err error) bool {
	for _, kind := range f.Errors {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// perImage bounds what is allocated to read one altered image, over all the time
// it takes.
const perImage = 64 << 20

// watched runs Check and bounds what it allocates. Nothing else may run.
func (f Format) watched(ctx context.Context, t testing.TB, what string, b []byte) error {
	t.Helper()
	before := allocated()
	err := f.Check(ctx, t, what, b)
	if n := allocated() - before; n > perImage {
		t.Errorf("%s: %d bytes are allocated: %v", what, n, err)
	}
	return err
}

// allocated is how many bytes have been allocated so far, to some KiB.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// Damage alters images everywhere, cuts them and writes odd numbers to them, and
// expects no panic, no hang and no memory without bound. It measures, so nothing
// may run beside it.
func (f Format) Damage(t *testing.T, images map[string][]byte) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for name, b := range images {
		if err := f.watched(ctx, t, name, b); err != nil {
			t.Fatalf("%s: whole, and yet %v", name, err)
		}
		used := usedBytes(b)
		f.alter(ctx, t, name, b, used)
		f.cut(ctx, t, name, b, used)
		f.scramble(ctx, t, name, b, used)
	}
}

// usedBytes is where an image has more than zeros.
func usedBytes(b []byte) (at []int) {
	for i, v := range b {
		if v != 0 {
			at = append(at, i)
		}
	}
	return at
}

// alter changes one byte at a time.
func (f Format) alter(ctx context.Context, t *testing.T, name string, b []byte, used []int) {
	t.Helper()
	noticed := 0
	b = bytes.Clone(b)
	change := func(i int) {
		was := b[i]
		b[i] ^= []byte{0xff, 1, 0x80, 0x10, 3}[i%5]
		if f.watched(ctx, t, fmt.Sprintf("%s with byte %d altered", name, i), b) != nil {
			noticed++
		}
		b[i] = was
	}
	for i := f.Head[0]; i < f.Head[1]; i++ {
		change(i)
	}
	for i := 0; i < len(used); i += 1 + len(used)/250 {
		change(used[i])
	}
	if noticed == 0 {
		t.Errorf("%s: no change is noticed", name)
	}
}

// cut takes away the end, up to what is used.
func (f Format) cut(ctx context.Context, t *testing.T, name string, b []byte, used []int) {
	t.Helper()
	last := used[len(used)-1]
	for i := 0; i < last; i += 1 + last/50 {
		if err := f.watched(ctx, t, fmt.Sprintf("%s cut at %d", name, i), b[:i]); err == nil {
			t.Errorf("%s cut at %d: no error", name, i)
		}
	}
}

// odd are numbers that are at an end of something.
var odd = []uint64{0, 1, 2, 0x7f, 0xff, 0x7fff, 0xffff, 1 << 24, 1<<31 - 1, 1<<32 - 1, 1 << 40, 1<<63 - 1, 1<<64 - 1}

// scramble writes odd numbers of several sizes to random places.
func (f Format) scramble(ctx context.Context, t *testing.T, name string, whole []byte, used []int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(len(whole))))
	b := bytes.Clone(whole)
	for i := range 150 {
		for range 1 + r.IntN(4) {
			var n [8]byte
			binary.LittleEndian.PutUint64(n[:], odd[r.IntN(len(odd))])
			at := used[r.IntN(len(used))]
			if r.IntN(4) == 0 {
				at = f.Head[0] + r.IntN(f.Head[1]-f.Head[0])
			}
			copy(b[at:], n[:1<<r.IntN(4)])
		}
		_ = f.watched(ctx, t, fmt.Sprintf("%s scrambled, %d", name, i), b)
		copy(b, whole)
	}
}

// Fuzz is the body of a fuzz target.
func (f Format) Fuzz(t *testing.T, b []byte) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_ = f.Check(ctx, t, "it", b)
}
