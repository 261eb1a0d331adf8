package portable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree writes files below a new directory and returns it.
func tree(t *testing.T, list map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range list {
		p := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(text), 0o644))
	}
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// look describes all below a directory: mode and content of each path.
func look(t *testing.T, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch info.Mode().Type() {
		case 0:
			b, err := os.ReadFile(p)
			must(t, err)
			text += " " + string(b)
		case fs.ModeSymlink:
			to, err := os.Readlink(p)
			must(t, err)
			text += " " + to
		}
		seen[rel] = text
		return nil
	}))
	return seen
}

func same(t *testing.T, want, have map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("the tree is not what it should be:\n%s", diff)
	}
}

func openHost(t *testing.T, dir string) *Host {
	t.Helper()
	h, err := OpenHost(dir)
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	// The disk would take most of the time; TestDurable looks at what is asked of it.
	h.files = filesBelow(h.root, flush{func(*os.File) {}, noFlush, noFlush})
	return h
}

func noFlush(*os.File) error { return nil }

// What an attachment writes is brought to the disk, each file before its folder.
func TestDurable(t *testing.T) {
	t.Parallel()
	h := openHost(t, services(t))
	var flushed []string
	note := func(f *os.File) error {
		flushed = append(flushed, filepath.Base(f.Name()))
		return nil
	}
	h.files = filesBelow(h.root, flush{func(*os.File) {}, note, note})
	applied(mixed)(t, h)
	last := map[string]int{}
	for i, name := range flushed {
		last[name] = i + 1
	}
	for _, pair := range [][2]string{
		{".#web.service.lockport", "system.attached"}, {"20-portable.conf", "web.service.d"}, {".#web_1.lockport", "portables"},
		{".#lockport-portable.journal", "etc"},
	} {
		if file, folder := last[pair[0]], last[pair[1]]; file == 0 || folder < file {
			t.Errorf("%q: %d, %q: %d in %q", pair[0], file, pair[1], folder, flushed)
		}
	}
}

// Of thousands of files, not each is brought to the disk by itself, but all, and
// what keeps units in their sandbox before there are units.
func TestDurableTogether(t *testing.T) {
	t.Parallel()
	dir := services(t)
	for i := range many {
		name := filepath.Join(dir, "srv/web_1/usr/lib/systemd/system", fmt.Sprintf("web-%d.service", i))
		must(t, os.WriteFile(name, []byte("[Service]\nExecStart=/x\n"), 0o644))
	}
	h := openHost(t, dir)
	var flushed, units []int
	one := 0
	h.files = filesBelow(h.root, flush{func(*os.File) {}, func(*os.File) error { one++; return nil }, func(*os.File) error {
		found, err := filepath.Glob(filepath.Join(dir, "etc/systemd/system.attached/*.service"))
		must(t, err)
		drop, err := filepath.Glob(filepath.Join(dir, "etc/systemd/system.attached/*.service.d/20-portable.conf"))
		must(t, err)
		flushed, units = append(flushed, len(drop)), append(units, len(found))
		return nil
	}})
	p, err := h.PlanAttach(ctx(), []Ref{{Image: "/srv/web_1"}}, AttachOptions{Scope: Persistent})
	must(t, err)
	must(t, h.Apply(ctx(), p))
	if len(flushed) != 1 || flushed[0] != many+1 || units[0] != 0 || one > 5 {
		t.Errorf("drop-ins %v, units %v, files by themselves %d", flushed, units, one)
	}
}

// services is a host with two versions of an image outside the search path.
func services(t *testing.T) string {
	t.Helper()
	return tree(t, map[string]string{
		"etc/hostname": "host",
		"usr/lib/systemd/portable/profile/default/service.conf": "[Service]\n",
		"srv/web_1/usr/lib/os-release":                          "ID=x\nVERSION_ID=1\n",
		"srv/web_1/usr/lib/systemd/system/web.service":          "# 1\n",
		"srv/web_1/usr/lib/systemd/system/web-old@.timer":       "# 1\n",
		"srv/db_1/usr/lib/os-release":                           "ID=x\n",
		"srv/db_1/usr/lib/systemd/system/db.service":            "# db\n",
		"srv/web_2/usr/lib/os-release":                          "ID=x\nVERSION_ID=2\n",
		"srv/web_2/usr/lib/systemd/system/web.service":          "# 2\n",
		"srv/web_2/usr/lib/systemd/system/web-new.socket":       "# 2\n",
	})
}

