package squashfs_test

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/squashfs"
)

var treeSeed = flag.Uint64("treeseed", 0, "seed of the random trees, instead of one from the clock")

// Random trees come back as they were: from the reader, the kernel, unsquashfs.
func TestRandomTrees(t *testing.T) {
	t.Parallel()
	seed := *treeSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for i := range uint64(4) {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			t.Parallel()
			t.Logf("again with -treeseed=%d", seed+i)
			r := rand.New(rand.NewPCG(seed+i, 0))
			o := squashfs.WriteOptions{
				Compressor: squashfs.Compressor(r.IntN(4)), Level: r.IntN(2), BlockSize: 4096 << r.IntN(5),
				Workers: 1 + r.IntN(4), NoFragments: r.IntN(4) == 0, NoExport: r.IntN(4) == 0,
			}
			g := &grower{t: t, r: r, block: o.BlockSize, root: t.TempDir()}
			g.fill(g.root, 0)
			t.Logf("%+v, %d entries", o, g.made)
			image, _ := writeImage(t, squashfs.DirTree(g.root), o)
			all := ours(t, openImage(t, image))
			if dir, ok := mounted(t, image); ok {
				same(t, "the kernel", theirs(t, dir), all)
			}
			compareListing(t, image, all)
			same(t, "the source", asSource(theirs(t, g.root)), asSource(all))
		})
	}
}

// grower makes a random folder.
type grower struct {
	t     *testing.T
	r     *rand.Rand
	block int
	root  string
	files []string // to link to
	made  int
}

func (g *grower) fill(dir string, depth int) {
	for range min(g.r.IntN(60), 400-g.made) {
		path := filepath.Join(dir, g.name())
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		g.made++
		g.make(path, depth)
		g.attributes(path)
		when := unix.NsecToTimeval(g.r.Int64N(1<<32) * 1e9)
		must(g.t, unix.Lutimes(path, []unix.Timeval{when, when}))
	}
}

// name is random bytes, of a few letters so that some names start alike.
// unsquashfs splits its lines at white space and links at arrows: none here.
func (g *grower) name() string {
	letters := []string{"a", "b", "-", ".x", "é", "\xff", "$", "世"}
	out := "n"
	for range g.r.IntN(1 + g.r.IntN(60)) {
		out += letters[g.r.IntN(len(letters))]
	}
	return out
}

func (g *grower) make(path string, depth int) {
	root := os.Geteuid() == 0
	switch k := g.r.IntN(20); {
	case k < 3 && depth < 5:
		must(g.t, os.Mkdir(path, 0o700))
		g.fill(path, depth+1)
	case k == 3:
		must(g.t, os.Symlink(g.name(), path))
		return
	case k == 4 && len(g.files) > 0:
		must(g.t, os.Link(g.files[g.r.IntN(len(g.files))], path))
		return
	case k == 5:
		must(g.t, unix.Mkfifo(path, 0o600))
	case k == 6 && root:
		// unsquashfs leaves no space before a minor number of three digits.
		kinds := []uint32{unix.S_IFBLK, unix.S_IFCHR, unix.S_IFSOCK}
		must(g.t, unix.Mknod(path, kinds[g.r.IntN(3)]|0o600, int(unix.Mkdev(g.r.Uint32N(256), g.r.Uint32N(100)))))
	case k < 9:
		g.sparse(path)
	default:
		must(g.t, os.WriteFile(path, g.content(), 0o600))
		g.files = append(g.files, path)
	}
	if root {
		must(g.t, os.Lchown(path, g.r.IntN(3)*70000, g.r.IntN(5)))
	}
	bits := []fs.FileMode{0, 0, fs.ModeSetuid, fs.ModeSetgid, fs.ModeSticky}[g.r.IntN(5)]
	must(g.t, os.Chmod(path, 0o400|fs.FileMode(g.r.IntN(0o1000))|0o700&^0o077|bits))
}

// content has a length near a multiple of the block's, or is short.
func (g *grower) content() []byte {
	n := g.r.IntN(3000)
	if g.r.IntN(3) == 0 {
		n = max(0, g.r.IntN(4)*g.block+g.r.IntN(5)-2)
	}
	switch g.r.IntN(4) {
	case 0:
		return noise(n)
	case 1:
		return make([]byte, n)
	}
	return prose(n)
}

func (g *grower) sparse(path string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	must(g.t, err)
	size := int64(g.r.IntN(20*g.block) + 1)
	must(g.t, f.Truncate(size))
	for range g.r.IntN(4) {
		at := g.r.Int64N(size)
		_, err := f.WriteAt(noise(1+int(g.r.Int64N(min(size-at, 3000)))), at)
		must(g.t, err)
	}
	must(g.t, f.Close())
}

func (g *grower) attributes(path string) {
	info, err := os.Lstat(path)
	must(g.t, err)
	spaces := []string{"user."}
	if os.Geteuid() == 0 {
		spaces = []string{"user.", "trusted.", "security."}
	}
	for range max(0, g.r.IntN(8)-5) {
		space := spaces[g.r.IntN(len(spaces))]
		if space == "user." && !info.Mode().IsRegular() && !info.IsDir() {
			continue // not allowed
		}
		// Not every file system has attributes: what it has is compared.
		_ = unix.Lsetxattr(path, space+g.name(), noise(g.r.IntN(4)*g.r.IntN(300)), 0)
	}
}

// A hundred thousand files: one directory of many, and many of few.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	many := 10_000
	if os.Getenv("CI") != "" {
		many = 100_000
	}
	root := dir("", dir("flat"))
	for i := range many / 2 {
		root.below[0].below = append(root.below[0].below, file(fmt.Sprintf("f%d", i), fmt.Sprint(i%1000)))
	}
	for i := range many / 100 {
		d := dir(fmt.Sprint("d", i))
		for k := range 50 {
			d.below = append(d.below, file(fmt.Sprintf("f%d", k), fmt.Sprint(i, k)))
		}
		root.below = append(root.below, d)
	}
	path, sum := writeImage(t, tree{root}, squashfs.WriteOptions{Level: 3})
	if sum.Inodes < many {
		t.Errorf("%d inodes", sum.Inodes)
	}
	all := ours(t, openImage(t, path))
	if len(all) != sum.Inodes {
		t.Errorf("%d entries of %d inodes", len(all), sum.Inodes)
	}
	if dir, ok := mounted(t, path); ok {
		same(t, "the kernel", theirs(t, dir), all)
	}
}
