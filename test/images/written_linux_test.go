package images_test

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/squashfs"
)

var treeSeed = flag.Uint64("treeseed", 0, "seed of the random trees, instead of one from the clock")

// writers are ours, each with what finds its images in order.
var writers = map[string]func(t testing.TB, src squashfs.Tree) (image string){
	"erofs": func(t testing.TB, src squashfs.Tree) string { image, _ := writeErofs(t, src); return image },
	"squashfs": func(t testing.TB, src squashfs.Tree) string {
		image := empty(t, 0)
		f, err := os.OpenFile(image, os.O_WRONLY, 0)
		must(t, err)
		_, err = squashfs.Write(t.Context(), f, src, squashfs.WriteOptions{})
		must(t, err)
		must(t, f.Close())
		run(t, "unsquashfs", "-lls", "-quiet", image)
		return image
	},
}

// readBack writes a folder by each writer, and wants the kernel and our reader to
// find in the image what the kernel finds in the folder: all of it, and which names
// are of one file.
func readBack(t *testing.T, src string) {
	t.Helper()
	want := theirs(t, src)
	for kind, write := range writers {
		t.Run(kind, func(t *testing.T) {
			image := write(t, squashfs.DirTree(src))
			kernel := theirs(t, mounted(t, image, kind, "ro"))
			same(t, "the source", asWritten(want), asWritten(kernel))
			same(t, "names of the source", firstNames(want), firstNames(kernel))
			fsys, err := open(t, kind, image)
			must(t, err)
			same(t, "the kernel", kernel, ours(t, fsys))
		})
	}
}

// firstNames has, for each file that has several names, the first of them.
func firstNames(all map[string]facts) map[string]facts {
	first := map[uint64]string{}
	for path, f := range all {
		if name, ok := first[f.Inode]; !ok || path < name {
			first[f.Inode] = path
		}
	}
	out := map[string]facts{}
	for path, f := range all {
		if !f.Mode.IsDir() && f.Links > 1 {
			out[path] = facts{Target: first[f.Inode]}
		}
	}
	return out
}

// Random trees are read back as they are, through the kernel: with any names, sizes,
// modes, owners, times, links, holes, devices and attributes.
func TestWrittenRandomTrees(t *testing.T) {
	t.Parallel()
	root(t)
	seed := *treeSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for i := range uint64(3) {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			t.Parallel()
			t.Logf("again with -treeseed=%d", seed+i)
			g := &grower{Rand: rand.New(rand.NewPCG(seed+i, 0)), t: t}
			dir := t.TempDir()
			g.fill(dir, 0)
			t.Logf("%d files", g.made)
			readBack(t, dir)
		})
	}
}

// A hundred thousand files: many in one folder, and many folders of some.
func TestWrittenManyFiles(t *testing.T) {
	t.Parallel()
	root(t)
	many := 10_000
	if os.Getenv("CI") != "" {
		many = 100_000
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "flat"), 0o755))
	for i := range many {
		name := fmt.Sprintf("flat/%d-%s", i, strings.Repeat("n", i%30))
		if i%2 == 0 {
			folder := fmt.Sprint(i / 100)
			must(t, os.MkdirAll(filepath.Join(dir, folder), 0o755))
			name = fmt.Sprintf("%s/%d", folder, i)
		}
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(fmt.Sprint(i), i%50)), 0o644))
	}
	wholeSeconds(t, dir)
	readBack(t, dir)
}

// wholeSeconds cuts times to what every format has.
func wholeSeconds(t testing.TB, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := unix.NsecToTimeval(1_700_000_000e9)
		return unix.Lutimes(path, []unix.Timeval{at, at})
	}))
}

// grower makes a random folder.
type grower struct {
	*rand.Rand
	t     testing.TB
	files []string // to link to
	made  int
}

const growth = 600 // files, about

func (g *grower) fill(dir string, depth int) {
	for range min(40/(depth+1)+g.IntN(80), growth-g.made) {
		path := filepath.Join(dir, g.name())
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		g.made++
		g.make(path, depth)
		g.describe(path)
	}
	g.time(dir)
}

