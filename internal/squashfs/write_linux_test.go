package squashfs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/squashfs"
)

// writeImage writes an image of a tree.
func writeImage(t testing.TB, src squashfs.Tree, o squashfs.WriteOptions) (path string, sum squashfs.Summary) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	must(t, err)
	sum, err = squashfs.Write(context.Background(), f, src, o)
	must(t, err)
	info, err := f.Stat()
	must(t, err)
	if info.Size() != sum.Size {
		t.Errorf("the image has %d bytes, said are %d", info.Size(), sum.Size)
	}
	must(t, f.Close())
	return path, sum
}

// everything is a folder with files of all kinds, as far as this user can make
// them.
func everything(t testing.TB) string {
	t.Helper()
	src := sample(t)
	if unix.Lsetxattr(filepath.Join(src, "code"), "user.a", noise(300), 0) != nil {
		t.Log("the temporary folder has no attributes to test with")
	} else {
		attributes(t, src)
	}
	for i := range 1500 {
		write(t, filepath.Join(src, "names", fmt.Sprintf("%d-%s", i, strings.Repeat("é", i%100))), []byte{byte(i), byte(i >> 8)})
	}
	must(t, os.WriteFile(filepath.Join(src, "copy"), prose(300<<10+5), 0o600))
	must(t, syscall.Mkfifo(filepath.Join(src, "fifo"), 0o640))
	if os.Geteuid() == 0 {
		must(t, os.Mkdir(filepath.Join(src, "dev"), 0o755))
		for _, d := range []struct {
			name         string
			mode         uint32
			major, minor uint32
		}{{"null", unix.S_IFCHR | 0o666, 1, 3}, {"big", unix.S_IFCHR | 0o600, 511, 70000}, {"sda", unix.S_IFBLK | 0o660, 8, 0}, {"socket", unix.S_IFSOCK | 0o755, 0, 0}} {
			must(t, unix.Mknod(filepath.Join(src, "dev", d.name), d.mode, int(unix.Mkdev(d.major, d.minor))))
		}
		must(t, os.Chown(filepath.Join(src, "copy"), 70000, 4000000000))
	}
	return src
}

// writing are ways to write an image.
var writing = []struct {
	name string
	o    squashfs.WriteOptions
}{
	{"zstd", squashfs.WriteOptions{}},
	{"zstd-4K", squashfs.WriteOptions{BlockSize: 4 << 10, Level: 22}},
	{"zstd-1M", squashfs.WriteOptions{BlockSize: 1 << 20, Level: 3}},
	{"gzip", squashfs.WriteOptions{Compressor: squashfs.Gzip}},
	{"gzip-64K", squashfs.WriteOptions{Compressor: squashfs.Gzip, Level: 1, BlockSize: 64 << 10}},
	{"xz", squashfs.WriteOptions{Compressor: squashfs.XZ}},
	{"xz-4K", squashfs.WriteOptions{Compressor: squashfs.XZ, BlockSize: 4 << 10}},
	{"xz-1M", squashfs.WriteOptions{Compressor: squashfs.XZ, BlockSize: 1 << 20}},
	{"lz4", squashfs.WriteOptions{Compressor: squashfs.LZ4}},
	{"lz4-slow", squashfs.WriteOptions{Compressor: squashfs.LZ4, Level: 2, BlockSize: 8 << 10}},
	{"no-fragments", squashfs.WriteOptions{NoFragments: true, Level: 1}},
	{"no-export", squashfs.WriteOptions{NoExport: true, Level: 1, NoPadding: true}},
}

// What is written of a folder is read as the folder is, by the reader, by the
// kernel and by unsquashfs.
func TestWrittenIsItsSource(t *testing.T) {
	t.Parallel()
	src := everything(t)
	want := asSource(theirs(t, src))
	for _, k := range writing {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			image, _ := writeImage(t, squashfs.DirTree(src), k.o)
			all := ours(t, openImage(t, image))
			if dir, ok := mounted(t, image); ok && !k.o.NoPadding {
				same(t, "the kernel", theirs(t, dir), all)
			}
			compareListing(t, image, all)
			same(t, "the source", want, asSource(all))
		})
	}
}
