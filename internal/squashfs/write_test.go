package squashfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockport/lockport/internal/squashfs"
)

// memory is an image in memory.
type memory struct {
	b      []byte
	failAt int // if not 0, the first write that goes past it fails
}

var errFull = errors.New("no space left")

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	end := int(off) + len(p)
	if m.failAt > 0 && end > m.failAt {
		return 0, errFull
	}
	if end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

// thing is an entry of a tree in memory.
type thing struct {
	squashfs.Node
	data   []byte
	below  []*thing
	names  map[string]*thing // of below, once one was looked up
	short  int               // bytes that the file lacks when it is read, or has too many
	source io.ReadCloser     // instead of data
}

// tree is a tree in memory.
type tree struct{ root *thing }

func dir(name string, below ...*thing) *thing {
	return &thing{Node: squashfs.Node{Name: name, Mode: fs.ModeDir | 0o755}, below: below}
}

func file(name, data string) *thing {
	return &thing{Node: squashfs.Node{Name: name, Mode: 0o644, Size: int64(len(data))}, data: []byte(data)}
}

func (t tree) find(p string) (*thing, error) {
	at := t.root
	for _, name := range strings.Split(p, "/") {
		if name == "." {
			continue
		}
		if at.names == nil {
			at.names = map[string]*thing{}
			for _, x := range at.below {
				at.names[x.Name] = x
			}
		}
		if at = at.names[name]; at == nil {
			return nil, &fs.PathError{Op: "find", Path: p, Err: fs.ErrNotExist}
		}
	}
	return at, nil
}

func (t tree) Root() (squashfs.Node, error) { return t.root.Node, nil }

func (t tree) ReadDir(p string) (list []squashfs.Node, err error) {
	d, err := t.find(p)
	if err != nil {
		return nil, err
	}
	for _, x := range d.below {
		list = append(list, x.Node)
	}
	return list, nil
}

func (t tree) Open(p string) (io.ReadCloser, error) {
	x, err := t.find(p)
	if err != nil {
		return nil, err
	}
	if x.source != nil {
		return x.source, nil
	}
	data := append(bytes.Clone(x.data), make([]byte, max(0, -x.short))...)
	return io.NopCloser(bytes.NewReader(data[:len(data)-max(0, x.short)])), nil
}

// inMemory writes an image of a tree in memory.
func inMemory(t testing.TB, src squashfs.Tree, o squashfs.WriteOptions) ([]byte, squashfs.Summary) {
	t.Helper()
	var m memory
	sum, err := squashfs.Write(context.Background(), &m, src, o)
	must(t, err)
	if int64(len(m.b)) != sum.Size {
		t.Errorf("the image has %d bytes, said are %d", len(m.b), sum.Size)
	}
	return m.b, sum
}

func named(n string) *thing { return file(n, "") }

func with(x *thing, change func(*thing)) *thing { change(x); return x }

func deep(n int) *thing {
	d := dir("d")
	for range n {
		d = dir("d", d)
	}
	return d
}

