package squashfs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/lockport/lockport/internal/squashfs"
)

// errEnough ends what takes an image longer than it should.
var errEnough = errors.New("enough")

// readAll reads whatever there is to read in an image, of files no more than
// their first and last bytes if they are big. It returns the first error, and
// goes on after it.
func readAll(ctx context.Context, fsys *squashfs.FS) (first error) {
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	for i := range uint32(20) {
		if _, err := fsys.ByNumber(i); !isNotExist(err) {
			note(err)
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
	return first
}

func readOne(fsys *squashfs.FS, path string) error {
	f, err := fsys.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := info.Sys().(*squashfs.Stat).Xattrs(); err != nil {
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
		if _, end := f.(*squashfs.File).ReadAt(last, info.Size()-5); err == nil && end != io.EOF && info.Size() > 5 {
			err = end
		}
	}
	return err
}

// check reads an image that was altered, and looks at what that takes and gives.
func check(ctx context.Context, t testing.TB, what string, b []byte) error {
	t.Helper()
	fsys, err := openBytes(b, squashfs.WithCache(1<<20))
	if err == nil {
		err = readAll(ctx, fsys)
	} else if fsys != nil {
		t.Errorf("%s: a file system and an error", what)
	}
	if errors.Is(err, errEnough) || ctx.Err() != nil {
		t.Fatalf("%s: it takes too long", what)
	}
	if err != nil && !known(err) {
		t.Errorf("%s: an error of no kind: %v", what, err)
	}
	return err
}

// known tells errors that blame the image from those that nobody meant.
func known(err error) bool {
	for _, kind := range []error{squashfs.ErrDamaged, squashfs.ErrUnsupported, squashfs.ErrNotSquashfs, fs.ErrNotExist} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// perImage bounds what is allocated to read one altered vector, over all the
// time it takes; some decoders take a MiB each.
const perImage = 64 << 20

// watched runs check and bounds what it allocates. Nothing else may run.
func watched(ctx context.Context, t testing.TB, what string, b []byte) error {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := check(ctx, t, what, b)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > perImage {
		t.Errorf("%s: %d bytes are allocated: %v", what, n, err)
	}
	return err
}

// Bytes changed all over, images cut everywhere, numbers at random: no panic,
// no hang, no memory without bound. It does not run beside other tests, as it
// measures.
func TestDamage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for name, b := range vectors(t) {
		if err := watched(ctx, t, name, b); err != nil {
			t.Fatalf("%s: whole, and yet %v", name, err)
		}
		noticed := 0
		for i := range places(name, len(b)) {
			if alter(ctx, t, name, b, i) != nil {
				noticed++
			}
		}
		if noticed == 0 {
			t.Errorf("%s: no change is noticed", name)
		}
		for i := 0; i < len(b); i += 1 + len(b)/100 {
			if err := watched(ctx, t, fmt.Sprintf("%s cut at %d", name, i), b[:i]); err == nil {
				t.Errorf("%s cut at %d: no error", name, i)
			}
		}
		scramble(ctx, t, name, b)
	}
}

// places are the bytes to change. Of compressed images most only break a
// checksum; those of the superblock count in all of them, and in two images
// the tables are not compressed.
func places(name string, size int) map[int]bool {
	at := map[int]bool{}
	for i := 0; i < size; i++ {
		tables := i%2 == 0 && name == "metadata.sqfs" && i > 300 || i%2 == 1 && name == "plain.sqfs" && i > size-1800
		if i < 96 || tables || i%(1+size/150) == 0 {
			at[i] = true
		}
	}
	return at
}

// alter changes one byte in one of several ways.
func alter(ctx context.Context, t testing.TB, name string, b []byte, i int) error {
	t.Helper()
	b = bytes.Clone(b)
	b[i] ^= []byte{0xff, 1, 0x80, 0x10, 3}[i%5]
	return watched(ctx, t, fmt.Sprintf("%s with byte %d altered", name, i), b)
}

// scramble writes odd numbers of several sizes to random places.
func scramble(ctx context.Context, t testing.TB, name string, whole []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(len(whole))))
	odd := []uint64{0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 1 << 24, 1<<31 - 1, 1<<32 - 1, 1 << 40, 1<<63 - 1, 1<<64 - 1}
	for i := range 100 {
		b := bytes.Clone(whole)
		for range 1 + r.IntN(4) {
			var n [8]byte
			binary.LittleEndian.PutUint64(n[:], odd[r.IntN(len(odd))])
			at := r.IntN(len(b))
			if r.IntN(2) == 0 {
				at = r.IntN(96)
			}
			copy(b[at:], n[:1<<r.IntN(4)])
		}
		_ = watched(ctx, t, fmt.Sprintf("%s scrambled, %d", name, i), b)
	}
}

// FuzzImage reads all of an image of any bytes.
func FuzzImage(f *testing.F) {
	for _, b := range vectors(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_ = check(ctx, t, "it", b)
	})
}
