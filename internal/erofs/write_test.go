package erofs_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/internal/erofs"
	"github.com/lockport/lockport/internal/imagefs"
	"github.com/lockport/lockport/internal/squashfs"
)

// memory is an image in memory. It notices blocks that are written twice, in
// part or not at all.
type memory struct {
	data    []byte
	written []bool // by block
	wrong   bool
	fail    func(off int64) error // nil for none
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if m.fail != nil {
		if err := m.fail(off); err != nil {
			return 0, err
		}
	}
	if more := int(off) + len(p) - len(m.data); more > 0 {
		m.data = append(m.data, bytes.Repeat([]byte{0xaa}, more)...)
		m.written = append(m.written, make([]bool, (len(m.data)+4095)/4096-len(m.written))...)
	}
	blocks := m.written[off/4096 : (int(off)+len(p)+4095)/4096]
	m.wrong = m.wrong || off%4096 != 0 || len(p)%4096 != 0 || slices.Contains(blocks, true)
	for i := range blocks {
		blocks[i] = true
	}
	return copy(m.data[off:], p), nil
}

// item is a file in memory.
type item struct {
	squashfs.Node
	data  []byte
	below []*item
}

// memTree is a tree in memory. Its files know their holes if it is sparse.
type memTree struct {
	root   *item
	sparse bool
	open   func(data []byte) (io.ReadCloser, error) // instead, if not nil
}

func folder(name string, below ...*item) *item {
	return &item{Node: squashfs.Node{Name: name, Mode: fs.ModeDir | 0o755}, below: below}
}

func file(name string, data []byte) *item {
	return &item{Node: squashfs.Node{Name: name, Mode: 0o644, Size: int64(len(data))}, data: data}
}

func with(i *item, change func(*item)) *item { change(i); return i }

func (t memTree) find(p string) *item {
	i := t.root
	for part := range strings.SplitSeq(p, "/") {
		if part != "." {
			i = i.below[slices.IndexFunc(i.below, func(c *item) bool { return c.Name == part })]
		}
	}
	return i
}

func (t memTree) Root() (squashfs.Node, error) { return t.root.Node, nil }

func (t memTree) ReadDir(p string) (list []squashfs.Node, err error) {
	for _, c := range t.find(p).below {
		list = append(list, c.Node)
	}
	return list, nil
}

func (t memTree) Open(p string) (io.ReadCloser, error) {
	data := t.find(p).data
	if t.open != nil {
		return t.open(data)
	}
	r := bytes.NewReader(data)
	if t.sparse {
		return sparse{r, data}, nil
	}
	return io.NopCloser(r), nil
}

// sparse is a file that knows its zeros, to the byte.
type sparse struct {
	*bytes.Reader
	data []byte
}

func (s sparse) Close() error { return nil }

func (s sparse) NextData(off int64) (int64, error) {
	n := bytes.IndexFunc(s.data[off:], func(r rune) bool { return r != 0 })
	if n < 0 {
		return 0, io.EOF
	}
	return off + int64(n), nil
}

// made writes an image and looks at how that is done.
func made(t testing.TB, src squashfs.Tree, o erofs.WriteOptions) ([]byte, erofs.Summary) {
	t.Helper()
	m := &memory{}
	sum, err := erofs.Write(t.Context(), m, src, o)
	must(t, err)
	gaps := slices.Contains(m.written, false)
	if m.wrong || gaps || int64(len(m.data)) != sum.Size {
		t.Errorf("written in part or twice: %v, gaps: %v, %d bytes of %d", m.wrong, gaps, len(m.data), sum.Size)
	}
	return m.data, sum
}

// fsck lets fsck.erofs look at an image.
func fsck(t testing.TB, b []byte) {
	t.Helper()
	tool, err := exec.LookPath("fsck.erofs")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("fsck.erofs is needed")
		}
		return
	}
	image := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(image, b, 0o600))
	if out, err := exec.Command(tool, image).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
	must(t, os.Remove(image))
}

