//go:build bench

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/internal/erofs"
	"github.com/lockport/lockport/internal/squashfs"
)

// TestBenchImages compares our images with those of mksquashfs -comp zstd, at the
// same level and block size, and of mkfs.erofs, in time and size: of one program, of
// a large tree, and of many small files. IMAGE_TREE is another folder than Go's own,
// which has some 300 MiB, to stand for an installed system.
func TestBenchImages(t *testing.T) {
	large := os.Getenv("IMAGE_TREE")
	if large == "" {
		out, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			t.Fatal(err)
		}
		large = strings.TrimSpace(string(out))
	}
	var rows []Row
	for _, c := range []struct {
		name, dir string
		rounds    int
	}{
		{"one program", onlyGo(t), 5},
		{large, large, 3},
		{"30000 small files", manyFiles(t, 30_000), 5},
	} {
		rows = append(rows, imageRows(t, "squashfs of "+c.name, c.dir, c.rounds, writeSquashfs, "mksquashfs", c.dir, theirs, "-comp", "zstd", "-noappend", "-no-progress", "-quiet")...)
		rows = append(rows, imageRows(t, "erofs of "+c.name, c.dir, c.rounds, writeErofs, "mkfs.erofs", "--quiet", theirs, c.dir)...)
	}
	t.Log("\n" + Table(rows))
}

// theirs stands for the name of the image in the command that makes it.
const theirs = "{image}"

func imageRows(t *testing.T, name, dir string, rounds int, write func(f *os.File, dir string) error, command ...string) []Row {
	t.Helper()
	out := t.TempDir()
	their, our := filepath.Join(out, "theirs"), filepath.Join(out, "ours")
	command[slices.Index(command, theirs)] = their
	wall := Compare(name, "≤ 1.0", rounds, timed(t, command...), func() time.Duration {
		return Timed(func() {
			f, err := os.Create(our)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(write(f, dir), f.Close()); err != nil {
				t.Fatal(err)
			}
		})
	})
	size := Row{Work: "its size", Unit: "MB", Theirs: megabytes(t, their), Ours: megabytes(t, our), Aim: "≤ 1.02"}
	return []Row{wall, size}
}

func writeSquashfs(f *os.File, dir string) error {
	_, err := squashfs.Write(context.Background(), f, squashfs.DirTree(dir), squashfs.WriteOptions{})
	return err
}

func writeErofs(f *os.File, dir string) error {
	_, err := erofs.Write(context.Background(), f, squashfs.DirTree(dir), erofs.WriteOptions{})
	return err
}

func megabytes(t *testing.T, path string) float64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return float64(info.Size()) / 1e6
}

// onlyGo is what a portable service in Go is: one static program.
func onlyGo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile(binary)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "program"), b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func manyFiles(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		folder := filepath.Join(dir, fmt.Sprint(i/100))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		text := ""
		for k := range i % 40 {
			text += fmt.Sprintf("line %d of file %d, with %x\n", k, i, i*k*7919)
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
