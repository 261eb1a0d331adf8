package imagefs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/lockport/lockport/internal/imagefs"
)

var errDamaged = errors.New("damaged")

// fake is an image of inodes that a test makes; the content of files is in its
// bytes.
type fake map[uint64]*node

type node struct {
	info    imagefs.Info
	extents []imagefs.Extent
	entries []imagefs.Dirent
	err     error
}

func (f fake) Node(inode uint64) (imagefs.Node, error) {
	if n := f[inode]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("%w: no inode %d", errDamaged, inode)
}

func (n *node) Info() imagefs.Info              { return n.info }
func (n *node) List() ([]imagefs.Dirent, error) { return n.entries, n.err }
func (n *node) Xattrs() ([]imagefs.Attr, error) { return []imagefs.Attr{{Name: "user.a"}}, n.err }

func (n *node) Map(off int64) (imagefs.Extent, error) {
	for _, e := range n.extents {
		if off < e.Len {
			return imagefs.Extent{At: e.At + off, Len: e.Len - off, Hole: e.Hole}, n.err
		}
		off -= e.Len
	}
	return imagefs.Extent{}, n.err
}

const blockSize = 512

// image is 20,000 bytes that differ.
func image() []byte {
	b := make([]byte, 20_000)
	for i := range b {
		b[i] = byte(i ^ i>>8*7)
	}
	return b
}

// content is that of the file "file".
func content() []byte {
	b := image()
	return bytes.Join([][]byte{b[700:2000], make([]byte, 3000), b[:10]}, nil)
}

func sample() fake {
	modTime := time.Unix(1e9, 0)
	return fake{
		1: {info: imagefs.Info{Mode: fs.ModeDir | 0o755, ModTime: modTime, Stat: imagefs.Stat{Inode: 1}}, entries: []imagefs.Dirent{
			{Name: "link", Inode: 4, Type: fs.ModeSymlink}, {Name: "dir", Inode: 3, Type: fs.ModeDir},
			{Name: "file", Inode: 2}, {Name: "fifo", Inode: 5, Type: fs.ModeNamedPipe},
		}},
		2: {info: imagefs.Info{Mode: 0o644, Size: 4310, ModTime: modTime, Stat: imagefs.Stat{Inode: 2, UID: 7}}, extents: []imagefs.Extent{
			{At: 700, Len: 1300}, {Len: 3000, Hole: true}, {At: 0, Len: 512},
		}},
		3: {info: imagefs.Info{Mode: fs.ModeDir | 0o755, ModTime: modTime, Stat: imagefs.Stat{Inode: 3}}, entries: []imagefs.Dirent{{Name: "again", Inode: 2}}},
		4: {
			info:    imagefs.Info{Mode: fs.ModeSymlink | 0o777, Size: 5, ModTime: modTime, Stat: imagefs.Stat{Inode: 4}},
			extents: []imagefs.Extent{{At: 300, Len: 5}},
		},
		5: {info: imagefs.Info{Mode: fs.ModeNamedPipe, ModTime: modTime, Stat: imagefs.Stat{Inode: 5}}},
	}
}