// wanted says in words what a tree has.
func wanted(all map[string]string, p string, i *item, links map[squashfs.LinkID]int) {
	var attrs []string
	for _, a := range i.Attrs {
		attrs = append(attrs, fmt.Sprintf("%s=%x", a.Name, a.Value))
	}
	slices.Sort(attrs)
	size, count := i.Size, 1
	switch {
	case i.Mode.IsDir():
		size, count = 0, 2
	case i.Mode.Type() == fs.ModeSymlink:
		size = int64(len(i.Target))
	}
	if n := links[i.Link]; n > 0 {
		count = n
	}
	for _, c := range i.below {
		if c.Mode.IsDir() {
			count++
		}
		wanted(all, strings.TrimPrefix(p+"/"+c.Name, "./"), c, links)
	}
	all[p] = words(i.Mode, size, count, i.UID, i.GID, i.Major, i.Minor, i.ModTime, i.Target, attrs, i.data)
}

func words(mode fs.FileMode, size int64, links int, uid, gid, major, minor uint32, at time.Time, target string, attrs []string, data []byte) string {
	return fmt.Sprintln(mode, size, links, uid, gid, major, minor, at.UnixNano(), target, attrs, len(data), crc32.ChecksumIEEE(data))
}

// found says the same of an image.
func found(t testing.TB, fsys *imagefs.FS) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s := info.Sys().(*imagefs.Stat)
		list, err := s.Xattrs()
		var attrs []string
		for _, a := range list {
			attrs = append(attrs, fmt.Sprintf("%s=%x", a.Name, a.Value))
		}
		slices.Sort(attrs)
		var data []byte
		var target string
		size := info.Size()
		switch {
		case err != nil:
		case info.IsDir():
			size = 0
		case info.Mode().IsRegular():
			data, err = fsys.ReadFile(p)
		case info.Mode().Type() == fs.ModeSymlink:
			target, err = fsys.ReadLink(p)
		}
		all[p] = words(info.Mode(), size, int(s.Links), s.UID, s.GID, s.Major, s.Minor, info.ModTime(), target, attrs, data)
		return err
	}))
	return all
}

// check writes a tree in both ways and compares what is read with it.
func check(t *testing.T, root *item) (image []byte, sum erofs.Summary) {
	t.Helper()
	image, sum = made(t, memTree{root: root}, erofs.WriteOptions{})
	if again, _ := made(t, memTree{root: root, sparse: true}, erofs.WriteOptions{}); !bytes.Equal(image, again) {
		t.Error("where holes are known the image has other bytes")
	}
	fsys, err := openBytes(image)
	must(t, err)
	links := map[squashfs.LinkID]int{}
	countLinks(root, links)
	want := map[string]string{}
	wanted(want, ".", root, links)
	if diff := cmp.Diff(want, found(t, fsys)); diff != "" {
		t.Errorf("the tree, and the image (+):\n%.3000s", diff)
	}
	fsck(t, image)
	return image, sum
}

func countLinks(i *item, links map[squashfs.LinkID]int) {
	if i.Link != (squashfs.LinkID{}) {
		links[i.Link]++
	}
	for _, c := range i.below {
		countLinks(c, links)
	}
}

// grower makes random trees.
type grower struct {
	*rand.Rand
	left   int
	linked []*item
}

func (g *grower) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// pick is one of several, often the first ones.
func pick[T any](g *grower, list ...T) T { return list[min(g.IntN(len(list)), g.IntN(len(list)))] }

func (g *grower) name(used map[string]bool) string {
	for {
		n := make([]byte, pick(g, 1+g.IntN(8), 1+g.IntN(40), 250+g.IntN(6)))
		for i := range n {
			if n[i] = byte(1 + g.IntN(255)); n[i] == '/' {
				n[i] = '-'
			}
		}
		if s := string(n); s != "." && s != ".." && !used[s] {
			used[s] = true
			return s
		}
	}
}

