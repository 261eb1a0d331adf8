package portable

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The units run from the copy, and both the copy and the original find them.
func TestMixed(t *testing.T) {
	t.Parallel()
	dir := services(t)
	h := openHost(t, dir)
	before := look(t, dir)
	applied(mixed)(t, h)
	now := look(t, dir)
	conf := now["etc/systemd/system.attached/web.service.d/20-portable.conf"]
	for _, want := range []string{
		"# Drop-in created for image '/etc/portables/web_1', do not edit.\n# '/etc/portables/web_1' is a copy of '/srv/web_1', made by lockport.\n",
		"\nRootDirectory=/etc/portables/web_1\n",
	} {
		if !strings.Contains(conf, want) {
			t.Errorf("%q lacks %q", conf, want)
		}
	}
	if now["etc/portables/web_1/usr/lib/os-release"] != now["srv/web_1/usr/lib/os-release"] || now["etc/portables/web_1"] != now["srv/web_1"] {
		t.Error("the copy is another")
	}
	local := &Local{Root: dir}
	for ref, want := range map[string]State{"/srv/web_1": AttachedState, "web_1": AttachedState, "/etc/portables/web_1": AttachedState, "/srv/web_2": Detached} {
		if state, err := local.State(ctx(), Ref{Image: ref}); state != want || err != nil {
			t.Errorf("%s: %s, %v", ref, state, err)
		}
	}
	if _, err := mixed(h); !errors.Is(err, ErrUnitExists) {
		t.Error(err)
	}
	// What someone else has put there is neither replaced nor removed.
	if _, err := attachPlan("1", AttachOptions{Scope: Persistent, Copy: CopyMixed, Force: true})(h); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	applied(func(h *Host) (*Plan, error) {
		return h.PlanDetach(ctx(), []Ref{{Image: "/srv/web_1"}}, DetachOptions{Scope: Persistent})
	})(t, h)
	after := look(t, dir)
	delete(after, "etc/portables")
	delete(after, "etc/systemd")
	same(t, before, after)
}

// An image of the search path is not copied, and stays.
func TestMixedInPlace(t *testing.T) {
	t.Parallel()
	dir := services(t)
	must(t, os.MkdirAll(filepath.Join(dir, "etc/portables"), 0o755))
	must(t, os.Rename(filepath.Join(dir, "srv/web_1"), filepath.Join(dir, "etc/portables/web_1")))
	h := openHost(t, dir)
	for _, ref := range []string{"web_1", "/etc/portables/web_1"} {
		applied(func(h *Host) (*Plan, error) {
			return h.PlanAttach(ctx(), []Ref{{Image: ref}}, AttachOptions{Scope: Persistent, Copy: CopyMixed})
		})(t, h)
		applied(func(h *Host) (*Plan, error) {
			return h.PlanDetach(ctx(), []Ref{{Image: ref}}, DetachOptions{Scope: Persistent})
		})(t, h)
		if _, ok := look(t, dir)["etc/portables/web_1/usr/lib/os-release"]; !ok {
			t.Fatal("the image is gone")
		}
	}
}

// The companions of an image file come with it, and nothing else does.
func TestCompanions(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"srv/a.raw": "", "srv/a.roothash": "1", "srv/a.roothash.p7s": "2", "srv/a.verity": "3", "srv/a.conf": "4", "srv/ab.verity": "5"})
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "srv/a.usrhash")))
	h := openHost(t, dir)
	have, err := h.beside("/srv/a.raw")
	if want := "/srv/a.roothash /srv/a.roothash.p7s /srv/a.verity"; strings.Join(have, " ") != want || err != nil {
		t.Error(have, err)
	}
	if have, err := h.beside("/srv/a"); have != nil || err != nil {
		t.Error(have, err)
	}
}

