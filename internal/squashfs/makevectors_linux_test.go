package squashfs_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "make the images in testdata again")

// TestMakeVectors is the recipe of testdata/*.sqfs, as root and by mksquashfs
// 4.5.1: go test ./internal/squashfs -run TestMakeVectors -update
func TestMakeVectors(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	src, list := vectorSource(t), filepath.Join(t.TempDir(), "pseudo")
	write(t, list, []byte("null c 666 0 0 1 3\nfifo i 644 7 8 f\n"))
	fixed := []string{"-nopad", "-b", "4K", "-mkfs-time", "0", "-all-time", "1000000000"}
	for name, args := range map[string]string{
		"gzip": "-comp gzip", "xz": "-comp xz", "xz-bcj": "-comp xz -Xbcj x86", "zstd": "-comp zstd", "lz4": "-comp lz4",
		"lzo": "-comp lzo", "plain": "-noI -noD -noF -noX -noId", "metadata": "-noI -noX -noId -no-exports",
	} {
		image := mksquashfs(t, src, append(append(fixed, "-pf", list), strings.Fields(args)...)...)
		must(t, os.Rename(image, filepath.Join("testdata", name+".sqfs")))
	}
	src = t.TempDir()
	for i := range 300 {
		write(t, filepath.Join(src, fmt.Sprint(i, strings.Repeat("-", i%2*80))), nil)
	}
	must(t, os.Rename(mksquashfs(t, src, fixed...), "testdata/index.sqfs"))
}

func vectorSource(t *testing.T) string {
	t.Helper()
	src := t.TempDir()
	at := func(name string) string { return filepath.Join(src, name) }
	must(t, os.Chmod(src, 0o755))
	must(t, os.MkdirAll(at("dir/deep"), 0o755))
	write(t, at("dir/file"), []byte("content\n"))
	must(t, os.Chmod(at("dir/file"), 0o755|fs.ModeSetuid))
	must(t, os.Chmod(at("dir"), 0o751|fs.ModeSetgid))
	must(t, os.Link(at("dir/file"), at("dir/again")))
	must(t, os.Symlink("dir/file", at("link")))
	write(t, at("text"), vectorText())
	write(t, at("hole"), vectorHole())
	must(t, unix.Lsetxattr(at("dir"), "user.dir", []byte("a directory's"), 0))
	must(t, unix.Lsetxattr(at("dir/file"), "user.file", []byte("a file's"), 0))
	return src
}
