package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pool is a tree with images of all kinds.
func pool(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"var/lib/portables/web.raw": "raw", "var/lib/portables/web.roothash": "h", "var/lib/portables/web.roothash.p7s": "s",
		"var/lib/portables/web.verity": "v", "var/lib/portables/web.nspawn": "n", "var/lib/portables/web-admin.raw": "other",
		"var/lib/portables/tree/usr/lib/os-release": "ID=x\n", "usr/lib/portables/vendor.raw": "raw",
		"srv/far/usr/lib/os-release": "ID=x\n", "run/systemd/x": "",
	} {
		p := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(text), 0o644))
	}
	must(t, os.Symlink("/srv/far", filepath.Join(dir, "var/lib/portables/far")))
	return dir
}

func files(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			list = append(list, strings.TrimPrefix(p, dir+"/"))
		}
		return err
	}))
	return strings.Join(list, " ")
}

func allow(Info) error { return nil }

func TestRemove(t *testing.T) {
	t.Parallel()
	dir := pool(t)
	gone, err := Remove(t.Context(), dir, "web", allow)
	must(t, err)
	const at = "/var/lib/portables/web"
	if diff := cmp.Diff([]string{at + ".raw", at + ".roothash", at + ".roothash.p7s", at + ".verity", at + ".nspawn"}, gone); diff != "" {
		t.Error(diff)
	}
	// Of a link, it is the link.
	for _, name := range []string{"tree", "far"} {
		if gone, err := Remove(t.Context(), dir, name, allow); len(gone) != 1 || err != nil {
			t.Error(gone, err)
		}
	}
	if have, want := files(t, dir), "run/systemd/x srv/far/usr/lib/os-release usr/lib/portables/vendor.raw var/lib/portables/web-admin.raw"; have != want {
		t.Error(have)
	}
}

