package squashfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"sync"
	"testing"

	"github.com/lockport/lockport/internal/squashfs"
)

// vector opens one of the images in testdata.
func vector(t testing.TB, name string, options ...squashfs.Option) *squashfs.FS {
	t.Helper()
	fsys, err := openBytes(vectors(t)[name], options...)
	must(t, err)
	return fsys
}

func TestPaths(t *testing.T) {
	t.Parallel()
	fsys := vector(t, "zstd.sqfs")
	for path, want := range map[string]error{
		"missing": fs.ErrNotExist, "dir/missing": fs.ErrNotExist, "": fs.ErrInvalid, "/": fs.ErrInvalid, "/dir": fs.ErrInvalid,
		"dir/": fs.ErrInvalid, "dir//file": fs.ErrInvalid, "./dir": fs.ErrInvalid, "dir/..": fs.ErrInvalid, "..": fs.ErrInvalid,
	} {
		_, err := fsys.Open(path)
		var pathError *fs.PathError
		if !errors.Is(err, want) || !errors.As(err, &pathError) || pathError.Path != path {
			t.Errorf("%q: %v", path, err)
		}
	}
	for path, want := range map[string]string{
		"text/below": "open text/below: inode 8 is a file: not a directory",
		"link/below": "open link/below: inode 6 is a symbolic link: not a directory",
	} {
		if _, err := fsys.Open(path); err == nil || err.Error() != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A link, a device and a fifo can be opened and described, not read.
func TestWhatHasNoContent(t *testing.T) {
	t.Parallel()
	fsys := vector(t, "plain.sqfs")
	for _, path := range []string{"link", "null", "fifo", "dir"} {
		f, err := fsys.Open(path)
		must(t, err)
		info, err := f.Stat()
		if err != nil || info.Name() != path || info.Mode().IsRegular() {
			t.Errorf("%s: %v, %v", path, info, err)
		}
		if _, err := f.Read(make([]byte, 1)); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s is read: %v", path, err)
		}
		if _, err := fsys.ReadFile(path); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s is read at once: %v", path, err)
		}
		if _, err := fsys.ReadLink(path); (err == nil) != (path == "link") {
			t.Errorf("%s as a link: %v", path, err)
		}
	}
	info, err := fsys.Stat("null")
	must(t, err)
	if s := info.Sys().(*squashfs.Stat); s.Major != 1 || s.Minor != 3 {
		t.Errorf("null is %d:%d", s.Major, s.Minor)
	}
}

func TestReadSeekClose(t *testing.T) {
	t.Parallel()
	file, err := vector(t, "xz.sqfs").Open("text")
	must(t, err)
	f := file.(*squashfs.File)
	want := vectorText()
	for _, at := range []int64{0, 1, 4095, 4096, 8191, 8192, 8999, 9000, 12000} {
		if n, err := f.Seek(at, io.SeekStart); n != at || err != nil {
			t.Fatalf("seeking %d: %d, %v", at, n, err)
		}
		got, err := io.ReadAll(f)
		if rest := want[min(at, 9000):]; err != nil || !bytes.Equal(got, rest) {
			t.Errorf("from %d: %d bytes of %d, %v", at, len(got), len(rest), err)
		}
	}
	if n, err := f.Seek(-10, io.SeekEnd); n != 8990 || err != nil {
		t.Errorf("ten before the end: %d, %v", n, err)
	}
	if n, err := f.Seek(5, io.SeekCurrent); n != 8995 || err != nil {
		t.Errorf("five on: %d, %v", n, err)
	}
	if _, err := f.Seek(-1, io.SeekStart); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("before the start: %v", err)
	}
	if _, err := f.ReadAt(nil, -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("reading before the start: %v", err)
	}
	must(t, f.Close())
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("reading what is closed: %v", err)
	}
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closing what is closed: %v", err)
	}
}

// Many readers share one image, one cache that is too small, and one file.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	fsys := vector(t, "gzip.sqfs", squashfs.WithCache(10_000))
	shared, err := fsys.Open("text")
	must(t, err)
	want := vectorText()
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				at := (i*997 + j*463) % 9000
				got := make([]byte, min(3000, 9000-at))
				if _, err := shared.(io.ReaderAt).ReadAt(got, int64(at)); err != nil || !bytes.Equal(got, want[at:at+len(got)]) {
					t.Errorf("at %d: %v", at, err)
				}
				if _, err := fsys.Lstat("dir/file"); err != nil {
					t.Error(err)
				}
				if got, err := fsys.ReadFile("hole"); err != nil || !bytes.Equal(got, vectorHole()) {
					t.Errorf("the hole: %v", err)
				}
			}
		})
	}
	group.Wait()
}

// counter counts what is read of an image, and fails where it is told to.
type counter struct {
	io.ReaderAt
	bytes int
	fail  error
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	if c.fail != nil {
		return 0, c.fail
	}
	n, err := c.ReaderAt.ReadAt(p, off)
	c.bytes += n
	return n, err
}

// An error of the reader is not the image's, and not kept.
func TestReaderFails(t *testing.T) {
	t.Parallel()
	b := vectors(t)["lzo.sqfs"]
	r := &counter{ReaderAt: bytes.NewReader(b)}
	fsys, err := squashfs.Open(r, int64(len(b)), squashfs.WithCache(0))
	must(t, err)
	r.fail = errors.New("the disk is gone")
	if _, err := fsys.ReadFile("text"); !errors.Is(err, r.fail) || errors.Is(err, squashfs.ErrDamaged) {
		t.Errorf("%v", err)
	}
	r.fail = nil
	if got, err := fsys.ReadFile("text"); err != nil || !bytes.Equal(got, vectorText()) {
		t.Errorf("once it is back: %v", err)
	}
}
