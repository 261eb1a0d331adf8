package image

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func setAttribute(t *testing.T, p, name, value string) {
	t.Helper()
	if err := unix.Setxattr(p, name, []byte(value), 0); err != nil {
		t.Skip(err)
	}
}

func TestAttribute(t *testing.T) {
	t.Parallel()
	dir := pool(t)
	tree, err := OpenTree(dir)
	must(t, err)
	defer tree.Close()
	if _, ok, err := tree.Attribute("var/lib/portables/web.raw", "user.x"); ok || err != nil {
		t.Error(ok, err)
	}
	if _, _, err := tree.Attribute("none", "user.x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	setAttribute(t, filepath.Join(dir, "var/lib/portables/web.raw"), "user.x", "value")
	if value, ok, err := tree.Attribute("var/lib/portables/web.raw", "user.x"); string(value) != "value" || !ok || err != nil {
		t.Error(string(value), ok, err)
	}
}
