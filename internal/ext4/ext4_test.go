package ext4_test

import (
	"bytes"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/internal/ext4"
	"github.com/lockport/lockport/internal/imagefs"
	"github.com/lockport/lockport/internal/imagefs/imagefstest"
)

var format = imagefstest.Format{
	Open:   ext4.Open,
	Errors: []error{ext4.ErrDamaged, ext4.ErrUnsupported, ext4.ErrNotExt4, fs.ErrNotExist},
	Head:   [2]int{1024, 1024 + 0x180},
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// vectors returns the images in testdata by name. They were made as
// TestMakeVectors does it.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	return imagefstest.Images(t, 6)
}

func openBytes(b []byte) (*imagefs.FS, error) { return ext4.Open(bytes.NewReader(b), int64(len(b))) }

func TestVectors(t *testing.T) {
	t.Parallel()
	want := []string{
		"drwxr-xr-x . 0:0 3 []",
		"Drw-rw---- big 0:0 1 []",
		"dgrwxr-x--x dir 0:0 3 [user.dir=a directory's]",
		"urwxr-xr-x dir/again 0:0 2 [user.file=a file's]",
		"drwxr-xr-x dir/deep 0:0 2 [system.posix_acl_access=" + string([]byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 0xe8, 3, 0, 0}) + "]",
		"urwxr-xr-x dir/file 0:0 2 [user.file=a file's]",
		"-rw-r--r-- empty 0:0 1 [user.large=largelargelargelarge]",
		"prw-r--r-- fifo 70000:4000000000 1 []",
		"-rw-r--r-- holes 0:0 1 []",
		"Lrwxrwxrwx link 0:0 1 []",
		"Lrwxrwxrwx long 0:0 1 [trusted.long=long long long long ]",
		"Dcrw-rw-rw- null 0:0 1 []",
		"-rw-r--r-- text 0:0 1 []",
	}
	for name, b := range vectors(t) {
		fsys, err := openBytes(b)
		must(t, err)
		if name == "index" {
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

func TestDamage(t *testing.T) { format.Damage(t, vectors(t)) }

// FuzzImage reads all of an image of any bytes.
func FuzzImage(f *testing.F) {
	for _, b := range vectors(f) {
		f.Add(b)
	}
	f.Fuzz(format.Fuzz)
}
