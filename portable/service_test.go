package portable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/image"
)

// fakeManager knows units and counts what it is asked.
type fakeManager struct {
	units []UnitState
	err   error
	asked []string
}

func (m *fakeManager) States(_ context.Context, units []string) ([]UnitState, error) {
	m.asked = append(m.asked, strings.Join(units, " "))
	var list []UnitState
	for _, s := range m.units {
		if slices.ContainsFunc(units, func(u string) bool { return isOf(s.Name, u) }) {
			list = append(list, s)
		}
	}
	return list, m.err
}
func (m *fakeManager) Running(context.Context) ([]string, error) {
	m.asked = append(m.asked, "running")
	var list []string
	for _, s := range m.units {
		if s.active() {
			list = append(list, s.Name)
		}
	}
	return list, m.err
}
func (m *fakeManager) Reload(context.Context) error { return m.err }
func (m *fakeManager) Enable(context.Context, []string, bool, Scope) ([]Change, error) {
	return nil, m.err
}
func (m *fakeManager) Run(context.Context, Action, []string, bool) error { return m.err }

var _ Manager = (*fakeManager)(nil)

func webRef(version string) []Ref { return []Ref{{Image: "/srv/web_" + version}} }

// The states of the original, and one question for all images.
func TestStatesOfImages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		units []UnitState
		want  State
	}{
		{nil, AttachedState},
		{[]UnitState{{Name: "web.service", File: "static"}, {Name: "web-old@.timer", File: "disabled"}}, AttachedState},
		{[]UnitState{{Name: "web.service", File: "linked"}, {Name: "web-old@.timer", File: "linked-runtime"}}, AttachedState},
		{[]UnitState{{Name: "web.service", File: "enabled"}}, Enabled},
		{[]UnitState{{Name: "web.service", File: "enabled-runtime"}}, Enabled},
		{[]UnitState{{Name: "web.service", File: "masked"}}, Enabled}, // as the original has it
		{[]UnitState{{Name: "web.service", File: "enabled", Active: "failed"}}, Enabled},
		{[]UnitState{{Name: "web.service", Active: "inactive", File: "static"}}, AttachedState},
		{[]UnitState{{Name: "web.service", File: "enabled", Active: "active"}}, Running},
		{[]UnitState{{Name: "web.service", File: "static", Active: "reloading"}}, Running},
		{[]UnitState{{Name: "web.service", File: "static", Active: "deactivating"}}, Running},
		{[]UnitState{{Name: "web-old@7.timer", Active: "activating"}}, Running},
	} {
		for _, s := range scopes {
			l := &Local{Root: services(t)}
			_, err := l.Attach(ctx(), webRef("1"), AttachOptions{Scope: s})
			must(t, err)
			m := &fakeManager{units: c.units}
			l.Manager = m
			want := c.want
			if s == Runtime {
				want += "-runtime"
			}
			if state, err := l.State(ctx(), webRef("1")[0]); state != want || err != nil {
				t.Errorf("%+v: %s, %v", c.units, state, err)
			}
			if state, err := l.State(ctx(), webRef("2")[0]); state != Detached || err != nil {
				t.Error(state, err)
			}
			if len(m.asked) != 1 {
				t.Errorf("asked %q", m.asked)
			}
			list, err := l.List(ctx())
			if err != nil || len(list) != 1 || list[0].State != want {
				t.Errorf("%+v, %v", list, err)
			}
			if diff := cmp.Diff([]string{"web-old@.timer web.service", "web-old@.timer web.service"}, m.asked); diff != "" {
				t.Error(diff)
			}
		}
	}
}

// Without anything attached nobody is asked, and without a manager it is known
// what is attached.
func TestListAsksLittle(t *testing.T) {
	t.Parallel()
	m := &fakeManager{}
	l := &Local{Root: services(t), Manager: m}
	if list, err := l.List(ctx()); len(list) != 0 || err != nil || m.asked != nil {
		t.Error(list, err, m.asked)
	}
	_, err := (&Local{Root: l.Root}).Attach(ctx(), webRef("1"), AttachOptions{Scope: Persistent})
	must(t, err)
	m.err = fmt.Errorf("x: %w", ErrNoManager)
	if list, err := l.List(ctx()); err != nil || list[0].State != AttachedState {
		t.Error(list, err)
	}
	m.err = errors.New("broken")
	if _, err := l.List(ctx()); !errors.Is(err, m.err) {
		t.Error(err)
	}
}

