package imagefs_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/lockport/lockport/internal/imagefs"
)

// Bytes across blocks, over and over, past what is kept.
func TestBytes(t *testing.T) {
	t.Parallel()
	b := bytes.Repeat(image(), 200) // several times what is kept
	blocks := imagefs.NewBlocks(bytes.NewReader(b), int64(len(b)), blockSize, errDamaged)
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		n := r.IntN(1500)
		at := r.IntN(len(b) - n)
		if got, err := blocks.Bytes(int64(at), n); err != nil || !bytes.Equal(got, b[at:at+n]) {
			t.Fatalf("%d bytes at %d: %d, %v", n, at, len(got), err)
		}
	}
	last := int64(len(b))
	for _, c := range [][2]int64{{last - 1, 2}, {last + 1, 0}, {-1, 1}, {0, last + 1}, {1<<63 - 1, 1}, {0, -1}} {
		if got, err := blocks.Bytes(c[0], int(c[1])); !errors.Is(err, errDamaged) {
			t.Errorf("%d bytes at %d: %d, %v", c[1], c[0], len(got), err)
		}
	}
	if got, err := blocks.Bytes(last-3, 3); err != nil || !bytes.Equal(got, b[last-3:]) {
		t.Errorf("the last bytes: %v, %v", got, err)
	}
}

// counter counts what is read of an image, and fails where it is told to.
type counter struct {
	io.ReaderAt
	calls int
	fail  error
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	if c.calls++; c.fail != nil {
		return 0, c.fail
	}
	return c.ReaderAt.ReadAt(p, off)
}

// A block is read once while others are used in between, but not too many.
func TestBlocksAreKept(t *testing.T) {
	t.Parallel()
	c := &counter{ReaderAt: bytes.NewReader(make([]byte, 8<<20))}
	blocks := imagefs.NewBlocks(c, 8<<20, 4096, errDamaged)
	for i := range int64(2000) {
		_, err := blocks.Bytes(i*4096, 10)
		must(t, err)
		_, err = blocks.Bytes(0, 10)
		must(t, err)
	}
	if c.calls != 2000 {
		t.Errorf("%d reads of 2000 blocks", c.calls)
	}
	_, err := blocks.Bytes(4096, 10)
	must(t, err)
	if c.calls != 2001 {
		t.Error("a block is kept forever")
	}
}

// An error of the reader is not the image's, and not kept.
func TestReaderFails(t *testing.T) {
	t.Parallel()
	c := &counter{ReaderAt: bytes.NewReader(image())}
	blocks := imagefs.NewBlocks(c, 20_000, blockSize, errDamaged)
	c.fail = errors.New("the disk is gone")
	if _, err := blocks.Bytes(0, 1); !errors.Is(err, c.fail) || errors.Is(err, errDamaged) {
		t.Errorf("%v", err)
	}
	c.fail = nil
	if got, err := blocks.Bytes(1, 1); err != nil || got[0] != image()[1] {
		t.Errorf("once it is back: %v, %v", got, err)
	}
	short := imagefs.NewBlocks(bytes.NewReader(nil), 20_000, blockSize, errDamaged)
	if _, err := short.Bytes(0, 1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that has become shorter: %v", err)
	}
}

// Modes and types are Go's, and nothing else gets through.
func TestModes(t *testing.T) {
	t.Parallel()
	for unix, want := range map[uint16]string{
		0o100644: "-rw-r--r--", 0o040755: "drwxr-xr-x", 0o120777: "Lrwxrwxrwx", 0o060660: "Drw-rw----", 0o020666: "Dcrw-rw-rw-",
		0o010600: "prw-------", 0o140755: "Srwxr-xr-x", 0o107000: "ugt---------", 0: "?---------", 0o150000: "?---------",
	} {
		if got := imagefs.Mode(unix).String(); got != want {
			t.Errorf("%o: %s, not %s", unix, got, want)
		}
	}
	for number, want := range []string{"?---------", "----------", "d---------", "Dc---------", "D---------", "p---------", "S---------", "L---------", "?---------"} {
		if got := imagefs.EntryType(byte(number)).String(); got != want {
			t.Errorf("entry of type %d: %s, not %s", number, got, want)
		}
	}
}
