package images_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/erofs"
	"github.com/lockport/lockport/internal/squashfs"
)

// writeErofs writes an image by our writer, and lets fsck.erofs look at it.
func writeErofs(t testing.TB, src squashfs.Tree) (image string, sum erofs.Summary) {
	t.Helper()
	image = empty(t, 0)
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	must(t, err)
	sum, err = erofs.Write(t.Context(), f, src, erofs.WriteOptions{})
	must(t, err)
	must(t, f.Close())
	info, err := os.Stat(image)
	must(t, err)
	if info.Size() != sum.Size {
		t.Errorf("the image has %d bytes, said are %d", info.Size(), sum.Size)
	}
	run(t, "fsck.erofs", image)
	return image, sum
}

// What our writer of erofs makes of a folder is read as the folder is, by us and
// by the kernel.
func TestWrittenErofs(t *testing.T) {
	t.Parallel()
	root(t)
	for name, src := range map[string]string{"nasty": nasty(t, 20_000), "distribution": distribution(t, 40<<20), "small": small(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "nasty" {
				hostile(t, src)
			}
			image, _ := writeErofs(t, squashfs.DirTree(src))
			fsys, err := open(t, "erofs", image)
			must(t, err)
			got := ours(t, fsys)
			same(t, "the kernel", theirs(t, mounted(t, image, "erofs", "ro")), got)
			same(t, "the source", asWritten(theirs(t, src)), asWritten(got))
			theirSize(t, src, image)
		})
	}
}

// hostile adds what mkfs.erofs 1.5 does not take, or other file systems do not.
func hostile(t testing.TB, src string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(src, strings.Repeat("n", 255)), []byte("longest"), 0o600))
	must(t, os.Symlink(strings.Repeat("x/", 2047)+"x", filepath.Join(src, "dangling 4095")))
	for name, content := range map[string][]byte{"copy": noise(300<<10 + 5), "zeros": make([]byte, 4096), "more zeros": make([]byte, 6000)} {
		must(t, os.WriteFile(filepath.Join(src, name), content, 0o600))
	}
	for name, size := range map[string]int64{"nothing": 256 << 20, "almost nothing": 64<<20 + 1} {
		must(t, os.WriteFile(filepath.Join(src, name), nil, 0o600))
		must(t, os.Truncate(filepath.Join(src, name), size))
	}
	times(t, src)
}

// small makes a folder whose image has its attributes in the first block.
func small(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
		must(t, unix.Setxattr(filepath.Join(dir, name), "user.shared", []byte("a value that several files have"), 0))
	}
	return dir
}

// asWritten leaves out what the writer's source leaves out.
func asWritten(all map[string]facts) map[string]facts {
	out := map[string]facts{}
	for path, f := range all {
		var attrs []string
		for _, a := range f.Attrs {
			if !strings.HasPrefix(a, "system.") {
				attrs = append(attrs, a)
			}
		}
		f.Inode, f.Attrs = 0, attrs
		if f.Mode.IsDir() {
			f.Size, f.Links = 0, 0
		}
		out[path] = f
	}
	return out
}

// theirSize compares with the image that mkfs.erofs makes.
func theirSize(t *testing.T, src, image string) {
	t.Helper()
	start := time.Now()
	other := mkerofs(t, src, "")
	took := time.Since(start)
	var size [2]syscall.Stat_t
	must(t, syscall.Stat(image, &size[0]))
	must(t, syscall.Stat(other, &size[1]))
	t.Logf("%d bytes, mkfs.erofs makes %d in %v", size[0].Size, size[1].Size, took)
	if size[0].Size*100 > size[1].Size*102 {
		t.Errorf("%d bytes, mkfs.erofs makes %d", size[0].Size, size[1].Size)
	}
}
