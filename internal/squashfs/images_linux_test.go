package squashfs_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/squashfs"
)

func mountCommand(image, dir string) ([]byte, error) {
	return exec.Command("mount", "-t", "squashfs", "-o", "loop,ro", image, dir).CombinedOutput()
}

func unmount(dir string) error { return unix.Unmount(dir, unix.MNT_DETACH) }

// kinds are ways to make an image.
var kinds = []struct{ name, args string }{
	{"gzip", "-comp gzip"},
	{"gzip-4K", "-comp gzip -b 4K"},
	{"gzip-1M", "-comp gzip -b 1M -Xcompression-level 1"},
	{"gzip-strategies", "-comp gzip -Xwindow-size 9 -Xstrategy filtered,huffman_only,fixed"},
	{"xz", "-comp xz"},
	{"xz-4K", "-comp xz -b 4K"},
	{"xz-1M", "-comp xz -b 1M"},
	{"xz-bcj", "-comp xz -Xbcj x86"},
	{"xz-dict", "-comp xz -Xdict-size 8K"},
	{"zstd", "-comp zstd"},
	{"zstd-4K", "-comp zstd -b 4K -Xcompression-level 22"},
	{"zstd-1M", "-comp zstd -b 1M -Xcompression-level 1"},
	{"lz4", "-comp lz4"},
	{"lz4-hc", "-comp lz4 -Xhc -b 64K"},
	{"lz4-4K", "-comp lz4 -b 4K"},
	{"lzo", "-comp lzo -b 32K"},
	{"lzo-1", "-comp lzo -b 1M -Xalgorithm lzo1x_1"},
	{"lzo-15", "-comp lzo -b 4K -Xalgorithm lzo1x_1_15"},
	{"plain", "-noI -noD -noF -noX -noId"},
	{"noF", "-noF"},
	{"noI", "-noI"},
	{"noD", "-noD"},
	{"no-fragments", "-no-fragments"},
	{"always-use-fragments", "-always-use-fragments -b 16K"},
	{"no-xattrs", "-no-xattrs"},
	{"nopad-no-exports", "-nopad -no-exports"},
	{"no-duplicates", "-no-duplicates -no-tailends"},
	{"no-sparse", "-no-sparse"},
	{"no-hardlinks", "-no-hardlinks"},
}

// What mksquashfs makes of a folder is read as the folder is.
func TestImagesAreTheirSource(t *testing.T) {
	t.Parallel()
	need(t, "mksquashfs")
	src := sample(t)
	want := asSource(theirs(t, src))
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			fsys := openImage(t, mksquashfs(t, src, strings.Fields(k.args)...))
			got := asSource(ours(t, fsys))
			if k.name == "no-hardlinks" {
				same(t, "the source", single(want), single(got))
				return
			}
			same(t, "the source", want, got)
		})
	}
}

func single(all map[string]facts) map[string]facts {
	out := map[string]facts{}
	for path, f := range all {
		f.Links = 1
		out[path] = f
	}
	return out
}

// pseudo is a list of files that only root could make, for mksquashfs.
const pseudo = `dev d 755 0 0
dev/null c 666 0 0 1 3
dev/big c 600 5 6 511 70000
dev/sda b 660 0 6 8 0
dev/fifo i 644 1000 1000 f
dev/socket i 755 1000 1000 s
owned f 4755 70000 4000000000 echo owned
none d 1777 65534 65534
`

// special makes an image of what the sample lacks.
func special(t testing.TB, args ...string) string {
	t.Helper()
	src := sample(t)
	list := filepath.Join(t.TempDir(), "pseudo")
	write(t, list, []byte(pseudo))
	if unix.Lsetxattr(filepath.Join(src, "code"), "user.a", noise(300), 0) != nil {
		t.Log("the temporary folder has no attributes to test with")
	} else {
		attributes(t, src)
	}
	for i := range 1500 {
		write(t, filepath.Join(src, "names", fmt.Sprintf("%d-%s", i, strings.Repeat("é", i%100))), nil)
	}
	return mksquashfs(t, src, append([]string{"-pf", list}, args...)...)
}