func ctx() context.Context { return context.Background() }

// An operation is planned for, and applied to, a tree that prepare has made.
type operation struct {
	name     string
	prepare  func(*testing.T, *Host)
	plan     func(*Host) (*Plan, error)
	discards bool // an image
}

func attachPlan(version string, o AttachOptions) func(*Host) (*Plan, error) {
	return func(h *Host) (*Plan, error) { return h.PlanAttach(ctx(), []Ref{{Image: "/srv/web_" + version}}, o) }
}

func applied(plan func(*Host) (*Plan, error)) func(*testing.T, *Host) {
	return func(t *testing.T, h *Host) {
		t.Helper()
		p, err := plan(h)
		must(t, err)
		must(t, h.Apply(ctx(), p))
	}
}

var (
	first      = attachPlan("1", AttachOptions{Scope: Persistent})
	mixed      = attachPlan("1", AttachOptions{Scope: Persistent, Copy: CopyMixed})
	nothing    = func(*testing.T, *Host) {}
	operations = []operation{
		{name: "attach", prepare: nothing, plan: first},
		{name: "attach copies", prepare: nothing, plan: attachPlan("1", AttachOptions{Copy: CopyAll, Scope: Runtime})},
		{name: "attach by force", prepare: applied(first), plan: attachPlan("2", AttachOptions{Copy: CopySymlink, Scope: Persistent, Force: true})},
		{name: "detach", prepare: applied(first), plan: func(h *Host) (*Plan, error) {
			return h.PlanDetach(ctx(), []Ref{{Image: "/srv/web_1"}}, DetachOptions{Scope: Persistent})
		}},
		{name: "reattach", prepare: applied(first), plan: func(h *Host) (*Plan, error) {
			return h.PlanReattach(ctx(), []Ref{{Image: "/srv/web_2"}}, AttachOptions{Scope: Persistent})
		}},
		{name: "attach two mixed", prepare: nothing, plan: func(h *Host) (*Plan, error) {
			return h.PlanAttach(ctx(), []Ref{{Image: "/srv/web_1"}, {Image: "/srv/db_1"}}, AttachOptions{Scope: Persistent, Copy: CopyMixed})
		}},
		{name: "detach mixed", prepare: applied(mixed), discards: true, plan: func(h *Host) (*Plan, error) {
			return h.PlanDetach(ctx(), []Ref{{Image: "/srv/web_1"}}, DetachOptions{Scope: Persistent})
		}},
		{name: "reattach mixed, the same", prepare: applied(mixed), discards: true, plan: func(h *Host) (*Plan, error) {
			must := os.WriteFile(filepath.Join(h.dir, "srv/web_1/new"), nil, 0o644)
			p, err := h.PlanReattach(ctx(), []Ref{{Image: "/srv/web_1"}}, AttachOptions{Scope: Persistent, Copy: CopyMixed})
			return p, errors.Join(must, err)
		}},
		{name: "reattach mixed, the same, no more", prepare: applied(mixed), discards: true, plan: func(h *Host) (*Plan, error) {
			return h.PlanReattach(ctx(), []Ref{{Image: "/srv/web_1"}}, AttachOptions{Scope: Persistent})
		}},
		{name: "reattach mixed, what was linked", prepare: applied(first), discards: true, plan: func(h *Host) (*Plan, error) {
			return h.PlanReattach(ctx(), []Ref{{Image: "/srv/web_1"}}, AttachOptions{Scope: Persistent, Copy: CopyMixed})
		}},
		{name: "reattach mixed, another", prepare: applied(mixed), discards: true, plan: func(h *Host) (*Plan, error) {
			return h.PlanReattach(ctx(), []Ref{{Image: "/srv/web_2"}}, AttachOptions{Scope: Persistent, Copy: CopyMixed})
		}},
	}
)

