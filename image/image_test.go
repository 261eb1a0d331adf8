package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, p, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(t, os.WriteFile(p, []byte(text), 0o644))
}

func open(t *testing.T, dir string) *Tree {
	t.Helper()
	tree, err := OpenTree(dir)
	must(t, err)
	t.Cleanup(func() { must(t, tree.Close()) })
	return tree
}

func TestNames(t *testing.T) {
	t.Parallel()
	for p, want := range map[string]string{
		"/a/foo_1.raw": "foo_1", "foo.sysext.raw": "foo", "/foo.confext.raw": "foo", "foo": "foo", "/a/foo.raw/": "foo.raw", ".raw": ".raw",
	} {
		if have := Name(p); have != want {
			t.Errorf("%s: %s", p, have)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", ".#a", "a\n", "\xff", strings.Repeat("a", 256)} {
		if ValidName(name) {
			t.Errorf("%q is a name", name)
		}
	}
	for name, want := range map[string]string{"a_1_2": "a", "a+1_2": "a", "a": "a", "_": ""} {
		if have := Unversioned(name); have != want {
			t.Errorf("%s: %s", name, have)
		}
	}
	for p, want := range map[string]bool{"/etc/portables/a": true, "/usr/lib/portables/a": true, "/etc/portables/a/b": false, "/srv/a": false} {
		if InSearchPath(p) != want {
			t.Errorf("%s: %v", p, !want)
		}
	}
}

// trees opens a directory in both ways there are.
func trees(t *testing.T, dir string) map[string]*Tree {
	t.Helper()
	root, err := os.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { must(t, root.Close()) })
	return map[string]*Tree{"as here": open(t, dir), "part by part": {stepwise{below{root}}, nil}}
}

// What a link says is meant from the top of the tree. The oracle is what a
// process sees that has the tree as its root.
func TestLinksStayInside(t *testing.T) {
	t.Parallel()
	outer := t.TempDir()
	write(t, filepath.Join(outer, "secret"), "outside")
	dir := filepath.Join(outer, "tree")
	write(t, filepath.Join(dir, "a/b/file"), "inside")
	write(t, filepath.Join(dir, "secret"), "inside")
	for name, target := range map[string]string{
		"abs": "/a/b/file", "up": "../../../../secret", "a/b/rel": "../b/file", "dir": "/a/b", "a/self": ".", "loop": "loop2", "loop2": "/loop",
		"out": "/../secret", "gone": "/nowhere", "through": "/secret/x", "chain": "dir/rel", "far": outer + "/secret",
	} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	for kind, tree := range trees(t, dir) {
		t.Run(kind, func(t *testing.T) { linksStayInside(t, tree) })
	}
}

