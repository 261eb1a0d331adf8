package erofs_test

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

// recipes are the arguments of mkfs.erofs for the images in testdata.
var recipes = map[string]string{
	"inline":     "",
	"extended":   "-Eforce-inode-extended",
	"shared":     "-x1",
	"plain":      "-Enoinline_data -Eforce-inode-compact",
	"chunks":     "--chunksize=4096",
	"indexes":    "--chunksize=8192 -Eforce-chunk-indexes",
	"compressed": "-zlz4",
	"legacy":     "-zlz4 -Elegacy-compress",
}

// TestMakeVectors is the recipe of testdata/*.gz, as root and by mkfs.erofs
// 1.5: go test ./internal/erofs -run TestMakeVectors -update
func TestMakeVectors(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	src := t.TempDir()
	imagefstest.Source(t, src)
	at := func(name string) string { return filepath.Join(src, name) }
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, os.Chmod(at("null"), 0o666))
	must(t, unix.Mknod(at("fifo"), unix.S_IFIFO|0o644, 0))
	must(t, os.Chown(at("fifo"), 7, 8))
	must(t, unix.Lsetxattr(at("dir"), "user.dir", []byte("a directory's"), 0))
	must(t, unix.Lsetxattr(at("dir/file"), "user.file", []byte("a file's"), 0))
	for _, name := range []string{"text", "empty", "dir/deep"} {
		must(t, unix.Lsetxattr(at(name), "security.shared", []byte("shared by several"), 0))
	}
	for name, args := range recipes {
		makeImage(t, name, src, args)
	}
	// A directory of several blocks.
	must(t, os.Mkdir(at("names"), 0o755))
	for i := range 300 {
		must(t, os.WriteFile(at(fmt.Sprint("names/", i, strings.Repeat("-", i%2*40))), nil, 0o644))
	}
	makeImage(t, "names", at("names"), "-T1000000000")
}

func makeImage(t *testing.T, name, src, args string) {
	t.Helper()
	image := filepath.Join(t.TempDir(), name)
	list := append(strings.Fields(args), "--quiet", "-T1000000000", "-U00000000-0000-0000-0000-000000000000", image, src)
	if out, err := exec.Command("mkfs.erofs", list...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs %s: %v\n%s", list, err, out)
	}
	imagefstest.Save(t, name, image)
}