// What no image can hold is refused, with its path.
func TestUnsuitableSources(t *testing.T) {
	t.Parallel()
	attr := func(name, value string) *thing {
		return with(named("a"), func(x *thing) { x.Attrs = []squashfs.Attr{{Name: name, Value: []byte(value)}} })
	}
	device := func(major, minor uint32) *thing {
		return with(named("a"), func(x *thing) { x.Mode, x.Major, x.Minor = fs.ModeDevice, major, minor })
	}
	link := func(target string) *thing {
		return with(named("a"), func(x *thing) { x.Mode, x.Target = fs.ModeSymlink, target })
	}
	linked := func(name string, mode fs.FileMode, size int64) *thing {
		return with(named(name), func(x *thing) { x.Mode, x.Size, x.Link.Inode = mode, size, 1 })
	}
	sized := func(n int64) *thing { return with(named("a"), func(x *thing) { x.Size = n }) }
	short := func(n, by int) *thing {
		return with(file("a", string(prose(n))), func(x *thing) { x.short = by })
	}
	for name, root := range map[string]*thing{
		"no name":             dir("", named("")),
		"slash":               dir("", named("a/b")),
		"dot":                 dir("", named(".")),
		"dots":                dir("", named("..")),
		"zero in name":        dir("", named("a\x00b")),
		"long name":           dir("", named(strings.Repeat("x", 256))),
		"twice":               dir("", named("a"), named("a")),
		"root is a file":      named("a"),
		"deep":                deep(1100),
		"strange kind":        dir("", with(named("a"), func(x *thing) { x.Mode = fs.ModeIrregular })),
		"no target":           dir("", link("")),
		"long target":         dir("", link(strings.Repeat("x", 4096))),
		"zero in target":      dir("", link("a\x00b")),
		"major number":        dir("", device(4096, 0)),
		"minor number":        dir("", device(0, 1<<20)),
		"namespace":           dir("", attr("system.posix_acl_access", "x")),
		"attribute's name":    dir("", attr("user.", "x")),
		"long attribute name": dir("", attr("user."+strings.Repeat("x", 251), "x")),
		"long attribute":      dir("", attr("user.a", string(make([]byte, 1<<16+1)))),
		"attribute twice":     dir("", with(attr("user.a", "x"), func(x *thing) { x.Attrs = append(x.Attrs, x.Attrs[0]) })),
		"negative size":       dir("", sized(-1)),
		"great size":          dir("", sized(1<<62)),
		"other kind of link":  dir("", linked("a", 0, 0), linked("b", fs.ModeSymlink, 0)),
		"other size of link":  dir("", linked("a", 0, 0), linked("b", 0, 1)),
		"shorter":             dir("", short(5, 1)),
		"longer":              dir("", short(5, -1)),
		"shorter by a block":  dir("", short(300<<10, 200<<10)),
		"longer by a block":   dir("", short(300<<10, -200<<10)),
		"longer when full":    dir("", short(128<<10, -1)),
		"empty gets longer":   dir("", with(named("a"), func(x *thing) { x.short = -1 })),
		"same size, shorter":  dir("", file("0", string(prose(300<<10))), short(300<<10, 1)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m memory
			sum, err := squashfs.Write(context.Background(), &m, tree{root}, squashfs.WriteOptions{Level: 1})
			if !errors.Is(err, squashfs.ErrSource) || sum != (squashfs.Summary{}) {
				t.Fatalf("%+v, %v", sum, err)
			}
			if _, err := openBytes(m.b); !errors.Is(err, squashfs.ErrNotSquashfs) {
				t.Errorf("an image is left behind: %v", err)
			}
		})
	}
}

// Names and values at the greatest length are not refused.
func TestGreatestLengths(t *testing.T) {
	t.Parallel()
	name := strings.Repeat("x", 255)
	a := with(named(name), func(x *thing) {
		x.Mode, x.Target = fs.ModeSymlink, strings.Repeat("t", 4095)
		x.Attrs = []squashfs.Attr{{Name: "trusted." + strings.Repeat("n", 247), Value: noise(1 << 16)}}
	})
	b := with(named("dev"), func(x *thing) { x.Mode, x.Major, x.Minor = fs.ModeDevice|fs.ModeCharDevice, 4095, 1<<20-1 })
	image, _ := inMemory(t, tree{dir("", a, b)}, squashfs.WriteOptions{})
	fsys, err := openBytes(image)
	must(t, err)
	all := ours(t, fsys)
	if f := all[name]; f.Target != a.Target || !slices.Equal(f.Attrs, []string{fmt.Sprintf("%s=%x", a.Attrs[0].Name, a.Attrs[0].Value)}) {
		t.Errorf("link: %d bytes of target, %d attributes", len(f.Target), len(f.Attrs))
	}
	if f := all["dev"]; f.Device != "4095:1048575" {
		t.Errorf("device %s", f.Device)
	}
}

func TestWriteOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []squashfs.WriteOptions{
		{BlockSize: 2 << 10}, {BlockSize: 2 << 20}, {BlockSize: 5000}, {BlockSize: -4096}, {Workers: -1}, {Workers: 1 << 20},
		{Compressor: 9}, {Compressor: -1}, {Level: 23}, {Level: -1}, {Compressor: squashfs.Gzip, Level: 10},
		{Compressor: squashfs.XZ, Level: 2}, {Compressor: squashfs.LZ4, Level: 3},
	} {
		if _, err := squashfs.Write(context.Background(), &memory{}, tree{dir("")}, o); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// An empty tree is an image, too.
func TestEmptyTree(t *testing.T) {
	t.Parallel()
	image, sum := inMemory(t, tree{dir("")}, squashfs.WriteOptions{})
	fsys, err := openBytes(image)
	must(t, err)
	if all := ours(t, fsys); len(all) != 1 || sum.Inodes != 1 || len(image) != 4096 {
		t.Errorf("%v in %d bytes; %+v", all, len(image), sum)
	}
}

// mixed is a tree with what takes different ways through the writer.
func mixed() *thing {
	root := dir("")
	for i := range 12 {
		d := dir(fmt.Sprint("dir", i))
		for k := range 20 {
			d.below = append(d.below, file(fmt.Sprint("file", k), string(prose(i*k*43))))
		}
		d.below = append(d.below, file("big", string(prose(i*9000+1))), file("copy", string(prose(1000))), file("zeros", string(make([]byte, i*1000))))
		root.below = append(root.below, d)
	}
	return root
}

// Neither the number of workers nor the order of entries changes the image.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	root := mixed()
	for _, c := range []squashfs.Compressor{squashfs.Zstd, squashfs.Gzip, squashfs.XZ, squashfs.LZ4} {
		for _, level := range []int{0, 1} {
			if c == squashfs.XZ && level == 1 {
				continue // the same
			}
			o := squashfs.WriteOptions{Compressor: c, Level: level, BlockSize: 16 << 10, Workers: 1}
			want, _ := inMemory(t, tree{root}, o)
			reversed := *root
			reversed.below = slices.Clone(root.below)
			slices.Reverse(reversed.below)
			for _, o.Workers = range []int{7} {
				if got, _ := inMemory(t, tree{&reversed}, o); !bytes.Equal(got, want) {
					t.Errorf("compressor %d, level %d, %d workers: other bytes", c, level, o.Workers)
				}
			}
		}
	}
}