// A copy is all that the original is.
func TestCopy(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"src/a": "text", "src/sub/b": "b"})
	at := func(p string) string { return filepath.Join(dir, p) }
	must(t, os.Link(at("src/a"), at("src/sub/again")))
	must(t, os.Symlink("/etc/../nowhere", at("src/link")))
	must(t, os.Chmod(at("src/sub/b"), 0o4751))
	must(t, os.Chmod(at("src/sub"), 0o1711))
	f, err := os.Create(at("src/sparse"))
	must(t, err)
	_, err = f.WriteAt([]byte("middle"), 8<<20)
	must(t, err)
	must(t, f.Truncate(16<<20))
	must(t, f.Close())
	root := os.Geteuid() == 0
	if root {
		must(t, os.Lchown(at("src/link"), 12, 34))
		must(t, os.Chown(at("src/a"), 12, 34))
	}
	labelled := syscall.Setxattr(at("src/a"), "user.x", []byte("y"), 0) == nil
	h := openHost(t, dir)
	must(t, h.files.copyImage(ctx(), "src", "dst"))
	want, have := map[string]string{}, map[string]string{}
	for p, text := range look(t, dir) {
		if rest, ok := strings.CutPrefix(p, "src"); ok {
			want[rest] = text
		} else if rest, ok := strings.CutPrefix(p, "dst"); ok {
			have[rest] = text
		}
	}
	same(t, want, have)
	stat := func(p string) *syscall.Stat_t {
		info, err := os.Lstat(at(p))
		must(t, err)
		return info.Sys().(*syscall.Stat_t)
	}
	for _, p := range []string{"a", "sub", "sub/b", "sparse", "link"} {
		s, d := stat("src/"+p), stat("dst/"+p)
		if s.Uid != d.Uid || s.Gid != d.Gid || p != "link" && s.Mtim != d.Mtim {
			t.Errorf("%s: %+v became %+v", p, s, d)
		}
	}
	if stat("dst/a").Ino != stat("dst/sub/again").Ino || stat("dst/a").Ino == stat("src/a").Ino {
		t.Error("hard links are not what they were")
	}
	if s := stat("dst/sparse"); s.Blocks*512 > 1<<20 {
		t.Errorf("holes take %d blocks", s.Blocks)
	}
	if value := make([]byte, 8); labelled {
		if n, err := syscall.Getxattr(at("dst/a"), "user.x", value); err != nil || string(value[:n]) != "y" {
			t.Error("no attribute:", err)
		}
	}
}

// What can't be copied, and a copy that is called off.
func TestCopyFails(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"src/a": "text"})
	must(t, syscall.Mkfifo(filepath.Join(dir, "src/pipe"), 0o600))
	h := openHost(t, dir)
	if err := h.files.copyImage(ctx(), "src", "dst"); err == nil || !strings.Contains(err.Error(), "/src/pipe: only files") {
		t.Error(err)
	}
	off, cancel := context.WithCancel(ctx())
	cancel()
	if err := h.files.copyImage(off, "src", "dst2"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	deep := "deep"
	for range maxDepth + 2 {
		deep += "/d"
	}
	must(t, h.root.top.MkdirAll(deep, 0o755))
	if err := h.files.copyImage(ctx(), "deep", "dst3"); err == nil || !strings.Contains(err.Error(), "in each other") {
		t.Error(err)
	}
}

// Whatever a path holds, what a drop-in says of a copy is read as it was meant, and
// what only looks like it is not.
func TestCopiesInDropIns(t *testing.T) {
	t.Parallel()
	list := []imageCopy{{"/etc/portables/a", "/srv/a"}, {"/etc/portables/ä'b", "/srv/x:y\\z\n"}, {"/etc/portables/' is a", "/srv/it's"}}
	text := Marker{"/etc/portables/a"}.String() + "\n"
	for _, c := range list {
		text += c.String() + "\n"
	}
	if have := parseCopies([]byte(text + "\n[Service]\n" + list[0].String())); !slices.Equal(have, list) {
		t.Errorf("%q", have)
	}
	for _, other := range []string{"", "x", "x\n", "x\n# 'a' is a copy of 'b'", "x\n# '' is a copy of '', made by lockport.", "x\n# 'a\\x' is a copy of 'b', made by lockport."} {
		if have := parseCopies([]byte(other)); have != nil {
			t.Errorf("%q: %q", other, have)
		}
	}
}