// content has holes, data and an end of any length.
func (g *grower) content() []byte {
	var b []byte
	for range pick(g, 0, 1, 2, 5, 20) {
		size := pick(g, g.IntN(100), g.IntN(9000), 4096*g.IntN(8), 4096*g.IntN(100))
		switch g.IntN(3) {
		case 0:
			b = append(b, make([]byte, size)...)
		case 1:
			b = append(b, bytes.Repeat([]byte("same"), size/4)...)
		default:
			b = append(b, g.bytes(size)...)
		}
	}
	return b
}

func (g *grower) attrs() (list []squashfs.Attr) {
	for i := range pick(g, 0, 0, 0, 1, 3, 300) {
		value := pick(g, []byte("a value that several have"), nil, g.bytes(g.IntN(20)), g.bytes(g.IntN(6000)))
		if i > 10 {
			value = value[:min(len(value), 40)]
		}
		list = append(list, squashfs.Attr{Name: fmt.Sprint(pick(g, "user.", "security.", "trusted."), i), Value: value})
	}
	if g.IntN(20) == 0 {
		list = append(list, squashfs.Attr{Name: "system.posix_acl_access", Value: g.bytes(28)})
	}
	return list
}

func (g *grower) grow(name string, depth int) *item {
	g.left--
	i := &item{Node: squashfs.Node{Name: name, Mode: fs.FileMode(g.IntN(0o1000)), Attrs: g.attrs()}}
	i.ModTime = time.Unix(pick(g, 1_000_000_000, g.Int64N(1<<33)-1<<32), pick(g, 0, g.Int64N(1_000_000_000)))
	i.UID, i.GID = pick(g, 0, 1000, g.Uint32()), pick(g, 0, 65535, 65536, g.Uint32())
	if g.IntN(4) == 0 {
		i.Mode |= pick(g, fs.ModeSetuid, fs.ModeSetgid, fs.ModeSticky)
	}
	kind := g.IntN(10)
	if depth == 0 {
		kind = 5
	}
	switch kind {
	case 0:
		i.Mode, i.Target = i.Mode|fs.ModeSymlink, strings.Repeat("t", pick(g, 1+g.IntN(50), 1+g.IntN(4095), 4095))
	case 1:
		i.Mode |= pick(g, fs.ModeNamedPipe, fs.ModeSocket)
	case 2:
		i.Mode |= pick(g, fs.ModeDevice, fs.ModeDevice|fs.ModeCharDevice)
		i.Major, i.Minor = g.Uint32N(0x1000), g.Uint32N(0x100000)
	case 3, 4, 5:
		if depth > 5 {
			break
		}
		i.Mode |= fs.ModeDir
		used := map[string]bool{}
		for n := pick(g, g.IntN(5), g.IntN(40), g.IntN(300)) + 20/(depth+1); n > 0 && g.left > 0; n-- {
			i.below = append(i.below, g.child(g.name(used), depth))
		}
	default:
		i.data = g.content()
		i.Size = int64(len(i.data))
	}
	return i
}

// child is a new file, another's copy or another's name.
func (g *grower) child(name string, depth int) *item {
	if len(g.linked) > 0 && g.IntN(8) == 0 {
		other := g.linked[g.IntN(len(g.linked))]
		if g.IntN(2) == 0 {
			copied := g.grow(name, 100)
			if copied.Mode.IsRegular() {
				copied.data, copied.Size = other.data, other.Size
			}
			return copied
		}
		linked := *other
		linked.Name = name
		return &linked
	}
	i := g.grow(name, depth+1)
	if i.Mode.IsRegular() {
		i.Link = squashfs.LinkID{Device: 1, Inode: uint64(g.left) + 1}
		g.linked = append(g.linked, i)
	}
	return i
}

