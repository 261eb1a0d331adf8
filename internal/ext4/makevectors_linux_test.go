package ext4_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/imagefs/imagefstest"
)

var update = flag.Bool("update", false, "make the images in testdata again")

// recipes are the arguments of mkfs.ext4 for the images in testdata.
var recipes = map[string]struct {
	args string
	size int64
}{
	"extents": {"-b 1024 -O ^has_journal,^resize_inode", 128 << 10},
	"inline":  {"-b 1024 -O ^has_journal,^resize_inode,inline_data", 128 << 10},
	"old":     {"-b 1024 -t ext2 -I 128 -O ^filetype,^resize_inode", 128 << 10},
	"blocks":  {"-b 4096 -O ^has_journal,^resize_inode,^extents,^64bit,ea_inode", 256 << 10},
	"groups":  {"-b 1024 -O ^has_journal,meta_bg,^resize_inode -g 256", 512 << 10},
}

// TestMakeVectors is the recipe of testdata/*.gz, as root, by mkfs.ext4 1.47.0
// and Linux 6.18: go test ./internal/ext4 -run TestMakeVectors -update
func TestMakeVectors(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	for name, r := range recipes {
		makeImage(t, name, r.args, r.size, 40, source)
	}
	// A directory with an index of hashes.
	makeImage(t, "index", "-b 1024 -O ^has_journal,^resize_inode", 192<<10, 340, func(t *testing.T, dir string) {
		for i := range 300 {
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i, strings.Repeat("-", i%2*40))), nil, 0o644))
		}
	})
}

// makeImage lets the kernel fill an image, as mkfs.ext4 does not write all that
// there can be.
func makeImage(t *testing.T, name, args string, size int64, inodes int, fill func(*testing.T, string)) {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), name), t.TempDir()
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, size))
	run(t, "mkfs.ext4", append(strings.Fields(args), "-q", "-F", "-N", fmt.Sprint(inodes), "-m", "0", "-U", "clear", image)...)
	run(t, "mount", "-o", "loop,noatime", image, dir)
	defer unix.Unmount(dir, 0)
	fill(t, dir)
	must(t, os.Remove(filepath.Join(dir, "lost+found")))
	must(t, unix.Unmount(dir, 0))
	imagefstest.Save(t, name, image)
}

// source makes the files of an image, with all that an inode can have.
func source(t *testing.T, dir string) {
	t.Helper()
	imagefstest.Source(t, dir)
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, os.Chmod(at("null"), 0o666))
	must(t, unix.Mknod(at("big"), unix.S_IFBLK|0o660, int(unix.Mkdev(511, 70000))))
	must(t, os.Chmod(at("big"), 0o660))
	must(t, unix.Mknod(at("fifo"), unix.S_IFIFO|0o644, 0))
	must(t, os.Chown(at("fifo"), 70000, 4_000_000_000))
	must(t, unix.Lsetxattr(at("dir"), "user.dir", []byte("a directory's"), 0))
	must(t, unix.Lsetxattr(at("dir/file"), "user.file", []byte("a file's"), 0))
	must(t, unix.Lsetxattr(at("long"), "trusted.long", []byte(strings.Repeat("long ", 30)), 0))
	const access = "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x05\x00\xe8\x03\x00\x00" +
		"\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x05\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff"
	must(t, unix.Lsetxattr(at("dir/deep"), "system.posix_acl_access", []byte(access), 0))
	if unix.Lsetxattr(at("empty"), "user.large", []byte(strings.Repeat("large", 1000)), 0) != nil {
		must(t, unix.Lsetxattr(at("empty"), "user.large", []byte(strings.Repeat("large", 100)), 0))
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, args, err, out)
	}
}
