package images_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// need finds a program, or skips the test; where CI is set it fails.
func need(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is needed", name)
		}
		t.Skipf("%s is not installed", name)
	}
}

// run runs a program that has to succeed.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	need(t, name)
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// noise are bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func prose(n int) []byte {
	return []byte(strings.Repeat("All work and no play makes Jack a dull boy. ", n/44+1))[:n]
}

// nasty makes a folder with what is hard to get right, and this many entries in
// one directory.
func nasty(t testing.TB, many int) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, data []byte) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Dir(at(name)), 0o755))
		must(t, os.WriteFile(at(name), data, 0o644))
	}
	for _, n := range []int{0, 1, 59, 60, 61, 150, 1023, 1024, 4095, 4096, 4097, 8192, 65536, 131073, 300<<10 + 5} {
		write(fmt.Sprintf("prose/%d", n), prose(n))
		write(fmt.Sprintf("noise/%d", n), noise(n))
	}
	write("Grüße/日本/ name with  spaces ", []byte("names"))
	write("bad utf8 \xff\xfe/and \n newline", []byte("names"))
	write(strings.Repeat("n", 254), []byte("long")) // mkfs.erofs 1.5 takes no longer one
	write(strings.Repeat("d/", 60)+"deep", []byte("deep"))
	for i := range many {
		write(fmt.Sprintf("many/%d-%s", i, strings.Repeat("é", i%20)), nil)
	}
	for i := range 12 {
		write(fmt.Sprintf("few/%d", i), fmt.Append(nil, i))
	}
	must(t, os.MkdirAll(at("empty/below"), 0o700))
	must(t, os.Mkdir(at("lost+found"), 0o700)) // ext4 has one
	holes(t, at("holes"), 400)                 // more than fit into a block, and into four of 1 KiB
	holes(t, at("hole at the end"), 1)
	must(t, os.Truncate(at("hole at the end"), 3<<20+1))
	links(t, dir)
	special(t, dir)
	attributes(t, dir)
	times(t, dir)
	return dir
}

// holes makes a file of which every second part is a hole.
func holes(t testing.TB, path string, parts int64) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	for i := range parts {
		_, err := f.WriteAt(noise(700), (2*i+1)*4096)
		must(t, err)
	}
	must(t, f.Close())
}

// links makes symbolic ones around the lengths at which they are kept elsewhere,
// and hard ones.
func links(t testing.TB, dir string) {
	t.Helper()
	for _, n := range []int{1, 58, 59, 60, 61, 150, 900, 1023} {
		must(t, os.Symlink(strings.Repeat("x", n), filepath.Join(dir, fmt.Sprint("dangling ", n))))
	}
	for name, target := range map[string]string{"absolute": "/etc/passwd", "up": "../../../..", "loop": "loop", "dir": "d/d"} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	must(t, os.Link(filepath.Join(dir, "prose/1"), filepath.Join(dir, "hard")))
	must(t, os.Link(filepath.Join(dir, "prose/1"), filepath.Join(dir, "few/hard")))
}