// A name may be any bytes.
func TestRemoveAnyName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := filepath.Join(dir, "var/lib/portables/web")
	write(t, filepath.Join(at, "a\xff\n/\xfe/file"), "x")
	if _, err := Remove(t.Context(), dir, "web", allow); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRemoveRefused(t *testing.T) {
	t.Parallel()
	dir := pool(t)
	before := files(t, dir)
	refused := errors.New("no")
	for ref, want := range map[string]error{"vendor": ErrVendor, "none": ErrNotFound, "web": refused, "/srv/none": ErrNotFound} {
		if _, err := Remove(t.Context(), dir, ref, func(Info) error { return refused }); !errors.Is(err, want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if err := MarkReadOnly(t.Context(), dir, "vendor", true); !errors.Is(err, ErrVendor) {
		t.Error(err)
	}
	if err := SetLimit(t.Context(), dir, "web", 1<<20); !errors.Is(err, ErrNoLimit) {
		t.Error(err)
	}
	if err := SetPoolLimit(t.Context(), dir, 1<<20); !errors.Is(err, ErrNoLimit) {
		t.Error(err)
	}
	off, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Remove(off, dir, "web", allow); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if after := files(t, dir); after != before {
		t.Errorf("%s became %s", before, after)
	}
}

// While someone holds an image, nobody else may, by whatever name.
func TestLocks(t *testing.T) {
	t.Parallel()
	dir := pool(t)
	must(t, os.Symlink("web.raw", filepath.Join(dir, "var/lib/portables/alias.raw")))
	for _, held := range []string{"web", "alias"} {
		_, err := Remove(t.Context(), dir, held, func(Info) error {
			for _, other := range []string{"web", "alias"} {
				if err := MarkReadOnly(t.Context(), dir, other, true); !errors.Is(err, ErrBusy) {
					t.Errorf("%s while %s is held: %v", other, held, err)
				}
			}
			return errors.New("enough")
		})
		if err == nil || err.Error() != "enough" {
			t.Error(err)
		}
	}
	if have := files(t, dir); strings.Contains(have, ".lck") || strings.Contains(have, "inode-") {
		t.Error("a lock was left:", have)
	}
	must(t, MarkReadOnly(t.Context(), dir, "web", true))
}

func TestMarkReadOnly(t *testing.T) {
	t.Parallel()
	dir := pool(t)
	p := filepath.Join(dir, "var/lib/portables/web.raw")
	for _, on := range []bool{true, false, true} {
		must(t, MarkReadOnly(t.Context(), dir, "web", on))
		info, err := os.Stat(p)
		must(t, err)
		found, err := Find(t.Context(), dir, "web")
		must(t, err)
		if want := map[bool]fs.FileMode{true: 0o444, false: 0o644}[on]; info.Mode() != want || found.ReadOnly != on {
			t.Errorf("%v, and read-only is %v", info.Mode(), found.ReadOnly)
		}
	}
	err := MarkReadOnly(t.Context(), dir, "tree", true)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() { _ = MarkReadOnly(context.Background(), dir, "tree", false) })
	if found, err := Find(t.Context(), dir, "tree"); err != nil || !found.ReadOnly {
		t.Error(found, err)
	}
	if os.WriteFile(filepath.Join(dir, "var/lib/portables/tree/new"), nil, 0o644) == nil {
		t.Error("it can be written to")
	}
	_, err = Remove(t.Context(), dir, "tree", allow) // needs it to be writable
	must(t, err)
}

// btrfs, where this machine has it: subvolumes with flags, limits and a quick end.
func TestSubvolumes(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	for _, tool := range []string{"mkfs.btrfs", "btrfs", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	disk, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, 256<<20))
	tool := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return string(out)
	}
	tool("mkfs.btrfs", "-q", disk)
	if out, err := exec.Command("mount", "-o", "loop", disk, dir).CombinedOutput(); err != nil {
		t.Skipf("can't mount btrfs here: %s", out)
	}
	t.Cleanup(func() { tool("umount", dir) })
	must(t, os.MkdirAll(filepath.Join(dir, "var/lib"), 0o755))
	sub := func(p string) string {
		p = filepath.Join(dir, p)
		tool("btrfs", "subvolume", "create", p)
		return p
	}
	sub("var/lib/portables")
	p := sub("var/lib/portables/web")
	must(t, os.WriteFile(filepath.Join(p, "file"), []byte("x"), 0o644))

	must(t, MarkReadOnly(t.Context(), dir, "web", true))
	if os.WriteFile(filepath.Join(p, "new"), nil, 0o644) == nil {
		t.Error("it can be written to")
	}
	must(t, MarkReadOnly(t.Context(), dir, "web", false))
	must(t, SetLimit(t.Context(), dir, "web", 1<<20))
	must(t, SetPoolLimit(t.Context(), dir, 64<<20))
	groups := tool("btrfs", "qgroup", "show", "-r", "--raw", filepath.Join(dir, "var/lib/portables"))
	for _, want := range []uint64{1 << 20, 64 << 20} {
		if !strings.Contains(groups, fmt.Sprint(want)) {
			t.Errorf("no limit of %d in\n%s", want, groups)
		}
	}
	must(t, SetLimit(t.Context(), dir, "web", NoLimit))
	must(t, MarkReadOnly(t.Context(), dir, "web", true))
	_, err := Remove(t.Context(), dir, "web", allow)
	must(t, err)
	if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// What is mounted in an image is not part of it.
func TestRemoveStopsAtMounts(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	dir := pool(t)
	inner := filepath.Join(dir, "var/lib/portables/tree/usr/lib")
	if out, err := exec.Command("mount", "--bind", filepath.Join(dir, "srv"), inner).CombinedOutput(); err != nil {
		t.Skipf("can't mount here: %s", out)
	}
	t.Cleanup(func() { must(t, exec.Command("umount", inner).Run()) })
	before := files(t, dir)
	if _, err := Remove(t.Context(), dir, "tree", allow); !errors.Is(err, ErrMounted) {
		t.Error(err)
	}
	if after := files(t, dir); after != before {
		t.Errorf("%s became %s", before, after)
	}
}