// An image written of what is read from an image is the same one.
func TestCopyOfAnImage(t *testing.T) {
	t.Parallel()
	for name, image := range vectors(t) {
		fsys, err := openBytes(image)
		must(t, err)
		first, _ := inMemory(t, squashfs.FSTree(fsys), squashfs.WriteOptions{Level: 1})
		again, err := openBytes(first)
		must(t, err)
		same(t, name, asSource(ours(t, fsys)), asSource(ours(t, again)))
		second, _ := inMemory(t, squashfs.FSTree(again), squashfs.WriteOptions{Level: 1})
		if !bytes.Equal(first, second) {
			t.Errorf("%s: the copy of the copy is another", name)
		}
	}
}

func TestTimesAndOwners(t *testing.T) {
	t.Parallel()
	at := func(name string, seconds int64) *thing {
		return with(named(name), func(x *thing) { x.ModTime, x.UID, x.GID = time.Unix(seconds, 999), 7, 8 })
	}
	root := dir("", at("old", -5), at("early", 1000), at("late", 3000), at("far", 1<<40))
	for _, c := range []struct {
		o    squashfs.WriteOptions
		want map[string]int64
		uid  uint32
	}{
		{squashfs.WriteOptions{}, map[string]int64{"old": 0, "early": 1000, "late": 3000, "far": 1<<32 - 1}, 7},
		{squashfs.WriteOptions{NotAfter: time.Unix(2000, 0), RootOwned: true}, map[string]int64{"old": 0, "early": 1000, "late": 2000, "far": 2000}, 0},
	} {
		image, _ := inMemory(t, tree{root}, c.o)
		fsys, err := openBytes(image)
		must(t, err)
		for name, want := range c.want {
			info, err := fsys.Lstat(name)
			must(t, err)
			if s := info.Sys().(*squashfs.Stat); info.ModTime().Unix() != want || s.UID != c.uid || (s.GID == 0) != (c.uid == 0) {
				t.Errorf("%s: %v of %d:%d", name, info.ModTime(), s.UID, s.GID)
			}
		}
		if made := int64(le.Uint32(image[8:])); c.o.RootOwned && made != 2000 {
			t.Errorf("made at %d", made)
		}
	}
}

// Duplicates take no room, whatever their size; zeros take none either.
func TestDuplicatesAndHoles(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 5000, 16<<10 - 1, 16 << 10, 16<<10 + 1, 100_000} {
		data := string(noise(n))
		one := dir("", file("a", data))
		two := dir("", file("a", data), file("b", data), file("c", data[:n-1]+"?"))
		o := squashfs.WriteOptions{BlockSize: 16 << 10, NoPadding: true}
		small, _ := inMemory(t, tree{one}, o)
		image, sum := inMemory(t, tree{two}, o)
		if sum.Duplicates != int64(n) || len(image) > len(small)+n+200 {
			t.Errorf("%d bytes, twice and another time: %d more; %+v", n, len(image)-len(small), sum)
		}
		zeros, sum := inMemory(t, tree{dir("", file("a", string(make([]byte, n))))}, o)
		if sum.Holes != int64(n) || len(zeros) > 400 {
			t.Errorf("%d zeros take %d bytes; %+v", n, len(zeros), sum)
		}
		for _, b := range [][]byte{image, zeros} {
			fsys, err := openBytes(b)
			must(t, err)
			got, err := fsys.ReadFile("a")
			must(t, err)
			if string(got) != data && !bytes.Equal(got, make([]byte, n)) {
				t.Errorf("%d bytes are read wrong", n)
			}
		}
	}
}

// failing is a file that cannot be read to its end.
type failing struct{ after func() error }

func (f failing) Read(p []byte) (int, error) {
	if err := f.after(); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f failing) Close() error { return nil }

