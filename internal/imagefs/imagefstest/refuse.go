package imagefstest

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/lockport/lockport/internal/imagefs"
)

// Refuse does something to a copy of an image that none may say, and expects an
// error with this text.
func (f Format) Refuse(t *testing.T, image []byte, name string, hurt func(b []byte), want error, text string) {
	t.Helper()
	b := bytes.Clone(image)
	hurt(b)
	if bytes.Equal(b, image) {
		t.Errorf("%s: nothing is done to the image", name)
	}
	fsys, err := f.Open(bytes.NewReader(b), int64(len(b)))
	if err == nil {
		err = ReadAll(t.Context(), fsys)
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, without %q", name, err, text)
	}
}

// Inode is the number of what is at a path of an image.
func (f Format) Inode(t testing.TB, b []byte, path string) uint64 {
	t.Helper()
	fsys, err := f.Open(bytes.NewReader(b), int64(len(b)))
	must(t, err)
	info, err := fsys.Lstat(path)
	must(t, err)
	return inodeOf(info)
}

func inodeOf(info fs.FileInfo) uint64 { return info.Sys().(*imagefs.Stat).Inode }
