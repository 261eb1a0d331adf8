package build_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockport/lockport/build"
	"github.com/lockport/lockport/image"
)

// service is a small tree.
func service(t *testing.T, content []byte) *build.Tree {
	t.Helper()
	tree := build.New()
	for path, data := range map[string][]byte{"/usr/lib/os-release": []byte("ID=test\n"), "/usr/bin/program": content} {
		if err := tree.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree.SetTimes(time.Unix(1_000_000_000, 0))
	return tree
}

// An image of erofs is opened as it was built, and a hash tree verifies it.
func TestErofs(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("program "), 3000)
	for _, protection := range []build.Protection{build.Naked, build.Partitions, build.Beside} {
		t.Run(string(protection), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			o := build.Output{Format: build.Erofs, Protection: protection, Architecture: "x86-64", Label: "test_1"}
			r, err := build.Write(t.Context(), service(t, content), filepath.Join(dir, "test.raw"), o)
			if err != nil {
				t.Fatal(err)
			}
			img, err := image.Open(t.Context(), "/", r.Files[0])
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			if len(img.Layout.Parts) == 0 || img.Layout.Parts[0].FileSystem != "erofs" || (img.Layout.Verity == nil) != (r.RootHash == nil) {
				t.Errorf("%+v", img.Layout)
			}
			if err := img.Verify(t.Context()); (err != nil) != (protection == build.Naked) {
				t.Errorf("verified: %v", err)
			}
			if got, err := fs.ReadFile(img, "usr/bin/program"); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			again, err := build.Write(t.Context(), service(t, content), filepath.Join(dir, "again.raw"), o)
			if err != nil || !bytes.Equal(whole(t, r.Files[0]), whole(t, again.Files[0])) {
				t.Errorf("built again it has other bytes: %v", err)
			}
		})
	}
}

func whole(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Blocks of another size are refused before anything is written.
func TestErofsBlocks(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "test.raw")
	o := build.Output{Format: build.Erofs, Protection: build.Naked, BlockSize: 8192}
	if _, err := build.Write(t.Context(), service(t, nil), name, o); !errors.Is(err, build.ErrSpec) {
		t.Error(err)
	}
}
