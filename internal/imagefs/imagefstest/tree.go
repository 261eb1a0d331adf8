package imagefstest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockport/lockport/internal/imagefs"
)

// Text is the content of the file "text".
func Text() []byte {
	return []byte(strings.Repeat("All work and no play makes Jack a dull boy.\n", 300))[:9000]
}

// Holes is the content of the file "holes", of which most is not stored.
func Holes() []byte {
	b := make([]byte, 100_000)
	for i := 10_000; i < len(b); i += 20_000 {
		copy(b[i:], "in a hole")
	}
	return b
}

// LongTarget is where the link "long" leads.
var LongTarget = strings.Repeat("further/", 20)

// Source makes the folder that the images in testdata are made of, but for
// devices and attributes, which make may add. The folder is dir.
func Source(t testing.TB, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Chmod(dir, 0o755))
	must(t, os.MkdirAll(at("dir/deep"), 0o755))
	for name, data := range map[string][]byte{"dir/file": []byte("content\n"), "text": Text(), "empty": nil} {
		must(t, os.WriteFile(at(name), data, 0o644))
	}
	must(t, os.Chmod(at("dir/file"), 0o755|fs.ModeSetuid))
	must(t, os.Chmod(at("dir"), 0o751|fs.ModeSetgid))
	must(t, os.Link(at("dir/file"), at("dir/again")))
	must(t, os.Symlink("dir/file", at("link")))
	must(t, os.Symlink(LongTarget, at("long")))
	f, err := os.Create(at("holes"))
	must(t, err)
	for i := int64(10_000); i < 100_000; i += 20_000 {
		_, err := f.WriteAt([]byte("in a hole"), i)
		must(t, err)
	}
	must(t, f.Truncate(100_000))
	must(t, f.Close())
}

// Lines says in words what an image has.
func Lines(t testing.TB, fsys *imagefs.FS) []string {
	t.Helper()
	var all []string
	must(t, fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s := info.Sys().(*imagefs.Stat)
		attrs, err := s.Xattrs()
		var names []string
		for _, a := range attrs {
			names = append(names, fmt.Sprintf("%s=%.20s", a.Name, a.Value))
		}
		all = append(all, fmt.Sprintf("%v %s %d:%d %d %v", info.Mode(), path, s.UID, s.GID, s.Links, names))
		return err
	}))
	return all
}

// Contents compares the files and links of a [Source].
func Contents(t testing.TB, name string, fsys *imagefs.FS) {
	t.Helper()
	files := map[string][]byte{"text": Text(), "holes": Holes(), "dir/again": []byte("content\n"), "empty": {}}
	for file, content := range files {
		if got, err := fsys.ReadFile(file); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %s has %d bytes (%v), or others", name, file, len(got), err)
		}
	}
	for link, want := range map[string]string{"link": "dir/file", "long": LongTarget} {
		if target, err := fsys.ReadLink(link); target != want || err != nil {
			t.Errorf("%s: %s leads to %q: %v", name, link, target, err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