// Units that run are left alone unless forced, and nothing has changed then.
func TestActiveUnits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		prepare bool
		call    func(*Local, bool) error
		without int // questions with force
	}{
		{"attach", false, func(l *Local, force bool) error {
			_, err := l.Attach(ctx(), webRef("1"), AttachOptions{Scope: Persistent, Force: force})
			return err
		}, 0},
		{"detach", true, func(l *Local, force bool) error {
			_, err := l.Detach(ctx(), webRef("1"), DetachOptions{Scope: Persistent, Force: force})
			return err
		}, 0},
	} {
		for _, unit := range []string{"web.service", "web-old@9.timer"} {
			l := &Local{Root: services(t)}
			if c.prepare {
				_, err := l.Attach(ctx(), webRef("1"), AttachOptions{Scope: Persistent})
				must(t, err)
			}
			m := &fakeManager{units: []UnitState{{Name: unit, Active: "active"}, {Name: "other.service", Active: "active"}}}
			l.Manager = m
			before := look(t, l.Root)
			if err := c.call(l, false); !errors.Is(err, ErrUnitActive) || err.Error() != unit+": the unit is active" {
				t.Errorf("%s: %v", c.name, err)
			}
			same(t, before, look(t, l.Root))
			m.asked = nil
			if err := c.call(l, true); err != nil || len(m.asked) != 0 {
				t.Errorf("%s by force: %v, %q", c.name, err, m.asked)
			}
		}
	}
	// A manager that does not answer is no permission.
	l := &Local{Root: services(t), Manager: &fakeManager{err: fmt.Errorf("x: %w", ErrNoManager)}}
	if _, err := l.Attach(ctx(), webRef("1"), AttachOptions{Scope: Persistent}); !errors.Is(err, ErrNoManager) {
		t.Error(err)
	}
}

// Several images are one change: either all are attached, or none.
func TestSeveralImages(t *testing.T) {
	t.Parallel()
	var events []Event
	l := &Local{Root: services(t), Record: func(_ context.Context, e Event) { events = append(events, e) }}
	before := look(t, l.Root)
	for _, refs := range [][]Ref{{{Image: "/srv/web_1"}, {Image: "/srv/none"}}, {{Image: "/srv/web_1"}, {Image: "/srv/web_2"}}} {
		if _, err := l.Attach(ctx(), refs, AttachOptions{Scope: Persistent, Force: true}); err == nil {
			t.Error("attached", refs)
		}
	}
	same(t, before, look(t, l.Root))
	both := []Ref{{Image: "/srv/web_1"}, {Image: "/srv/db_1"}}
	o, err := l.Attach(ctx(), both, AttachOptions{Scope: Persistent})
	must(t, err)
	if diff := cmp.Diff([]string{"db.service", "web-old@.timer", "web.service"}, o.Units); diff != "" {
		t.Error(diff)
	}
	now := look(t, l.Root)
	if _, err := l.Detach(ctx(), []Ref{both[0], {Image: "/srv/web_2"}}, DetachOptions{Scope: Persistent}); !errors.Is(err, ErrNotAttached) {
		t.Error(err)
	}
	same(t, now, look(t, l.Root))
	if _, err = l.Reattach(ctx(), []Ref{{Image: "/srv/web_2"}, both[1]}, AttachOptions{Scope: Persistent}); err != nil {
		t.Error(err)
	}
	o, err = l.Detach(ctx(), []Ref{{Image: "/srv/web_2"}, both[1]}, DetachOptions{Scope: Persistent, DryRun: true})
	must(t, err)
	if len(o.Units) != 3 {
		t.Error(o.Units)
	}
	_, err = l.Detach(ctx(), []Ref{{Image: "/srv/web_2"}, both[1]}, DetachOptions{Scope: Persistent})
	must(t, err)
	after := look(t, l.Root)
	delete(after, "etc/portables")
	delete(after, "etc/systemd")
	same(t, before, after)
	var told []string
	for _, e := range events {
		told = append(told, e.ID[:4]+" "+e.Root)
	}
	if diff := cmp.Diff([]string{"187c /srv/web_1", "187c /srv/db_1", "187c /srv/web_2", "187c /srv/db_1", "76c5 /srv/db_1", "76c5 /srv/web_2"}, told); diff != "" {
		t.Error(diff)
	}
}

func TestEventFields(t *testing.T) {
	t.Parallel()
	want := [][2]string{
		{"MESSAGE", "Successfully attached '/srv/a.raw'"}, {"MESSAGE_ID", "187c62eb1e7f463bb530394f52cb090f"}, {"PRIORITY", "6"},
		{"SYSLOG_IDENTIFIER", "lockport"}, {"PORTABLE_ROOT", "a.raw"}, {"PORTABLE_EXTENSION", "b"}, {"PORTABLE_EXTENSION", "c"},
	}
	if diff := cmp.Diff(want, attached.event(Marker{"/srv/a.raw", "/srv/b", "/srv/c"}).Fields()); diff != "" {
		t.Error(diff)
	}
}

