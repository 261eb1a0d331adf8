//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockport/lockport/internal/squashfs"
)

// TestBenchSquashfs compares our images with those of mksquashfs -comp zstd, at
// the same level and block size, in time and size. SQUASHFS_TREE is the folder
// that stands for an installed system.
func TestBenchSquashfs(t *testing.T) {
	large := os.Getenv("SQUASHFS_TREE")
	if large == "" {
		large = "/usr/lib/git-core"
	}
	var rows []Row
	for _, c := range []struct {
		name, dir string
		rounds    int
	}{
		{"one program", onlyGo(t), 3},
		{large, large, 1},
		{"30000 small files", manyFiles(t, 30_000), 3},
	} {
		rows = append(rows, squashfsRows(t, c.name, c.dir, c.rounds)...)
	}
	t.Log("\n" + Table(rows))
}

func squashfsRows(t *testing.T, name, dir string, rounds int) []Row {
	t.Helper()
	out := t.TempDir()
	theirs, ours := filepath.Join(out, "theirs"), filepath.Join(out, "ours")
	wall := Compare("squashfs of "+name, "≤ 1.0", rounds,
		timed(t, "mksquashfs", dir, theirs, "-comp", "zstd", "-noappend", "-no-progress", "-quiet"),
		func() time.Duration { return Timed(func() { writeSquashfs(t, dir, ours) }) })
	size := Row{Work: "its size", Unit: "MB", Theirs: megabytes(t, theirs), Ours: megabytes(t, ours), Aim: "≤ 1.02"}
	return []Row{wall, size}
}

func writeSquashfs(t *testing.T, dir, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := squashfs.Write(context.Background(), f, squashfs.DirTree(dir), squashfs.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
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