// name is of any bytes that a name can have.
func (g *grower) name() string {
	if g.IntN(3) > 0 {
		return fmt.Sprintf("%c%d", 'a'+g.IntN(26), g.IntN(1000))
	}
	b := make([]byte, 1+g.IntN(1+g.IntN(255)))
	for i := range b {
		for b[i] == 0 || b[i] == '/' {
			b[i] = byte(g.Uint32())
		}
	}
	return "x" + string(b[1:]) // neither . nor ..
}

func (g *grower) make(path string, depth int) {
	switch k := g.IntN(16); {
	case k < 3 && depth < 6:
		must(g.t, os.Mkdir(path, 0o700))
		g.fill(path, depth+1)
	case k == 3:
		must(g.t, os.Symlink(strings.Repeat(g.name()+"/", 1+g.IntN(10)), path))
	case k == 4 && len(g.files) > 0:
		must(g.t, os.Link(g.files[g.IntN(len(g.files))], path))
	case k == 5:
		kinds := []uint32{unix.S_IFBLK, unix.S_IFCHR, unix.S_IFSOCK, unix.S_IFIFO}
		must(g.t, unix.Mknod(path, kinds[g.IntN(4)]|0o600, int(unix.Mkdev(g.Uint32N(1<<12), g.Uint32N(1<<20)))))
		g.files = append(g.files, path)
	case k < 8:
		g.sparse(path)
		g.files = append(g.files, path)
	default:
		must(g.t, os.WriteFile(path, g.content(), 0o600))
		g.files = append(g.files, path)
	}
}

// content has a length about a border of the formats, or any.
func (g *grower) content() []byte {
	n := g.IntN(5000)
	if g.IntN(3) == 0 {
		n = max(0, g.IntN(4)<<(12+g.IntN(6))+g.IntN(5)-2)
	}
	switch g.IntN(4) {
	case 0:
		return noise(n)
	case 1:
		return make([]byte, n)
	}
	return prose(n)
}

func (g *grower) sparse(path string) {
	f, err := os.Create(path)
	must(g.t, err)
	size := 1 + g.Int64N(1<<(10+g.IntN(14)))
	must(g.t, f.Truncate(size))
	for range g.IntN(5) {
		at := g.Int64N(size)
		_, err := f.WriteAt(noise(1+int(g.Int64N(min(size-at, 9000)))), at)
		must(g.t, err)
	}
	must(g.t, f.Close())
}

// describe gives a file an owner, attributes, a mode and a time.
func (g *grower) describe(path string) {
	must(g.t, os.Lchown(path, int(g.Uint32N(3)*g.Uint32N(1<<30)), g.IntN(70000)))
	info, err := os.Lstat(path)
	must(g.t, err)
	for range max(0, g.IntN(9)-5) {
		spaces := []string{"trusted.", "security.", "user."}
		if !info.Mode().IsRegular() && !info.IsDir() {
			spaces = spaces[:2] // the kernel has no others on these
		}
		name := spaces[g.IntN(len(spaces))] + strings.ToValidUTF8(g.name(), "")
		// Where the temporary folder has no attributes, there are none to compare.
		_ = unix.Lsetxattr(path, name[:min(len(name), 200)], noise(g.IntN(4)*g.IntN(200)), 0)
	}
	if info.Mode().Type() != fs.ModeSymlink {
		bits := []fs.FileMode{0, 0, fs.ModeSetuid, fs.ModeSetgid, fs.ModeSticky}
		must(g.t, os.Chmod(path, fs.FileMode(g.IntN(0o1000))|bits[g.IntN(len(bits))]))
	}
	g.time(path)
}

func (g *grower) time(path string) {
	at := unix.NsecToTimeval(g.Int64N(1<<32) * 1e9)
	must(g.t, unix.Lutimes(path, slices.Repeat([]unix.Timeval{at}, 2)))
}
