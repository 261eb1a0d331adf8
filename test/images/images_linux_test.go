package images_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/erofs"
	"github.com/lockport/lockport/internal/ext4"
	"github.com/lockport/lockport/internal/kernel"
	"github.com/lockport/lockport/internal/squashfs"
)

// root skips what needs devices and mounts.
func root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make devices and mount images")
	}
}

// empty makes a file of a size for a file system.
func empty(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, size))
	return path
}

// mounted mounts an image for the time of the test.
func mounted(t testing.TB, image, kind, options string) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("mount", "-t", kind, "-o", "loop,"+options, image, dir).CombinedOutput()
	if err != nil {
		t.Skipf("it can't be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// open opens an image by our reader.
func open(t testing.TB, kind, path string) (fs.ReadLinkFS, error) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	must(t, err)
	switch kind {
	case "erofs":
		return erofs.Open(f, info.Size())
	case "ext4":
		return ext4.Open(f, info.Size())
	}
	return squashfs.Open(f, info.Size())
}

func mksquashfs(t testing.TB, src, args string) string {
	t.Helper()
	image := empty(t, 0)
	run(t, "mksquashfs", append([]string{src, image, "-noappend", "-no-progress", "-quiet"}, strings.Fields(args)...)...)
	return image
}

func mkerofs(t testing.TB, src, args string) string {
	t.Helper()
	image := empty(t, 0)
	run(t, "mkfs.erofs", append(strings.Fields(args), "--quiet", image, src)...)
	return image
}

func mkbtrfs(t testing.TB, src, _ string) string {
	t.Helper()
	image := empty(t, 256<<20)
	run(t, "mkfs.btrfs", "-q", image)
	fill(t, image, "btrfs", src)
	return image
}

func mkxfs(t testing.TB, src, _ string) string {
	t.Helper()
	image := empty(t, 320<<20)
	run(t, "mkfs.xfs", "-q", image)
	fill(t, image, "xfs", src)
	return image
}

// fill lets the kernel copy a tree into an image.
func fill(t testing.TB, image, kind, src string) {
	t.Helper()
	dir := mounted(t, image, kind, "rw")
	run(t, "cp", "-a", src+"/.", dir)
	must(t, unix.Unmount(dir, 0))
}

func mkext4(t testing.TB, src, args string) string {
	t.Helper()
	image := empty(t, 160<<20)
	run(t, "mkfs.ext4", append(strings.Fields(args), "-q", "-F", "-d", src, image)...)
	return image
}

// filled is an ext4 that the kernel itself filled: with indexes of directories,
// lists of rights, and what else mkfs.ext4 does not write.
func filled(t testing.TB, src, args string) string {
	t.Helper()
	image := empty(t, 300<<20)
	run(t, "mkfs.ext4", append(strings.Fields(args), "-q", "-F", image)...)
	dir := mounted(t, image, "ext4", "rw")
	run(t, "cp", "-a", src+"/.", dir)
	must(t, os.WriteFile(filepath.Join(dir, strings.Repeat("m", 255)), []byte("longest"), 0o600))
	if strings.Contains(args, "ea_inode") {
		must(t, unix.Setxattr(filepath.Join(dir, "few/7"), "user.large", noise(30_000), 0))
		must(t, unix.Setxattr(filepath.Join(dir, "few/8"), "user.large", noise(30_000), 0))
	}
	must(t, unix.Unmount(dir, 0))
	return image
}

type variant struct {
	kind, args string
	make       func(t testing.TB, src, args string) string
	slow       bool
}

// variants are ways to make an image that the kernel and we can read.
var variants = []variant{
	{"squashfs", "-comp gzip", mksquashfs, false},
	{"squashfs", "-comp xz", mksquashfs, false},
	{"squashfs", "-comp zstd", mksquashfs, false},
	{"squashfs", "-comp lz4", mksquashfs, false},
	{"squashfs", "-comp lzo", mksquashfs, false},
	{"erofs", "", mkerofs, false},
	{"erofs", "-x-1", mkerofs, false},
	{"erofs", "-x1 -Eforce-inode-extended", mkerofs, false},
	{"erofs", "-T1000000000 -Eforce-inode-compact --force-uid=7 --force-gid=8", mkerofs, false},
	{"erofs", "-Enoinline_data", mkerofs, false},
	{"erofs", "--chunksize=4096", mkerofs, false},
	{"erofs", "--chunksize=65536 -Eforce-chunk-indexes", mkerofs, false},
	{"ext4", "", mkext4, true},
	{"ext4", "-b 1024", mkext4, true},
	{"ext4", "-b 4096 -I 128", mkext4, true},
	{"ext4", "-O inline_data -I 512", mkext4, true},
	{"ext4", "-O inline_data,^has_journal -b 1024", mkext4, true},
	{"ext4", "-O ^extents,^64bit,^flex_bg -b 1024", mkext4, true},
	{"ext4", "-O ^extents,^64bit,^huge_file,^metadata_csum", mkext4, true},
	{"ext4", "-t ext2 -O ^filetype -b 2048", mkext4, true},
	{"ext4", "-t ext3 -r 0", mkext4, true},
	{"ext4", "", filled, false},
	{"ext4", "-O metadata_csum_seed,orphan_file,large_dir -I 1024", filled, false},
	{"ext4", "-O inline_data,ea_inode -b 1024", filled, false},
	{"ext4", "-O meta_bg,^resize_inode,^flex_bg -b 1024", filled, false},
	{"ext4", "-O bigalloc,sparse_super2", filled, false},
	{"ext4", "-t ext3", filled, false},
}

// refusals are what we can't read, and let the kernel mount.
var refusals = []variant{
	{"erofs", "-zlz4", mkerofs, false},
	{"erofs", "-zlz4hc,9 -C65536", mkerofs, false},
	{"erofs", "-zlz4 -Elegacy-compress", mkerofs, false},
	{"erofs", "-zlz4hc -Eztailpacking", mkerofs, false},
	{"btrfs", "", mkbtrfs, false},
	{"xfs", "", mkxfs, false},
}

// Our view of a tree equals the kernel's.
func TestNastyTree(t *testing.T) {
	t.Parallel()
	root(t)
	src := nasty(t, 5000)
	for _, v := range variants {
		if !v.slow {
			t.Run(fmt.Sprint(v.kind, v.args), func(t *testing.T) { asTheKernel(t, v, src) })
		}
	}
	want := asSource(theirs(t, src))
	for _, v := range refusals {
		t.Run("refused "+v.kind+v.args, func(t *testing.T) {
			t.Parallel()
			image := v.make(t, src, v.args)
			if v.kind == "erofs" {
				refused(t, v.kind, image, "compressed erofs")
			}
			same(t, "the source", want, asSource(ours(t, mountedByUs(t, image, v.kind))))
		})
	}
}

// The same with less in the large directory: that takes mkfs.ext4 seconds.
func TestSmallerTree(t *testing.T) {
	t.Parallel()
	root(t)
	src := nasty(t, 800)
	for _, v := range variants {
		if v.slow {
			t.Run(fmt.Sprint(v.kind, v.args), func(t *testing.T) { asTheKernel(t, v, src) })
		}
	}
	want := asSource(theirs(t, src))
	t.Run("large blocks", func(t *testing.T) { largeBlocks(t, src, want) })
}

func asTheKernel(t *testing.T, v variant, src string) {
	t.Parallel()
	image := v.make(t, src, v.args)
	fsys, err := open(t, v.kind, image)
	must(t, err)
	got := ours(t, fsys)
	if len(got) < 800 {
		t.Fatalf("only %d entries", len(got))
	}
	same(t, "the kernel", theirs(t, mounted(t, image, v.kind, "ro")), got)
}

// largeBlocks is about what the kernel can't mount: blocks larger than its pages.
func largeBlocks(t *testing.T, src string, want map[string]facts) {
	t.Parallel()
	fsys, err := open(t, "ext4", mkext4(t, src, "-b 65536 -N 8192 -O ^has_journal"))
	must(t, err)
	same(t, "the source", want, asSource(ours(t, fsys)))
}

// Parts of a real system, of many small files and links.
func TestDistribution(t *testing.T) {
	t.Parallel()
	root(t)
	src := distribution(t, 40<<20)
	for _, v := range variants {
		if v.args == "" && !v.slow || v.args == "-comp lz4" {
			t.Run(v.kind, func(t *testing.T) { asTheKernel(t, v, src) })
		}
	}
}

// refused reads all of an image, or tries to.
func refused(t *testing.T, kind, image, text string) {
	t.Helper()
	fsys, err := open(t, kind, image)
	if err == nil {
		err = fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				_, err = fs.ReadFile(fsys, path)
			}
			return err
		})
	}
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, without %q", err, text)
	}
}