func TestRandomTrees(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	for i := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed+i), func(t *testing.T) {
			t.Parallel()
			g := &grower{Rand: rand.New(rand.NewPCG(seed+i, 1)), left: 150}
			check(t, g.grow("", 0))
		})
	}
}

// What has the greatest or an odd size in the format.
func TestGreatestSizes(t *testing.T) {
	t.Parallel()
	noise := (&grower{Rand: rand.New(rand.NewPCG(1, 1))}).bytes(9 << 20)
	root := folder("")
	add := func(i *item) *item {
		i.ModTime = time.Unix(5, 0)
		root.below = append(root.below, i)
		return i
	}
	for size := range 70 {
		add(file(fmt.Sprint("end ", size), noise[:4096*(size%3)+4096-size]))
	}
	add(file(strings.Repeat("n", 255), noise[:5000]))
	add(file("large", noise)).UID = 1 << 31
	add(file("large copy", noise))
	holes := slices.Clone(noise)
	clear(holes[1<<20 : 1<<20+8192])
	clear(holes[5<<20+4096 : 6<<20])
	add(file("holes", holes))
	add(file("holes copy", holes))
	add(file("all zeros", make([]byte, 3<<20+77)))
	big := add(folder("big"))
	for i := range 20_000 {
		name := fmt.Sprintf("%d %s", i, strings.Repeat("x", i%200))
		big.below = append(big.below, with(file(name, noise[i:i+i%700]), func(i *item) { i.ModTime = time.Unix(5, 0) }))
	}
	for i := range 200 {
		big.below = append(big.below, folder(fmt.Sprintf("%0255d", i)))
	}
	for _, d := range big.below[20_000:] {
		d.ModTime = time.Unix(5, 0)
	}
	root.ModTime = time.Unix(6, 7)
	add(file("attributes", nil)).Attrs = []squashfs.Attr{
		{Name: "user.a", Value: noise[:65535]}, {Name: "user.b", Value: noise[:65535]}, {Name: "user.c", Value: noise[:65535]},
		{Name: "user." + strings.Repeat("n", 255), Value: noise[:60000]},
	}
	_, sum := check(t, root)
	// In a file of this size holes are multiples of 16 KiB. What is in a copy is
	// not counted again.
	if holes := int64(1<<20 - 16<<10 + 3<<20 + 77); sum.Duplicates < 18<<20 || sum.Holes != holes {
		t.Errorf("%+v", sum)
	}
}

// An inode is never the image's end: fsck.erofs 1.5 would read behind it.
func TestLastInode(t *testing.T) {
	t.Parallel()
	for n := range 300 {
		root := folder("")
		for i := range n {
			root.below = append(root.below, with(file(fmt.Sprint(i), nil), func(i *item) { i.Mode |= fs.ModeNamedPipe }))
		}
		if b, _ := made(t, memTree{root: root}, erofs.WriteOptions{}); n%50 == 0 || !bytes.Equal(b[len(b)-12:], make([]byte, 12)) {
			fsck(t, b)
		}
	}
}

// A hole costs its table, which is short where there are few.
func TestHolesCostNothing(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{1 << 20, 1<<40 + 5} {
		n := with(file("hole", nil), func(i *item) { i.Size = size })
		src := memTree{root: folder("", n), open: func([]byte) (io.ReadCloser, error) { return &nothing{size: size}, nil }}
		image, sum := made(t, src, erofs.WriteOptions{})
		if sum.Holes != size || sum.Size > 8192+size>>20 {
			t.Errorf("%d bytes of zeros: %+v", size, sum)
		}
		fsys, err := openBytes(image)
		must(t, err)
		f, err := fsys.Open("hole")
		must(t, err)
		b := bytes.Repeat([]byte{1}, 100)
		if n, err := f.(io.ReaderAt).ReadAt(b, size-100); n != 100 || err != nil && err != io.EOF || !bytes.Equal(b, make([]byte, 100)) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

// nothing is a file that is a hole.
type nothing struct{ size, at int64 }

func (n *nothing) Close() error { return nil }

func (n *nothing) Read(p []byte) (int, error) {
	if n.at >= n.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), n.size-n.at)]
	clear(p)
	n.at += int64(len(p))
	return len(p), nil
}