func open(t testing.TB, f fake) *imagefs.FS {
	t.Helper()
	fsys, err := imagefs.New(f, imagefs.NewBlocks(bytes.NewReader(image()), 20_000, blockSize, errDamaged), 1)
	must(t, err)
	return fsys
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The contract of io/fs, in all its parts. fstest wants to read what it finds,
// so there is no fifo.
func TestFS(t *testing.T) {
	t.Parallel()
	f := sample()
	f[1].entries = f[1].entries[:3]
	if err := fstest.TestFS(open(t, f), "file", "dir/again", "link"); err != nil {
		t.Error(err)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	fsys := open(t, sample())
	for path, want := range map[string]error{
		"missing": fs.ErrNotExist, "dir/missing": fs.ErrNotExist, "": fs.ErrInvalid, "/": fs.ErrInvalid, "/dir": fs.ErrInvalid,
		"dir/": fs.ErrInvalid, "dir//again": fs.ErrInvalid, "./dir": fs.ErrInvalid, "dir/..": fs.ErrInvalid, "..": fs.ErrInvalid,
	} {
		_, err := fsys.Open(path)
		var pathError *fs.PathError
		if !errors.Is(err, want) || !errors.As(err, &pathError) || pathError.Path != path {
			t.Errorf("%q: %v", path, err)
		}
	}
	for path, want := range map[string]string{
		"file/below": "open file/below: inode 2 is a file: not a directory",
		"link/below": "open link/below: inode 4 is a symbolic link: not a directory",
	} {
		if _, err := fsys.Open(path); err == nil || err.Error() != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A link and a fifo can be opened and described, not read.
func TestWhatHasNoContent(t *testing.T) {
	t.Parallel()
	fsys := open(t, sample())
	for _, path := range []string{"link", "fifo", "dir"} {
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
}

func TestReadSeekClose(t *testing.T) {
	t.Parallel()
	file, err := open(t, sample()).Open("file")
	must(t, err)
	f := file.(*imagefs.File)
	want := content()
	for _, at := range []int64{0, 1, 1299, 1300, 2000, 4299, 4300, 4309, 4310, 9000} {
		if n, err := f.Seek(at, io.SeekStart); n != at || err != nil {
			t.Fatalf("seeking %d: %d, %v", at, n, err)
		}
		got, err := io.ReadAll(f)
		if rest := want[min(at, 4310):]; err != nil || !bytes.Equal(got, rest) {
			t.Errorf("from %d: %d bytes of %d, %v", at, len(got), len(rest), err)
		}
	}
	if n, err := f.Seek(-10, io.SeekEnd); n != 4300 || err != nil {
		t.Errorf("ten before the end: %d, %v", n, err)
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

// What no directory may have, whatever the format.
func TestDirectories(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		hurt func(f fake)
		want string
	}{
		{"itself", func(f fake) { f[3].entries[0] = imagefs.Dirent{Name: "x", Inode: 3, Type: fs.ModeDir} }, "directory 3 is in two places, in 1 and 3"},
		{"the root", func(f fake) { f[3].entries[0] = imagefs.Dirent{Name: "x", Inode: 1, Type: fs.ModeDir} }, "directory 1 is in two places, in 1 and 3"},
		{"two names", func(f fake) { f[1].entries[2] = imagefs.Dirent{Name: "x", Inode: 3, Type: fs.ModeDir} }, "directory 3 is in two places, in 1 and 1"},
		{"twice", func(f fake) { f[1].entries[2].Name = "dir" }, `two entries "dir"`},
		{"type", func(f fake) { f[1].entries[2].Type = fs.ModeSymlink }, "inode 2 is a file, in directory 1 a symbolic link"},
		{"no type", func(f fake) { f[1].entries[2].Type = fs.ModeIrregular }, `"file" is of no type`},
		{"dots", func(f fake) { f[1].entries[2].Name = ".." }, `an entry ".."`},
		{"long", func(f fake) { f[1].entries[2].Name = strings.Repeat("x", 256) }, `an entry "xxx`},
		{"many", func(f fake) { f[3].entries = many(imagefs.MaxEntries + 1) }, "more than 1048576 entries"},
		{"missing", func(f fake) { delete(f, 5) }, "no inode 5"},
	} {
		f := sample()
		c.hurt(f)
		fsys := open(t, f)
		paths := 0
		err := fs.WalkDir(fsys, ".", func(_ string, d fs.DirEntry, err error) error {
			if paths++; paths > 100 {
				return errors.New("endless")
			}
			if err == nil {
				_, err = d.Info()
			}
			return err
		})
		if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// many makes entries of one file.
func many(n int) []imagefs.Dirent {
	list := make([]imagefs.Dirent, n)
	for i := range list {
		list[i] = imagefs.Dirent{Name: fmt.Sprint(i), Inode: 2}
	}
	return list
}

// A listing of any length is found in, kept or not.
func TestLargeDirectory(t *testing.T) {
	t.Parallel()
	f := sample()
	f[3].entries = many(100_000)
	fsys := open(t, f)
	for _, name := range []string{"dir/0", "dir/99999", "file", "dir/5"} {
		if info, err := fsys.Lstat(name); err != nil || info.Size() != 4310 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	list, err := fsys.ReadDir("dir")
	if err != nil || len(list) != 100_000 || list[1].Name() != "1" || list[2].Name() != "10" {
		t.Errorf("%d entries, %v", len(list), err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	f := sample()
	f[2].info.Size = 64<<20 + 1
	f[4].info.Size = 1 << 16
	fsys := open(t, f)
	if _, err := fsys.ReadFile("file"); err == nil || !strings.Contains(err.Error(), "67108865 bytes, more than") {
		t.Errorf("a large file: %v", err)
	}
	if _, err := fsys.ReadLink("link"); !errors.Is(err, errDamaged) {
		t.Errorf("a long target: %v", err)
	}
	for _, e := range []imagefs.Extent{{}, {Len: -5}, {At: 19_999, Len: 2}, {At: -1, Len: 2}, {At: 1<<63 - 1, Len: 2}, {At: 0, Len: 1<<63 - 1}} {
		f[4].info.Size, f[4].extents = 30_000, []imagefs.Extent{e}
		if got, err := fsys.ReadLink("link"); !errors.Is(err, errDamaged) {
			t.Errorf("%+v: %q, %v", e, got, err)
		}
	}
}

// The kernel ends a target at the first null, and would so see another one.
func TestTargetWithNull(t *testing.T) {
	t.Parallel()
	f := sample()
	f[4].extents = []imagefs.Extent{{At: 300, Len: 2}, {Len: 1, Hole: true}, {At: 300, Len: 2}}
	if got, err := open(t, f).ReadLink("link"); !errors.Is(err, errDamaged) || got != "" || !strings.Contains(err.Error(), `\x00`) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestErrorsOfNodes(t *testing.T) {
	t.Parallel()
	f := sample()
	fsys := open(t, f)
	mine := errors.New("mine")
	for inode := range f {
		f[inode].err = mine
	}
	_, list := fsys.ReadDir("dir")
	info, err := fsys.Lstat(".")
	must(t, err)
	_, attrs := info.Sys().(*imagefs.Stat).Xattrs()
	for _, err := range []error{list, attrs} {
		if !errors.Is(err, mine) || errors.Is(err, errDamaged) {
			t.Errorf("%v", err)
		}
	}
	if _, err := imagefs.New(fake{}, imagefs.NewBlocks(nil, 0, blockSize, errDamaged), 1); !errors.Is(err, errDamaged) {
		t.Errorf("no root: %v", err)
	}
}

// Many readers share one image, one cache and one file.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	fsys := open(t, sample())
	shared, err := fsys.Open("file")
	must(t, err)
	want := content()
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				at := (i*997 + j*463) % 4310
				got := make([]byte, min(3000, 4310-at))
				if _, err := shared.(io.ReaderAt).ReadAt(got, int64(at)); err != nil || !bytes.Equal(got, want[at:at+len(got)]) {
					t.Errorf("at %d: %v", at, err)
				}
				if _, err := fsys.Lstat("dir/again"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}
