package image

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/lockport/lockport/internal/gpt"
)

// Whatever a file holds, opening it and walking through it ends, within bounds.
func FuzzOpen(f *testing.F) {
	data := squash(f)
	list, _ := protected(f, data, gpt.Root, "")
	f.Add(data)
	f.Add(disk(f, part{kind: gpt.Root, data: data}, part{kind: gpt.Usr, data: data}))
	f.Add(disk(f, list...))
	f.Add([]byte("hsqs"))
	f.Fuzz(func(t *testing.T, img []byte) {
		root := t.TempDir()
		if err := os.WriteFile(filepath.Join(root, "a.raw"), img, 0o600); err != nil {
			t.Fatal(err)
		}
		i, err := Open(context.Background(), root, "/a.raw")
		if err != nil {
			return
		}
		n := 0
		err = fs.WalkDir(i, ".", func(p string, d fs.DirEntry, err error) error {
			if n++; n > 1000 {
				return fs.SkipAll
			}
			if err == nil && d.Type().IsRegular() {
				if file, err := i.Open(p); err == nil {
					_, _ = io.CopyN(io.Discard, file, 1<<20)
					_ = file.Close()
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzPolicy(f *testing.F) {
	f.Add("root=verity+signed:usr=absent:=unused")
	f.Add("*")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParsePolicy(text); err == nil {
			_ = p.check(&Layout{}) // allowed or not, no panic
		}
	})
}