// special makes devices and the like, owners and modes.
func special(t testing.TB, dir string) {
	t.Helper()
	node := func(name string, kind, perm uint32, dev uint64) {
		t.Helper()
		must(t, unix.Mknod(filepath.Join(dir, name), kind|perm, int(dev)))
	}
	node("null", unix.S_IFCHR, 0o666, unix.Mkdev(1, 3))
	node("big", unix.S_IFCHR, 0o600, unix.Mkdev(511, 70000))
	node("sda", unix.S_IFBLK, 0o660, unix.Mkdev(8, 0))
	node("zero", unix.S_IFCHR, 0, 0)
	node("fifo", unix.S_IFIFO, 0o644, 0)
	node("socket", unix.S_IFSOCK, 0o755, 0)
	for name, mode := range map[string]fs.FileMode{
		"prose/0": 0, "prose/1": 0o755 | fs.ModeSetuid, "prose/60": 0o2 | fs.ModeSetgid, "few": 0o777 | fs.ModeSticky,
		"prose/61": 0o777 | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky, "empty": 0o750 | fs.ModeSetgid,
	} {
		must(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	for name, owner := range map[string][2]int{"null": {1000, 5}, "few/1": {70000, 4_000_000_000}, "empty": {65534, 65535}, "up": {65536, 1}} {
		must(t, unix.Lchown(filepath.Join(dir, name), owner[0], owner[1]))
	}
}

// access lets a user and a group have rights besides the owner's: a list as
// Linux's posix_acl_xattr.h has it.
const access = "\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x05\x00\xe8\x03\x00\x00" + "\x04\x00\x05\x00\xff\xff\xff\xff" +
	"\x08\x00\x04\x00\x10\x27\x01\x00" + "\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x05\x00\xff\xff\xff\xff"

func attributes(t testing.TB, dir string) {
	t.Helper()
	set := func(name, attr, value string) {
		t.Helper()
		err := unix.Lsetxattr(filepath.Join(dir, name), attr, []byte(value), 0)
		if err == unix.ENOTSUP {
			t.Skip("the temporary folder has no attributes to test with")
		}
		if err != nil {
			t.Fatalf("%s of %s: %v", attr, name, err)
		}
	}
	for _, name := range []string{"prose/0", "prose/1", "noise/4096", "noise/150", "many", "few/1", "few/2", "few/3", "d/d"} {
		set(name, "user.shared", strings.Repeat("shared value ", 20))
		set(name, "user."+strings.ReplaceAll(name, "/", "."), name)
	}
	set("few/4", "user.empty", "")
	set("few/4", "user."+strings.Repeat("n", 200), "long name")
	for i := range 20 {
		set("few/5", fmt.Sprint("user.", i), fmt.Sprint("value ", i))
	}
	set("dangling 1", "trusted.link", "of a link")
	set("dangling 900", "trusted.link", "of a link")
	set("prose/61", "security.test", "\x00\x01\x02")
	set("fifo", "trusted.fifo", "of a fifo")
	set("few/6", "system.posix_acl_access", access)
	set("few", "system.posix_acl_default", access)
}

// times come last: what else is made changes them.
func times(t testing.TB, dir string) {
	t.Helper()
	for name, at := range map[string]time.Time{
		"few/1": time.Unix(0, 0), "few/2": time.Unix(-5, 0), "few/3": time.Unix(1<<31+7, 123456789), "few/4": time.Unix(5, 999999999),
		"many": time.Unix(1234567890, 5),
	} {
		must(t, os.Chtimes(filepath.Join(dir, name), at, at))
	}
}

// distribution copies parts of the system that this runs on, of at most that
// many bytes.
func distribution(t testing.TB, limit int64) string {
	t.Helper()
	dir := t.TempDir()
	sources := []string{"/etc"}
	for _, below := range []string{"/usr/lib/systemd", "/usr/lib/udev", "/usr/lib/terminfo", "/usr/share/zoneinfo", "/usr/share/perl5", "/usr/lib/*-linux-gnu", "/usr/share/doc"} {
		found, err := filepath.Glob(below)
		must(t, err)
		sources = append(sources, found...)
	}
	for _, src := range sources {
		limit -= copyTree(t, src, dir, limit)
	}
	return dir
}

// copyTree copies a folder but its big files, and stops where the limit is.
func copyTree(t testing.TB, src, dst string, limit int64) (copied int64) {
	t.Helper()
	_ = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // nothing that every system has to have
		}
		info, err := d.Info()
		if err != nil || copied > limit {
			return nil
		}
		to := filepath.Join(dst, path)
		switch info.Mode().Type() {
		case fs.ModeDir:
			must(t, os.MkdirAll(to, 0o755))
			must(t, os.Chmod(to, info.Mode()))
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			must(t, err)
			must(t, os.Symlink(target, to))
		case 0:
			if data, err := os.ReadFile(path); err == nil && info.Size() < 4<<20 {
				must(t, os.WriteFile(to, data, 0o600))
				must(t, os.Chmod(to, info.Mode()))
				copied += info.Size()
			}
		}
		return nil
	})
	return copied
}
