package squashfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/internal/squashfs"
)

// need finds a program, or skips the test; where CI is set it fails.
func need(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is needed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// run runs a program and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(need(t, name), args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// mksquashfs makes an image of a folder.
func mksquashfs(t testing.TB, src string, args ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	run(t, "mksquashfs", append([]string{src, image, "-noappend", "-no-progress", "-quiet", "-processors", "1"}, args...)...)
	return image
}

// openImage opens an image for the time of a test.
func openImage(t testing.TB, path string, options ...squashfs.Option) *squashfs.FS {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := squashfs.Open(f, info.Size(), options...)
	if err != nil {
		t.Fatalf("opening %s: %v", path, err)
	}
	return fsys
}

// noise are bytes that do not compress, prose are some that do.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func prose(n int) []byte {
	var b bytes.Buffer
	r := rand.New(rand.NewPCG(uint64(n), 2))
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d of %d%s\n", r.IntN(1000), n, strings.Repeat(" and on", r.IntN(40)))
	}
	return b.Bytes()[:n]
}

// machine is this processor's code, for the filters.
func machine(t testing.TB, n int) []byte {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	return b[0x1000:min(len(b), 0x1000+n)]
}

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a file and the folders above it.
func write(t testing.TB, path string, data []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, data, 0o644))
}

// sample makes a folder with what files there can be, of at most a few MiB.
func sample(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, n := range []int{0, 1, 4095, 4096, 4097, 8192, 131071, 131072, 131073, 300<<10 + 5} {
		write(t, at(fmt.Sprintf("prose/%d", n)), prose(n))
		write(t, at(fmt.Sprintf("noise/%d", n)), noise(n))
	}
	write(t, at("code"), machine(t, 140<<10))
	write(t, at("zeros"), make([]byte, 600<<10))
	write(t, at("deep/a/b/c/d/e/f"), []byte("deep"))
	write(t, at("Grüße/日本/ name with  spaces "), []byte("names"))
	write(t, at("bad utf8 \xff\xfe"), []byte("names"))
	write(t, at(strings.Repeat("n", 255)), []byte("long"))
	for i := range 300 {
		write(t, at(fmt.Sprintf("many/file %03d with a name of some length to fill blocks", i)), fmt.Appendf(nil, "%d", i))
	}
	sparse(t, at("sparse"), 2<<20)
	must(t, os.MkdirAll(at("empty/below"), 0o700))
	must(t, os.Symlink("../code", at("deep/link")))
	must(t, os.Symlink("/nowhere/"+strings.Repeat("x", 500), at("dangling")))
	must(t, os.Link(at("code"), at("deep/hard")))
	must(t, os.Link(at("prose/1"), at("prose/one")))
	must(t, os.Chmod(at("prose/4096"), 0o755|fs.ModeSetuid|fs.ModeSetgid))
	must(t, os.Chmod(at("empty"), 0o777|fs.ModeSticky))
	old := time.Unix(1234567890, 0)
	must(t, os.Chtimes(at("zeros"), old, old))
	return dir
}

// sparse makes a file with some words and holes.
func sparse(t testing.TB, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	for at := size / 3; at < size; at += size / 3 {
		_, err := f.WriteAt(noise(5000), at)
		must(t, err)
	}
	must(t, f.Truncate(size+5100))
	must(t, f.Close())
}

// modeText is a mode as ls has it.
func modeText(m fs.FileMode) string {
	kinds := map[fs.FileMode]byte{
		0: '-', fs.ModeDir: 'd', fs.ModeSymlink: 'l', fs.ModeDevice: 'b', fs.ModeDevice | fs.ModeCharDevice: 'c',
		fs.ModeNamedPipe: 'p', fs.ModeSocket: 's',
	}
	b := []byte(m.Perm().String())
	b[0] = kinds[m.Type()]
	for _, s := range []struct {
		bit fs.FileMode
		at  int
		set string // with and without the right to execute
	}{{fs.ModeSetuid, 3, "sS"}, {fs.ModeSetgid, 6, "sS"}, {fs.ModeSticky, 9, "tT"}} {
		switch {
		case m&s.bit != 0 && b[s.at] == 'x':
			b[s.at] = s.set[0]
		case m&s.bit != 0:
			b[s.at] = s.set[1]
		}
	}
	return string(b)
}

func date(t int64) string { return time.Unix(t, 0).UTC().Format("2006-01-02 15:04") }

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