// Errors of either side come out, and leave no image.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	bad := with(named("bad"), func(x *thing) { x.Size, x.source = 1<<40, failing{func() error { return broken }} })
	_, err := squashfs.Write(context.Background(), &memory{}, tree{dir("", bad)}, squashfs.WriteOptions{})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "bad") {
		t.Errorf("a file that cannot be read: %v", err)
	}
	image, _ := inMemory(t, tree{mixed()}, squashfs.WriteOptions{Level: 1})
	for _, at := range []int{1, 50, len(image) / 2, len(image) - 1} {
		m := &memory{failAt: at}
		if _, err := squashfs.Write(context.Background(), m, tree{mixed()}, squashfs.WriteOptions{Level: 1}); !errors.Is(err, errFull) {
			t.Errorf("full at %d: %v", at, err)
		}
		if _, err := openBytes(m.b); !errors.Is(err, squashfs.ErrNotSquashfs) {
			t.Errorf("full at %d: an image is left: %v", at, err)
		}
	}
}

// A cancelled context ends the work soon, in the middle of a file without end.
func TestWriteCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	var reads atomic.Int64
	endless := with(named("endless"), func(x *thing) {
		x.Size = 1 << 40
		x.source = failing{func() error {
			if reads.Add(1) == 100 {
				cancel()
			}
			return nil
		}}
	})
	_, err := squashfs.Write(ctx, &memory{}, tree{dir("", endless)}, squashfs.WriteOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if n := reads.Load(); n > 101 {
		t.Errorf("%d reads after it was cancelled", n-100)
	}
	if _, err := squashfs.Write(ctx, &memory{}, tree{dir("")}, squashfs.WriteOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

// Progress goes up to the end, and counts what takes no room.
func TestProgress(t *testing.T) {
	t.Parallel()
	var last squashfs.Progress
	o := squashfs.WriteOptions{Level: 1, BlockSize: 4 << 10, Progress: func(p squashfs.Progress) {
		if p.Bytes < last.Bytes || p.Written < last.Written || p.Bytes > p.TotalBytes {
			t.Errorf("%+v after %+v", p, last)
		}
		last = p
	}}
	_, sum := inMemory(t, tree{mixed()}, o)
	if last.Bytes != sum.Content || last.TotalBytes != sum.Content {
		t.Errorf("%+v at the end of %+v", last, sum)
	}
}

// Hard links of anything but directories are one inode.
func TestHardLinks(t *testing.T) {
	t.Parallel()
	root := dir("")
	for i, mode := range []fs.FileMode{0o644, fs.ModeSymlink, fs.ModeNamedPipe, fs.ModeSocket, fs.ModeDevice} {
		for k := range 3 {
			x := with(named(fmt.Sprintf("x%d%d", k, i)), func(x *thing) {
				x.Mode, x.Link = mode, squashfs.LinkID{Device: 1, Inode: uint64(i) + 1}
				if mode == fs.ModeSymlink {
					x.Target = "t"
				}
			})
			root.below = append(root.below, dir(fmt.Sprintf("d%d%d", k, i), x))
		}
	}
	image, _ := inMemory(t, tree{root}, squashfs.WriteOptions{})
	fsys, err := openBytes(image)
	must(t, err)
	all := ours(t, fsys)
	for i := range 5 {
		first := all[path.Join(fmt.Sprint("d0", i), fmt.Sprint("x0", i))]
		last := all[path.Join(fmt.Sprint("d2", i), fmt.Sprint("x2", i))]
		if first.Links != 3 || first.Inode != last.Inode {
			t.Errorf("%v: %d links, inodes %d and %d", first.Mode, first.Links, first.Inode, last.Inode)
		}
	}
}

// Blocks that do not get smaller are stored; lz4 once failed on some of these.
func TestIncompressible(t *testing.T) {
	t.Parallel()
	root := dir("")
	for n := range 300 {
		// Some bytes are there twice, which is a gain that does not pay for the rest.
		data := noise(n * n % 4000)
		root.below = append(root.below, file(fmt.Sprint(n), string(append(data, data[:min(len(data), n%30)]...))))
	}
	for c := squashfs.Zstd; c <= squashfs.LZ4; c++ {
		for level := range 2 {
			if c != squashfs.LZ4 && level > 0 {
				continue
			}
			image, _ := inMemory(t, tree{root}, squashfs.WriteOptions{Compressor: c, Level: 1 + level, NoFragments: true, BlockSize: 4 << 10})
			fsys, err := openBytes(image)
			must(t, err)
			for _, x := range root.below {
				if got, err := fsys.ReadFile(x.Name); err != nil || !bytes.Equal(got, x.data) {
					t.Errorf("compressor %d: %s: %v", c, x.Name, err)
				}
			}
		}
	}
}