// The tree is written down from what is known of systemd-portabled 257.
func TestAttachedTree(t *testing.T) {
	t.Parallel()
	dir := services(t)
	before := look(t, dir)
	h := openHost(t, dir)
	applied(first)(t, h)
	const at = "etc/systemd/system.attached"
	want := map[string]string{
		"etc/systemd": "drwxr-xr-x", at: "drwxr-xr-x", "etc/portables": "drwxr-xr-x",
		"etc/portables/web_1":  "Lrwxrwxrwx /srv/web_1",
		at + "/web.service":    "-rw-r--r-- # 1\n",
		at + "/web.service.d":  "drwxr-xr-x",
		at + "/web-old@.timer": "-rw-r--r-- # 1\n", at + "/web-old@.timer.d": "drwxr-xr-x",
		at + "/web.service.d/10-profile.conf": "Lrwxrwxrwx /usr/lib/systemd/portable/profile/default/service.conf",
		at + "/web.service.d/20-portable.conf": "-rw-r--r-- # Drop-in created for image '/srv/web_1', do not edit.\n\n" +
			"[Service]\nRootDirectory=/srv/web_1\nEnvironment=PORTABLE=web_1\nLogExtraFields=PORTABLE=web_1\n" +
			"LogExtraFields=PORTABLE_NAME_AND_VERSION=x_1\n",
		at + "/web-old@.timer.d/20-portable.conf": "-rw-r--r-- # Drop-in created for image '/srv/web_1', do not edit.\n",
	}
	for p, text := range before {
		want[p] = text
	}
	same(t, want, look(t, dir))
	applied(operations[3].plan)(t, h)
	after := look(t, dir)
	// As the original, detach leaves the directory of links, and those above.
	delete(after, "etc/portables")
	delete(after, "etc/systemd")
	same(t, before, after)
}

// A link of the image's name that leads elsewhere is not ours, nor is a file.
func TestDetachLeavesOthers(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"", "/srv/web_2"} {
		dir := services(t)
		h := openHost(t, dir)
		applied(first)(t, h)
		link := filepath.Join(dir, "etc/portables/web_1")
		must(t, os.Remove(link))
		if target != "" {
			must(t, os.Symlink(target, link))
		} else {
			must(t, os.WriteFile(link, []byte("a file"), 0o644))
		}
		want := look(t, dir)["etc/portables/web_1"]
		applied(operations[3].plan)(t, h)
		if have := look(t, dir)["etc/portables/web_1"]; have != want {
			t.Errorf("%q instead of %q", have, want)
		}
	}
}

// The original links images of the search path, too: that link goes. One that is
// how the image was found stays.
func TestDetachFromTheSearchPath(t *testing.T) {
	t.Parallel()
	dir := services(t)
	must(t, os.MkdirAll(filepath.Join(dir, "var/lib/portables"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "etc/portables"), 0o755))
	must(t, os.Rename(filepath.Join(dir, "srv/web_1"), filepath.Join(dir, "var/lib/portables/web_1")))
	before := look(t, dir)
	h := openHost(t, dir)
	applied(func(h *Host) (*Plan, error) {
		return h.PlanAttach(ctx(), []Ref{{Image: "web_1"}}, AttachOptions{Scope: Persistent})
	})(t, h)
	must(t, os.Symlink("/var/lib/portables/web_1", filepath.Join(dir, "etc/portables/web_1")))
	detach := applied(func(h *Host) (*Plan, error) {
		return h.PlanDetach(ctx(), []Ref{{Image: "/var/lib/portables/web_1"}}, DetachOptions{Scope: Persistent})
	})
	detach(t, h)
	after := look(t, dir)
	delete(after, "etc/systemd")
	same(t, before, after)

	const link = "etc/portables/web_2"
	must(t, os.Symlink("/srv/web_2", filepath.Join(dir, link)))
	applied(func(h *Host) (*Plan, error) {
		return h.PlanAttach(ctx(), []Ref{{Image: "web_2"}}, AttachOptions{Scope: Persistent})
	})(t, h)
	applied(func(h *Host) (*Plan, error) {
		return h.PlanDetach(ctx(), []Ref{{Image: "web_2"}}, DetachOptions{Scope: Persistent})
	})(t, h)
	if _, ok := look(t, dir)[link]; !ok {
		t.Error("the link by which the image was found is gone")
	}
}

// The tree may itself have absolute links, which lead to its own top.
func TestLinksInTheHost(t *testing.T) {
	t.Parallel()
	dir := services(t)
	must(t, os.MkdirAll(filepath.Join(dir, "real/systemd"), 0o755))
	must(t, os.Symlink("/real/systemd", filepath.Join(dir, "etc/systemd")))
	h := openHost(t, dir)
	applied(first)(t, h)
	if _, ok := look(t, dir)["real/systemd/system.attached/web.service"]; !ok {
		t.Error("the unit is not where the link leads")
	}
}