// Links that enable what is gone are told of, wherever they are, and others not.
func TestLinksLeft(t *testing.T) {
	t.Parallel()
	dir := services(t)
	link := func(p, target string) {
		p = filepath.Join(dir, p)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.Symlink(target, p))
	}
	l := &Local{Root: dir}
	_, err := l.Attach(ctx(), webRef("1"), AttachOptions{Scope: Persistent})
	must(t, err)
	link("etc/systemd/system.attached/multi-user.target.wants/web.service", "/etc/systemd/system.attached/web.service")
	link("etc/systemd/system.attached/multi-user.target.wants/other.service", "/etc/systemd/system/other.service")
	link("etc/systemd/system/timers.target.requires/web-old@1.timer", "/etc/systemd/system.attached/web-old@.timer")
	link("etc/systemd/system/www.service", "/etc/systemd/system.attached/web.service")
	link("etc/systemd/system/own.service", "/srv/else/web.service")
	link("run/systemd/system/w.service", "../../../etc/systemd/system.attached/web.service")
	o, err := l.Detach(ctx(), webRef("1"), DetachOptions{Scope: Persistent})
	must(t, err)
	want := []string{
		"/etc/systemd/system.attached/multi-user.target.wants/web.service",
		"/etc/systemd/system/timers.target.requires/web-old@1.timer", "/etc/systemd/system/www.service", "/run/systemd/system/w.service",
	}
	if diff := cmp.Diff(want, o.Links); diff != "" {
		t.Error(diff)
	}
}

// An image that is in use is not removed, by whatever name it is called.
func TestRemoveAttached(t *testing.T) {
	t.Parallel()
	l := &Local{Root: services(t)}
	_, err := l.Attach(ctx(), webRef("1"), AttachOptions{Scope: Persistent})
	must(t, err)
	before := look(t, l.Root)
	for _, ref := range []string{"web_1", "/srv/web_1", "/etc/portables/web_1"} {
		if _, err := l.Remove(ctx(), ref); !errors.Is(err, ErrAttached) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	same(t, before, look(t, l.Root))
	gone, err := l.Remove(ctx(), "/srv/web_2")
	if len(gone) != 1 || err != nil {
		t.Error(gone, err)
	}
	must(t, l.MarkReadOnly(ctx(), "/srv/db_1", false))
	if err := l.SetLimit(ctx(), "/srv/db_1", image.NoLimit); !errors.Is(err, image.ErrNoLimit) {
		t.Error(err)
	}
}

// An extension-release may say that its name does not matter.
func TestAnyReleaseName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value string
		fits  bool
	}{{"false", true}, {"0", true}, {"No", true}, {"true", false}, {"", false}, {"maybe", false}} {
		dir := services(t)
		p := filepath.Join(dir, "srv/ext/usr/lib/extension-release.d/extension-release.other")
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte("ID=x\nVERSION_ID=1\n"), 0o644))
		setAttribute(t, p, "user.extension-release.strict", c.value)
		_, err := (&Local{Root: dir}).Inspect(ctx(), Ref{Image: "/srv/web_1", Extensions: []string{"/srv/ext"}})
		if (err == nil) != c.fits || !c.fits && !errors.Is(err, ErrRelease) {
			t.Errorf("%q: %v", c.value, err)
		}
	}
}

func TestJobErrors(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]string{
		"failed": "starting a.service: it failed", "dependency": "starting a.service: a unit that it needs failed",
		"timeout": "starting a.service: it took too long", "canceled": "starting a.service: something else was asked for meanwhile",
		"assert": "starting a.service: the job ended as assert",
	} {
		if have := (&JobError{"starting", "a.service", result}).Error(); have != want {
			t.Error(have)
		}
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a.service": "a.service", "a@.service": "a@.service", "a@b.service": "a@.service", "a@b@c.d.service": "a@.service", "a@": "a@", "a.b@": "a.b@",
	} {
		if have := templateFor(name); have != want {
			t.Errorf("%s: %s", name, have)
		}
	}
	if have := Startable([]string{"a.service", "a@.service", "a@b.service"}); !slices.Equal(have, []string{"a.service", "a@b.service"}) {
		t.Error(have)
	}
	if have := Matching([]string{"a.service", "ab.service", "a-b.socket"}, []string{"a"}); !slices.Equal(have, []string{"a.service", "a-b.socket"}) {
		t.Error(have)
	}
	if have := Matching([]string{"a.service"}, []string{AllUnits}); len(have) != 1 {
		t.Error(have)
	}
}