func (n *nothing) Seek(to int64, _ int) (int64, error) {
	n.at = to
	return to, nil
}

func (n *nothing) NextData(int64) (int64, error) { return 0, io.EOF }

func TestWriteOptions(t *testing.T) {
	t.Parallel()
	late := with(file("late", []byte("x")), func(i *item) { i.ModTime, i.UID = time.Unix(500, 5), 7 })
	old := with(file("old", nil), func(i *item) { i.ModTime = time.Unix(50, 5) })
	src := memTree{root: folder("", late, old)}
	var last squashfs.Progress
	o := erofs.WriteOptions{
		NotAfter: time.Unix(100, 0), RootOwned: true, UUID: [16]byte{1, 2, 3},
		Progress: func(p squashfs.Progress) { last = p },
	}
	b, _ := made(t, src, o)
	if !bytes.Equal(b[1024+48:1024+64], o.UUID[:]) || last.Bytes != 1 || last.TotalBytes != 1 {
		t.Errorf("UUID %x, %+v", b[1024+48:1024+64], last)
	}
	fsys, err := openBytes(b)
	must(t, err)
	for name, want := range map[string]int64{"late": 100e9, "old": 50e9 + 5, ".": 0} {
		info, err := fsys.Lstat(name)
		must(t, err)
		if got := info.ModTime().UnixNano(); got != want || info.Sys().(*imagefs.Stat).UID != 0 {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// The UUID depends on all that is in the image.
func TestDerivedID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, root := range []*item{
		folder(""), folder("", file("a", nil)), folder("", file("b", nil)), folder("", file("b", []byte("x"))), folder("", file("b", []byte("y"))),
		folder("", file("b", bytes.Repeat([]byte("x"), 8192))), folder("", file("b", bytes.Repeat([]byte("y"), 8192))),
	} {
		b, _ := made(t, memTree{root: root}, erofs.WriteOptions{})
		id := b[1024+48 : 1024+64]
		if seen[string(id)] || id[6]>>4 != 8 || id[8]>>6 != 2 {
			t.Errorf("UUID %s", hex.EncodeToString(id))
		}
		seen[string(id)] = true
	}
}

func TestUnsuitableSources(t *testing.T) {
	t.Parallel()
	attr := func(name string, n int) *item {
		return with(file("f", nil), func(i *item) { i.Attrs = []squashfs.Attr{{Name: name, Value: make([]byte, n)}} })
	}
	node := func(change func(*item)) *item { return folder("", with(file("f", nil), change)) }
	link := squashfs.LinkID{Inode: 1}
	for name, root := range map[string]*item{
		"a root":                                   file("", nil),
		"f of mode":                                node(func(i *item) { i.Mode = fs.ModeIrregular }),
		`the name "a/b"`:                           folder("", file("a/b", nil)),
		`the name ""`:                              folder("", file("", nil)),
		`the name ".."`:                            folder("", file("..", nil)),
		`the name "x`:                              folder("", file(strings.Repeat("x", 256), nil)),
		`"f" is there twice`:                       folder("", file("f", nil), file("f", nil)),
		"a file of -1 bytes":                       node(func(i *item) { i.Size = -1 }),
		"a link's target of 0":                     node(func(i *item) { i.Mode = fs.ModeSymlink }),
		"a link's target of 4096":                  node(func(i *item) { i.Mode, i.Target = fs.ModeSymlink, strings.Repeat("x", 4096) }),
		"a link's target of 3":                     node(func(i *item) { i.Mode, i.Target = fs.ModeSymlink, "a\x00b" }),
		"the device 4096:0":                        node(func(i *item) { i.Mode, i.Major = fs.ModeDevice, 4096 }),
		"the device 0:1048576":                     node(func(i *item) { i.Mode, i.Minor = fs.ModeDevice, 1<<20 }),
		`the attribute "other.x"`:                  folder("", attr("other.x", 1)),
		`the attribute "user."`:                    folder("", attr("user.", 1)),
		`the attribute "system.posix_acl_accessx"`: folder("", attr("system.posix_acl_accessx", 1)),
		`65536 bytes in attribute`:                 folder("", attr("user.x", 65536)),
		"a hard link of e":                         folder("", with(file("e", nil), func(i *item) { i.Link = link }), with(file("f", []byte("x")), func(i *item) { i.Link = link })),
		"changed while it was read":                node(func(i *item) { i.Size = 5 }),
		"changed while it was read 2":              node(func(i *item) { i.data = []byte("more"); i.Size = 1 }),
		"directories more than 1000":               deep(1002),
	} {
		m := &memory{}
		_, err := erofs.Write(t.Context(), m, memTree{root: root}, erofs.WriteOptions{})
		text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(name, "a root"), "f of mode"), " 2")
		if !errors.Is(err, erofs.ErrSource) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
		noImage(t, name, m)
	}
}

