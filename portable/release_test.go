package portable

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRelease(t *testing.T) {
	t.Parallel()
	have, err := ParseRelease([]byte("# comment\n; another\n\n  ID=debian  \nVERSION_ID=\"13\"\r\nNAME='Debian $1 GNU'\n" +
		"EMPTY=\nMIX=a\"b c\"'d'\\ e\nESC=\"\\\"\\$\\\\\\`\\n\"\nID=last\nURL=https://a.example/?b=c#d\nTAB=\"a\tb\"\nPRETTY_NAME=\"Köln\""))
	must(t, err)
	want := Release{"ID": "last", "VERSION_ID": "13", "NAME": "Debian $1 GNU", "EMPTY": "", "MIX": "ab cd e", "ESC": "\"$\\`\\n",
		"URL": "https://a.example/?b=c#d", "TAB": "a\tb", "PRETTY_NAME": "Köln"}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func TestDamagedRelease(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"ID", "=x", "1ID=x", "I D=x", "export ID=x", "ID =x", "ID= x", "ID=a b", "ID=\"x", "ID='x", "ID=x\\", "ID=$x", "ID=`x`", "ID=\"$x\"",
		"ID=x;y", "ID=a&b", "ID=(x)", "ID=\x00", "ID=\x1b[1m", "ID=\xff", "ID=a\u0085b", strings.Repeat("#\n", maxRelease),
	} {
		if r, err := ParseRelease([]byte(text)); err == nil || r != nil {
			t.Errorf("%.20q is taken as %v", text, r)
		}
	}
}

func TestExtensionMatches(t *testing.T) {
	t.Parallel()
	levels := Release{"ID": "d", "VERSION_ID": "13", "SYSEXT_LEVEL": "1"}
	version := Release{"ID": "d", "VERSION_ID": "13"}
	for _, c := range []struct {
		host, ext Release
		ok        bool
	}{
		{version, Release{}, false},
		{version, Release{"ID": "_any"}, true},
		{version, Release{"ID": "_any", "SYSEXT_SCOPE": "system"}, false},
		{version, Release{"ID": "_any", "SYSEXT_SCOPE": "initrd portable"}, true},
		{version, Release{"ID": "_any", "ARCHITECTURE": "arm64"}, false},
		{version, Release{"ID": "_any", "ARCHITECTURE": "x86-64"}, true},
		{version, Release{"ID": "_any", "ARCHITECTURE": "_any"}, true},
		{version, Release{"ID": "e", "VERSION_ID": "13"}, false},
		{version, Release{"VERSION_ID": "13"}, false},
		{version, Release{"ID": "d"}, false},
		{version, Release{"ID": "d", "VERSION_ID": "13"}, true},
		{version, Release{"ID": "d", "VERSION_ID": "12"}, false},
		{version, Release{"ID": "d", "SYSEXT_LEVEL": "1"}, false},
		{levels, Release{"ID": "d", "VERSION_ID": "12", "SYSEXT_LEVEL": "1"}, true},
		{levels, Release{"ID": "d", "VERSION_ID": "13", "SYSEXT_LEVEL": "2"}, false},
		{levels, Release{"ID": "d", "VERSION_ID": "13"}, true},
		{Release{"ID": "d"}, Release{"ID": "d", "VERSION_ID": "1"}, true},
	} {
		err := c.host.matches(c.ext, "x86-64")
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMismatch) {
			t.Errorf("%v on %v: %v", c.ext, c.host, err)
		}
	}
}

// The name of an extension-release is that of the image, with or without version.
func TestExtensionReleaseName(t *testing.T) {
	t.Parallel()
	const dir = "srv/e_1/usr/lib/extension-release.d/extension-release."
	for _, c := range []struct {
		name    string
		files   []string
		relaxed bool
		ok      bool
	}{
		{"exact", []string{dir + "e_1"}, false, true},
		{"no version", []string{dir + "e"}, false, true},
		{"both", []string{dir + "e", dir + "e_1"}, false, true},
		{"other", []string{dir + "f"}, false, false},
		{"other, relaxed", []string{dir + "f"}, true, true},
		{"two, relaxed", []string{dir + "f", dir + "g"}, true, false},
		{"confext", []string{"srv/e_1/etc/extension-release.d/extension-release.e_1"}, false, true},
		{"none", []string{"srv/e_1/x"}, true, false},
		{"an OS", []string{dir + "e_1", "srv/e_1/usr/lib/os-release"}, false, false},
	} {
		list := map[string]string{"srv/base/usr/lib/os-release": "ID=x\n"}
		for _, f := range c.files {
			list[f] = "ID=x\n"
		}
		h := openHost(t, tree(t, list))
		_, err := h.Inspect(ctx(), Ref{Image: "/srv/base", Extensions: []string{"/srv/e_1"}, Relaxed: c.relaxed})
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrRelease) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func FuzzOSRelease(f *testing.F) {
	f.Add([]byte("ID=debian\nNAME=\"a\\\"b\" 'c'\n"))
	f.Add([]byte("# x\nA='b'\\ c\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRelease(text)
		if err != nil {
			return
		}
		// What was read, written again in the plainest way, is the same.
		var b strings.Builder
		for k, v := range r {
			b.WriteString(k + "='" + strings.ReplaceAll(v, "'", `'\''`) + "'\n")
		}
		again, err := ParseRelease([]byte(b.String()))
		if b.Len() <= maxRelease && (err != nil || !cmp.Equal(r, again)) {
			t.Errorf("%q became %v: %v", text, again, err)
		}
	})
}
