package portable

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/image"
)

func TestPrefix(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"foobar_47.11.raw": "foobar", "/x/foo.raw": "foo", "foo": "foo", "foo.raw.raw": "foo.raw", "app.v/": "app.v", "/x/a-b.c_1_2": "a-b.c",
		"_1": "", ".raw": "", "a,b": "", "ä": "", "/": "", "foo+1": "",
	} {
		have, err := Prefix(ref)
		if want == "" && !errors.Is(err, ErrBadPrefix) || want != "" && (have != want || err != nil) {
			t.Errorf("%q: %q, %v", ref, have, err)
		}
	}
}

func TestMatchUnit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		unit, prefix string
		want         bool
	}{
		{"foo.service", "foo", true}, {"foo-bar.service", "foo", true}, {"foo@.service", "foo", true}, {"foo.service", "foo.service", true},
		{"foobar.service", "foo", false}, {"fo.service", "foo", false}, {"foo_1.service", "foo", false}, {"x-foo.service", "foo", false},
	} {
		if matchUnit(c.unit, []string{"zzz", c.prefix}) != c.want {
			t.Errorf("%s and %s: %v", c.unit, c.prefix, !c.want)
		}
		if !matchUnit(c.unit, nil) {
			t.Errorf("%s is not among all", c.unit)
		}
	}
}

func TestUnitType(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a.service": "service", "a@.socket": "socket", "a@b.timer": "timer", `a\x2d:_.path`: "path", "a.target": "target",
		"a.mount": "", "a": "", ".service": "", "@.service": "", "a b.service": "", "ä.service": "", "a/b.service": "",
	} {
		if have := unitType(name); have != want {
			t.Errorf("%s: %q", name, have)
		}
	}
}

func TestAllowPrefixes(t *testing.T) {
	t.Parallel()
	both := []Release{{"PORTABLE_PREFIXES": "a b"}, {"PORTABLE_PREFIXES": "c"}, {}}
	for _, c := range []struct {
		prefixes []string
		releases []Release
		ok       bool
	}{
		{[]string{"a", "c"}, both, true}, {[]string{"a", "d"}, both, false}, {[]string{"a-x"}, both, false},
		{[]string{"d"}, []Release{{}}, true}, {nil, both, true},
	} {
		if err := allowPrefixes(c.prefixes, c.releases...); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrPrefix) {
			t.Errorf("%v: %v", c.prefixes, err)
		}
	}
}

func TestMarker(t *testing.T) {
	t.Parallel()
	m := Marker{"/srv/a b:c\\d.raw", "/srv/ä"}
	want := `# Drop-in created for image '/srv/a b\x3ac\x5cd.raw:/srv/\xc3\xa4', do not edit.`
	if m.String() != want {
		t.Error(m.String())
	}
	have, ok := ParseMarker([]byte(want + "\n[Service]\n"))
	if diff := cmp.Diff(m, have); !ok || diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{
		"", "\n" + want, " " + want, markerBegin + markerEnd, markerBegin + "/a::/b" + markerEnd, markerBegin + "/a:" + markerEnd,
		markerBegin + `/a\` + markerEnd, markerBegin + `/a\x4` + markerEnd, markerBegin + `/a\xzz` + markerEnd, markerBegin + `/a\n1a` + markerEnd,
		markerBegin + "/a", "/a" + markerEnd, "# Drop-in created for image ', do not edit.",
	} {
		if m, ok := ParseMarker([]byte(text)); ok || m != nil {
			t.Errorf("%q: %v", text, m)
		}
	}
}

func FuzzMarker(f *testing.F) {
	f.Add([]byte(Marker{"/a", `/b:\`}.String()))
	f.Add([]byte("x\n" + imageCopy{"/a", `/b:\'`}.String()))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, c := range parseCopies(text) {
			if again := parseCopies([]byte("x\n" + c.String())); len(again) != 1 || again[0] != c {
				t.Errorf("%q became %q", c, again)
			}
		}
		m, ok := ParseMarker(text)
		if !ok {
			return
		}
		if again, ok := ParseMarker([]byte(m.String())); !ok || !cmp.Equal(m, again) {
			t.Errorf("%q became %q", m, again)
		}
	})
}

// Nothing in a path or a release file becomes a setting of its own, or is expanded.
func TestDropInQuotes(t *testing.T) {
	t.Parallel()
	m := &Metadata{
		Image:   image.Info{Path: "/srv/100% of it.raw", Type: image.Raw},
		Release: Release{"ID": "a b", "VERSION_ID": `"%n"`},
		Extensions: []Extension{{Image: image.Info{Path: "/srv/x:y.raw", Type: image.Raw},
			Release: Release{"SYSEXT_ID": "e", "CONFEXT_VERSION_ID": "2"}}},
	}
	want := `# Drop-in created for image '/srv/100% of it.raw:/srv/x\x3ay.raw', do not edit.

[Service]
RootImage=/srv/100%% of it.raw
Environment="PORTABLE=100%% of it.raw"
LogExtraFields="PORTABLE=100%% of it.raw"
Environment="PORTABLE_ROOT=100%% of it.raw"
LogExtraFields="PORTABLE_ROOT=100%% of it.raw"
LogExtraFields="PORTABLE_ROOT_NAME_AND_VERSION=a b_\"%%n\""

ExtensionImages="/srv/x\\:y.raw:x-systemd.relax-extension-release-check"
LogExtraFields=PORTABLE_EXTENSION=x:y.raw
LogExtraFields=PORTABLE_EXTENSION_NAME_AND_VERSION=e
LogExtraFields=PORTABLE_EXTENSION_NAME_AND_VERSION=2
`
	if diff := cmp.Diff(want, string(dropIn(m, Unit{Name: "a.service"}, true, nil))); diff != "" {
		t.Error(diff)
	}
}

// The profiles that come with us, and those of the host before them.
func TestProfiles(t *testing.T) {
	t.Parallel()
	h := openHost(t, tree(t, map[string]string{
		"etc/systemd/portable/profile/mine/socket.conf":      "",
		"usr/lib/systemd/portable/profile/mine/service.conf": "# mine\n",
		"etc/systemd/portable/profile/README":                "",
	}))
	names, err := h.Profiles()
	must(t, err)
	if diff := cmp.Diff([]string{"default", "mine", "nonetwork", "strict", "trusted"}, names); diff != "" {
		t.Error(diff)
	}
	p, err := h.findProfile("mine")
	must(t, err)
	if source, text, err := h.profileDropIn(p, "service"); source != "/usr/lib/systemd/portable/profile/mine/service.conf" || string(text) != "# mine\n" || err != nil {
		t.Error(source, text, err)
	}
	for _, name := range []string{"mines", "", ".", "..", "mine/..", "README"} {
		if _, err := h.findProfile(name); !errors.Is(err, ErrNoProfile) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A service does not go without a sandbox because its profile lacks a file.
func TestProfileWithoutService(t *testing.T) {
	t.Parallel()
	h := openHost(t, tree(t, map[string]string{
		"etc/systemd/portable/profile/mine/socket.conf":   "[Socket]\n",
		"etc/systemd/portable/profile/strict/socket.conf": "[Socket]\n",
	}))
	if _, _, err := h.profileDropIn(profile{name: "mine"}, "service"); !errors.Is(err, ErrNoProfile) {
		t.Error(err)
	}
	if source, text, err := h.profileDropIn(profile{name: "strict"}, "service"); err != nil || source != "" || len(text) == 0 {
		t.Error(source, err)
	}
}
