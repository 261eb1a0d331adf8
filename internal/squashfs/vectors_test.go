package squashfs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/internal/squashfs"
)

// vectors returns the images in testdata by name. They were made by mksquashfs,
// as TestMakeVectors does it.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.sqfs")
	must(t, err)
	if len(paths) < 8 {
		t.Fatalf("only %d images", len(paths))
	}
	all := map[string][]byte{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		must(t, err)
		all[filepath.Base(path)] = b
	}
	return all
}

func openBytes(b []byte, options ...squashfs.Option) (*squashfs.FS, error) {
	return squashfs.Open(bytes.NewReader(b), int64(len(b)), options...)
}

// vectorText and vectorHole are the contents of two files of the vectors.
func vectorText() []byte { return prose(9000) }

func vectorHole() []byte {
	b := make([]byte, 20_000)
	copy(b[10_000:], "in a hole")
	return b
}

// lines says in words what an image has.
func lines(t testing.TB, fsys *squashfs.FS) []string {
	t.Helper()
	var all []string
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s := info.Sys().(*squashfs.Stat)
		attrs, err := s.Xattrs()
		var names []string
		for _, a := range attrs {
			names = append(names, fmt.Sprintf("%s=%s", a.Name, a.Value))
		}
		all = append(all, fmt.Sprintf("%s %s %d:%d %d %v", modeText(info.Mode()), path, s.UID, s.GID, s.Links, names))
		return err
	})
	must(t, err)
	return all
}

func TestVectors(t *testing.T) {
	t.Parallel()
	want := []string{
		"drwxr-xr-x . 0:0 3 []",
		"drwxr-s--x dir 0:0 3 [user.dir=a directory's]",
		"-rwsr-xr-x dir/again 0:0 2 [user.file=a file's]",
		"drwxr-xr-x dir/deep 0:0 2 []",
		"-rwsr-xr-x dir/file 0:0 2 [user.file=a file's]",
		"prw-r--r-- fifo 7:8 1 []",
		"-rw-r--r-- hole 0:0 1 []",
		"lrwxrwxrwx link 0:0 1 []",
		"crw-rw-rw- null 0:0 1 []",
		"-rw-r--r-- text 0:0 1 []",
	}
	for name, b := range vectors(t) {
		if name == "index.sqfs" {
			continue
		}
		fsys, err := openBytes(b)
		must(t, err)
		if diff := cmp.Diff(want, lines(t, fsys)); diff != "" {
			t.Errorf("%s: it has (+):\n%s", name, diff)
		}
		for file, content := range map[string][]byte{"text": vectorText(), "hole": vectorHole(), "dir/again": []byte("content\n")} {
			if got, err := fsys.ReadFile(file); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: %s has %d bytes (%v), or others", name, file, len(got), err)
			}
		}
		if target, err := fsys.ReadLink("link"); target != "dir/file" || err != nil {
			t.Errorf("%s: the link leads to %q: %v", name, target, err)
		}
	}
}

// The contract of io/fs, in all its parts.
func TestFS(t *testing.T) {
	t.Parallel()
	for name, b := range vectors(t) {
		fsys, err := openBytes(b)
		must(t, err)
		expected := []string{"dir/file", "dir/deep", "text", "link"}
		if name == "index.sqfs" {
			expected = []string{"200"}
		}
		if err := fstest.TestFS(readable{fsys}, expected...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// readable is an image without devices and fifos: fstest wants to read those.
type readable struct{ *squashfs.FS }

func (r readable) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := r.FS.ReadDir(name)
	return without(list), err
}

func (r readable) Open(name string) (fs.File, error) {
	f, err := r.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return readableFile{f.(*squashfs.File)}, nil
}

type readableFile struct{ *squashfs.File }

func (r readableFile) ReadDir(n int) ([]fs.DirEntry, error) {
	list, err := r.File.ReadDir(n)
	return without(list), err
}

func without(list []fs.DirEntry) []fs.DirEntry {
	out := []fs.DirEntry{}
	for _, e := range list {
		if e.Type()&(fs.ModeDevice|fs.ModeNamedPipe) == 0 {
			out = append(out, e)
		}
	}
	return out
}