func mountedByUs(t *testing.T, image, kind string) fs.ReadLinkFS {
	t.Helper()
	f, err := os.Open(image)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	fsys, undo, err := kernel.New(kernel.Options{}).Mount(t.Context(), f, 0, info.Size(), kind)
	if errors.Is(err, kernel.ErrUnsupported) || errors.Is(err, fs.ErrNotExist) {
		t.Skip("it can't be mounted here:", err)
	}
	must(t, err)
	t.Cleanup(func() { _ = undo() })
	return fsys
}

// What ext4 has and is refused, by the feature's name.
func TestRefusedFeatures(t *testing.T) {
	t.Parallel()
	need(t, "mkfs.ext4")
	for args, text := range map[string]string{
		"-O encrypt": "encryption", "-O casefold": "casefold", "-O journal_dev": "a journal of another image",
	} {
		image := empty(t, 16<<20)
		run(t, "mkfs.ext4", append(strings.Fields(args), "-q", "-F", image)...)
		refused(t, "ext4", image, text)
	}
}

// An image that was not unmounted has a journal to replay first.
func TestUncleanJournal(t *testing.T) {
	t.Parallel()
	root(t)
	image := mkext4(t, t.TempDir(), "")
	dir := mounted(t, image, "ext4", "rw")
	must(t, os.WriteFile(filepath.Join(dir, "file"), noise(5000), 0o600))
	refused(t, "ext4", image, "its journal needs recovery")
	must(t, unix.Unmount(dir, 0))
	fsys, err := open(t, "ext4", image)
	must(t, err)
	if b, err := fs.ReadFile(fsys, "file"); err != nil || string(b) != string(noise(5000)) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
