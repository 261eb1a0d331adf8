package imagefstest

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Images returns the images in testdata, of which there are at least so many, by
// name. They are compressed, as they are mostly zeros.
func Images(t testing.TB, least int) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.gz")
	must(t, err)
	if len(paths) < least {
		t.Fatalf("only %d images", len(paths))
	}
	all := map[string][]byte{}
	for _, path := range paths {
		f, err := os.Open(path)
		must(t, err)
		z, err := gzip.NewReader(f)
		must(t, err)
		all[strings.TrimSuffix(filepath.Base(path), ".gz")], err = io.ReadAll(z)
		must(t, err)
		must(t, f.Close())
	}
	return all
}

// Save puts an image into testdata.
func Save(t testing.TB, name, image string) {
	t.Helper()
	b, err := os.ReadFile(image)
	must(t, err)
	f, err := os.Create("testdata/" + name + ".gz")
	must(t, err)
	z := gzip.NewWriter(f)
	_, err = z.Write(b)
	must(t, err)
	must(t, z.Close())
	must(t, f.Close())
}