func deep(n int) *item {
	d := folder("d")
	for range n {
		d = folder("d", d)
	}
	return d
}

func noImage(t *testing.T, what string, m *memory) {
	t.Helper()
	if _, err := openBytes(m.data); !errors.Is(err, erofs.ErrNotErofs) && len(m.data) > 0 {
		t.Errorf("%s: what is left is an image, or %v", what, err)
	}
}

// Whatever fails, at whichever write or read, no image is left.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	g := &grower{Rand: rand.New(rand.NewPCG(3, 1)), left: 100}
	src := memTree{root: g.grow("", 0)}
	broken := errors.New("broken")
	for n := 0; ; n++ {
		writes := 0
		m := &memory{fail: func(int64) error {
			if writes++; writes > n {
				return broken
			}
			return nil
		}}
		if _, err := erofs.Write(t.Context(), m, src, erofs.WriteOptions{}); err == nil {
			break
		} else if !errors.Is(err, broken) {
			t.Errorf("write %d: %v", n, err)
		}
		noImage(t, fmt.Sprint("write ", n), m)
	}
	src.open = func([]byte) (io.ReadCloser, error) { return nil, broken }
	if _, err := erofs.Write(t.Context(), &memory{}, src, erofs.WriteOptions{}); !errors.Is(err, broken) {
		t.Errorf("a file that can't be opened: %v", err)
	}
}

func TestWriteCancelled(t *testing.T) {
	t.Parallel()
	g := &grower{Rand: rand.New(rand.NewPCG(4, 1)), left: 100}
	src := memTree{root: g.grow("", 0)}
	for n := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		m := &memory{}
		_, err := erofs.Write(ctx, m, src, erofs.WriteOptions{Progress: func(squashfs.Progress) {
			if calls++; calls > n {
				cancel()
			}
		}})
		cancel()
		if calls > n && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %d: %v", n, err)
		}
		if err != nil {
			noImage(t, fmt.Sprint("cancelled after ", n), m)
		}
	}
}

// A small file costs its inode and its bytes, and the end of a large one no more.
func TestPacking(t *testing.T) {
	t.Parallel()
	g := &grower{Rand: rand.New(rand.NewPCG(5, 1))}
	root := folder("")
	bytes := 0
	for i := range 20_000 {
		f := file(fmt.Sprint(i), g.bytes(g.IntN(3000)))
		bytes += len(f.data) + 32 + 12 + len(f.Name)
		root.below = append(root.below, f)
	}
	_, sum := made(t, memTree{root: root}, erofs.WriteOptions{})
	if sum.Size > int64(bytes)*106/100 {
		t.Errorf("%d bytes for %d", sum.Size, bytes)
	}
	t.Logf("%d bytes for %d", sum.Size, bytes)
}
