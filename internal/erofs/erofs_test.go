package erofs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/internal/erofs"
	"github.com/lockport/lockport/internal/imagefs"
	"github.com/lockport/lockport/internal/imagefs/imagefstest"
)

var format = imagefstest.Format{
	Open:   erofs.Open,
	Errors: []error{erofs.ErrDamaged, erofs.ErrUnsupported, erofs.ErrNotErofs, fs.ErrNotExist},
	Head:   [2]int{1024, 1024 + 128},
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// vectors returns the images in testdata by name, those that can be read or
// those that can't. They were made as TestMakeVectors does it.
func vectors(t testing.TB, compressed bool) map[string][]byte {
	t.Helper()
	all := imagefstest.Images(t, 9)
	for name := range all {
		if compressed != (name == "compressed" || name == "legacy") {
			delete(all, name)
		}
	}
	return all
}

func openBytes(b []byte) (*imagefs.FS, error) { return erofs.Open(bytes.NewReader(b), int64(len(b))) }

func TestVectors(t *testing.T) {
	t.Parallel()
	want := []string{
		"drwxr-xr-x . 0:0 3 []",
		"dgrwxr-x--x dir 0:0 3 [user.dir=a directory's]",
		"urwxr-xr-x dir/again 0:0 2 [user.file=a file's]",
		"drwxr-xr-x dir/deep 0:0 2 [security.shared=shared by several]",
		"urwxr-xr-x dir/file 0:0 2 [user.file=a file's]",
		"-rw-r--r-- empty 0:0 1 [security.shared=shared by several]",
		"prw-r--r-- fifo 7:8 1 []",
		"-rw-r--r-- holes 0:0 1 []",
		"Lrwxrwxrwx link 0:0 1 []",
		"Lrwxrwxrwx long 0:0 1 []",
		"Dcrw-rw-rw- null 0:0 1 []",
		"-rw-r--r-- text 0:0 1 [security.shared=shared by several]",
	}
	for name, b := range vectors(t, false) {
		fsys, err := openBytes(b)
		must(t, err)
		if name == "names" {
			if list, err := fsys.ReadDir("."); err != nil || len(list) != 300 {
				t.Errorf("%d names, %v", len(list), err)
			}
			continue
		}
		if diff := cmp.Diff(want, imagefstest.Lines(t, fsys)); diff != "" {
			t.Errorf("%s: it has (+):\n%s", name, diff)
		}
		imagefstest.Contents(t, name, fsys)
	}
}

// An image of today's compression is refused as a whole; of the first one no
// superblock tells, so only its files are.
func TestCompressed(t *testing.T) {
	t.Parallel()
	images := vectors(t, true)
	_, first := openBytes(images["compressed"])
	fsys, err := openBytes(images["legacy"])
	must(t, err)
	_, second := fsys.ReadFile("text")
	for _, err := range []error{first, second} {
		if !errors.Is(err, erofs.ErrUnsupported) || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "compressed erofs") {
			t.Errorf("%v", err)
		}
	}
	if _, err := fsys.ReadDir("dir"); err != nil {
		t.Errorf("a directory among compressed files: %v", err)
	}
}

func TestDamage(t *testing.T) { format.Damage(t, vectors(t, false)) }

// FuzzImage reads all of an image of any bytes.
func FuzzImage(f *testing.F) {
	for _, b := range vectors(f, false) {
		f.Add(b)
	}
	for _, b := range vectors(f, true) {
		f.Add(b)
	}
	f.Fuzz(format.Fuzz)
}