func attributes(t testing.TB, src string) {
	t.Helper()
	for _, name := range []string{"zeros", "empty", "deep/a", "prose/1", "many"} {
		must(t, unix.Lsetxattr(filepath.Join(src, name), "user.shared", []byte(strings.Repeat("shared value ", 100)), 0))
		must(t, unix.Lsetxattr(filepath.Join(src, name), "user."+filepath.Base(name), []byte(name), 0))
		must(t, unix.Lsetxattr(filepath.Join(src, name), "user.empty", nil, 0))
	}
	if os.Geteuid() != 0 {
		return
	}
	must(t, unix.Lsetxattr(filepath.Join(src, "dangling"), "trusted.link", []byte("of a link"), 0))
	must(t, unix.Lsetxattr(filepath.Join(src, "code"), "security.test", []byte{0, 1, 2}, 0))
}

// The kernel, unsquashfs and we see the same in an image.
func TestImagesAreAsTheKernelHasThem(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-comp gzip", "-comp zstd -b 4K -no-exports"} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			image := special(t, strings.Fields(args)...)
			all := ours(t, openImage(t, image))
			if dir, ok := mounted(t, image); ok {
				same(t, "the kernel", theirs(t, dir), all)
			}
			compareListing(t, image, all)
		})
	}
}

// compareListing compares with what unsquashfs prints: mode, owner, size or
// device, date, path.
func compareListing(t *testing.T, image string, all map[string]facts) {
	t.Helper()
	var want, got []string
	for line := range strings.Lines(run(t, "unsquashfs", "-lln", "-no-progress", "-d", "", image)) {
		if strings.Contains(line, " ") {
			want = append(want, strings.Join(strings.Fields(line), " "))
		}
	}
	// It does not split device numbers of more than 16 bits as Linux does.
	want = slices.DeleteFunc(want, func(line string) bool { return strings.HasSuffix(line, "/dev/big") })
	for path, f := range all {
		if path == "dev/big" {
			continue
		}
		got = append(got, strings.Join(strings.Fields(listingLine(path, f)), " "))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unsquashfs, and ours (+):\n%s", diff[:min(len(diff), 4000)])
	}
}

func listingLine(path string, f facts) string {
	size := strconv.FormatInt(f.Size, 10)
	if f.Device != "" {
		size = strings.Replace(f.Device, ":", ", ", 1)
	}
	path = strings.TrimSuffix("/"+path, "/.")
	if f.Target != "" {
		path += " -> " + f.Target
	}
	return fmt.Sprintf("%s %d/%d %s %s %s", modeText(f.Mode), f.UID, f.GID, size, date(f.Time), path)
}

// A directory of ten thousand is found in by its index.
func TestLargeDirectory(t *testing.T) {
	t.Parallel()
	need(t, "mksquashfs")
	src := t.TempDir()
	for i := range 10_000 {
		write(t, filepath.Join(src, "d", fmt.Sprintf("entry %d", i)), nil)
	}
	fsys := openImage(t, mksquashfs(t, src))
	list, err := fsys.ReadDir("d")
	if err != nil || len(list) != 10_000 {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	for _, e := range list {
		info, err := fsys.Lstat("d/" + e.Name())
		must(t, err)
		if info.Name() != e.Name() || !info.Mode().IsRegular() {
			t.Fatalf("%s is found as %v", e.Name(), info)
		}
	}
	for _, name := range []string{"", " ", "entry", "entry 5000x", "zzz", "~"} {
		if _, err := fsys.Lstat("d/" + name); err == nil {
			t.Errorf("%q is found", name)
		}
	}
}

func TestByNumber(t *testing.T) {
	t.Parallel()
	need(t, "mksquashfs")
	src := sample(t)
	fsys := openImage(t, mksquashfs(t, src))
	for path, f := range ours(t, fsys) {
		info, err := fsys.ByNumber(f.Inode)
		must(t, err)
		if s := info.Sys().(*squashfs.Stat); s.Inode != f.Inode || info.Mode() != f.Mode || info.Size() != f.Size {
			t.Errorf("%s is %v by its number", path, info)
		}
	}
	if _, err := fsys.ByNumber(0); err == nil {
		t.Error("there is an inode 0")
	}
	none := openImage(t, mksquashfs(t, src, "-no-exports"))
	if _, err := none.ByNumber(1); !isNotExist(err) {
		t.Errorf("without an export table: %v", err)
	}
}

var _ fs.ReadLinkFS = (*squashfs.FS)(nil)