// Units that are links out of the image get what the image has there, if anything.
func TestUnitsStayInside(t *testing.T) {
	t.Parallel()
	dir := services(t)
	units := filepath.Join(dir, "srv/web_1/usr/lib/systemd/system")
	for name, target := range map[string]string{
		"web-a": "/etc/hostname", "web-b": "../../../../../../../etc/hostname", "web-c": "web-d.service", "web-d": "web-c.service.x",
		"web-e": "/dev/null", "web-f": "/usr/lib/systemd/system/web.service",
	} {
		must(t, os.Symlink(target, filepath.Join(units, name+".service")))
	}
	must(t, os.WriteFile(filepath.Join(units, "web-g.service"), nil, 0o644))
	h := openHost(t, dir)
	m, err := h.Inspect(ctx(), Ref{Image: "/srv/web_1"})
	must(t, err)
	var names []string
	for _, u := range m.Units {
		names = append(names, u.Name)
	}
	if diff := cmp.Diff([]string{"web-f.service", "web-old@.timer", "web.service"}, names); diff != "" {
		t.Error(diff)
	}
	must(t, os.WriteFile(filepath.Join(units, "web-h.service"), []byte("[Service]\x1b[2J"), 0o644))
	if _, err := h.Inspect(ctx(), Ref{Image: "/srv/web_1"}); err == nil {
		t.Error("control characters in a unit are taken")
	}
	must(t, os.Truncate(filepath.Join(units, "web-h.service"), maxUnit+1))
	if _, err := h.Inspect(ctx(), Ref{Image: "/srv/web_1"}); err == nil {
		t.Error("a unit of any size is taken")
	}
}

// What goes on to be used is not removed: neither the link by which an image is
// found, nor a copy, when it is attached anew by that name.
func TestUsedStays(t *testing.T) {
	t.Parallel()
	for _, mode := range []CopyMode{CopyAuto, CopyMixed} {
		h := openHost(t, services(t))
		apply := func(p *Plan, err error) {
			t.Helper()
			must(t, err)
			must(t, h.Apply(ctx(), p))
		}
		o := AttachOptions{Scope: Persistent, Copy: mode}
		apply(h.PlanAttach(ctx(), webRef("1"), o))
		by := []Ref{{Image: "web_1"}}
		apply(h.PlanReattach(ctx(), by, AttachOptions{Scope: Persistent}))
		if _, err := h.tree.Stat("etc/portables/web_1/usr/lib/os-release"); err != nil {
			t.Errorf("%q: %v", mode, err)
		}
		// A copy goes with what runs from it, a link of someone who names it stays.
		apply(h.PlanDetach(ctx(), by, DetachOptions{Scope: Persistent}))
		if s, err := h.lstat("/etc/portables/web_1"); err != nil || (s == nil) != (mode == CopyMixed) {
			t.Errorf("%q: %v, %v", mode, s, err)
		}
	}
}

// Nor is a link removed that something else was attached through, by its name.
func TestLinkOfOthersStays(t *testing.T) {
	t.Parallel()
	dir := services(t)
	release := filepath.Join(dir, "srv/ext/usr/lib/extension-release.d/extension-release.ext")
	must(t, os.MkdirAll(filepath.Dir(release), 0o755))
	must(t, os.WriteFile(release, []byte("ID=x\nVERSION_ID=1\n"), 0o644))
	h := openHost(t, dir)
	apply := func(p *Plan, err error) {
		t.Helper()
		must(t, err)
		must(t, h.Apply(ctx(), p))
	}
	o := AttachOptions{Scope: Persistent}
	apply(h.PlanAttach(ctx(), []Ref{{Image: "/srv/web_1", Prefixes: []string{"web.service"}}}, o))
	apply(h.PlanAttach(ctx(), []Ref{{Image: "web_1", Extensions: []string{"/srv/ext"}, Prefixes: []string{"web-old"}}}, o))
	apply(h.PlanDetach(ctx(), []Ref{{Image: "/srv/web_1"}}, DetachOptions{Scope: Persistent}))
	list, err := h.Attached(ctx(), Persistent)
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	if _, err := h.tree.Stat(list[0].Marker[0][1:]); err != nil {
		t.Errorf("%s: %v", list[0].Unit, err)
	}
}