func linksStayInside(t *testing.T, tree *Tree) {
	for name, want := range map[string]error{
		"abs": nil, "up": nil, "a/b/rel": nil, "dir/file": nil, "a/self/self/b/file": nil, "out": nil, "chain": nil, "dir/rel": nil,
		"loop": syscall.ELOOP, "gone": fs.ErrNotExist, "through": syscall.ENOTDIR, "far": fs.ErrNotExist, "../secret": fs.ErrInvalid, "/abs": fs.ErrInvalid,
	} {
		text, err := ReadFile(tree, name, 100)
		if !errors.Is(err, want) || want == nil && string(text) != "inside" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if at, err := tree.ResolveMissing("/dir/new/x"); at != "a/b/new/x" || err != nil {
		t.Error(at, err)
	}
	if at, err := tree.ResolveMissing("/new/../x"); err == nil {
		t.Error(at)
	}
}

// Someone exchanges a directory for a link that leads out, all the time.
func TestLinksStayInsideInARace(t *testing.T) {
	t.Parallel()
	outer := t.TempDir()
	write(t, filepath.Join(outer, "out/file"), "outside")
	dir := filepath.Join(outer, "tree")
	write(t, filepath.Join(dir, "real/file"), "inside")
	both := trees(t, dir)
	at, aside, link := filepath.Join(dir, "real"), filepath.Join(dir, "aside"), filepath.Join(dir, "link")
	done := make(chan error)
	go func() {
		for range 2000 {
			err := errors.Join(os.Symlink("../out", link), os.Rename(at, aside), os.Rename(link, at), os.Remove(at), os.Rename(aside, at))
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		for _, tree := range both {
			if text, err := ReadFile(tree, "real/file", 100); err == nil && string(text) != "inside" {
				t.Errorf("read %q", text)
			}
		}
		select {
		case err := <-done:
			must(t, err)
			return
		default:
		}
	}
}

func TestTreeIsAFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a/b"), "x")
	must(t, os.Symlink("a/b", filepath.Join(dir, "link")))
	for kind, tree := range trees(t, dir) {
		if err := fstest.TestFS(tree, "a", "a/b", "link"); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestReadFileIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "12345")
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
	tree := open(t, dir)
	for _, c := range []struct {
		name  string
		limit int64
		want  error
	}{{"file", 5, nil}, {"file", 4, ErrTooLarge}, {"pipe", 5, ErrNotRegular}, {".", 5, ErrNotRegular}} {
		if _, err := ReadFile(tree, c.name, c.limit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	ctx, root := context.Background(), t.TempDir()
	for _, p := range []string{"etc/portables/b.raw", "run/portables/a/x", "usr/lib/portables/a/x", "usr/lib/portables/c/x", "etc/portables/note", "srv/d/x"} {
		write(t, filepath.Join(root, p), "")
	}
	must(t, os.Symlink("/srv/d", filepath.Join(root, "etc/portables/d_1")))
	must(t, os.Symlink("/srv/none", filepath.Join(root, "etc/portables/none")))
	must(t, os.Chmod(filepath.Join(root, "etc/portables/b.raw"), 0o444))
	list, err := List(ctx, root)
	must(t, err)
	var have []string
	for _, i := range list {
		ro := map[bool]string{true: " ro"}[i.ReadOnly]
		have = append(have, i.Name+" "+string(i.Type)+" "+i.Path+ro)
	}
	want := []string{"a directory /run/portables/a", "b raw /etc/portables/b.raw ro", "c directory /usr/lib/portables/c ro", "d_1 directory /etc/portables/d_1"}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	for ref, want := range map[string]error{
		"a": nil, "b.raw": nil, "d_1": nil, "/srv/d": nil, "/etc/portables/d_1": nil, "none": ErrNotFound, "note": ErrNotFound, "/srv/x": ErrNotFound,
		"srv/d": ErrNotImage, "/etc/portables/note": ErrNotImage, "/srv/\n": ErrNotImage,
	} {
		if _, err := Find(ctx, root, ref); !errors.Is(err, want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if i, err := Find(ctx, root, "/etc/portables/d_1"); i.Path != "/srv/d" || err != nil {
		t.Error(i, err)
	}
}

// sparse is a file that has some bytes here and there.
func sparse(t *testing.T, p string, at map[int64]string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	f, err := os.Create(p)
	must(t, err)
	must(t, f.Truncate(1<<17))
	for offset, text := range at {
		_, err := f.WriteAt([]byte(text), offset)
		must(t, err)
	}
	must(t, f.Close())
}

func TestProbe(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	p := filepath.Join(root, "srv/a.raw")
	for _, c := range []struct {
		name string
		at   map[int64]string
		want error
		says string
	}{
		{"luks", map[int64]string{0: "LUKS\xba\xbe"}, ErrEncrypted, ""},
		{"btrfs", map[int64]string{65600: "_BHRfS_M"}, ErrUnsupported, "btrfs"},
		{"xfs", map[int64]string{0: "XFSB"}, ErrUnsupported, "xfs"},
		{"f2fs", map[int64]string{1024: "\x10\x20\xf5\xf2"}, ErrUnsupported, "f2fs"},
		{"two", map[int64]string{0: "hsqs", 1024: "\xe2\xe1\xf5\xe0"}, ErrNotImage, "squashfs as well as erofs"},
		{"with a table", map[int64]string{0: "hsqs", 510: "\x55\xaa", 512: "EFI PART"}, nil, "GPT"},
		{"a hash tree", map[int64]string{0: "verity\x00\x00"}, ErrUnsupported, "DM_verity_hash"},
		{"by chance", map[int64]string{1080: "\x53\xef"}, ErrNotImage, "recognised"},
		{"a table for two sizes", map[int64]string{512: "EFI PART", 4096: "EFI PART"}, ErrNotImage, "GPT"},
		{"nothing", nil, ErrNotImage, "recognised"},
	} {
		sparse(t, p, c.at)
		i, err := Open(context.Background(), root, "/srv/a.raw")
		if err == nil {
			must(t, i.Close())
			t.Errorf("%s: opened", c.name)
		} else if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	write(t, p, "hsq")
	if _, err := Open(context.Background(), root, "/srv/a.raw"); !errors.Is(err, ErrNotImage) {
		t.Error(err)
	}
}
