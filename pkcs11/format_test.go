package pkcs11

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
)

func TestURI(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"pkcs11:":               "pkcs11:",
		"PKCS11:token=a":        "pkcs11:token=a",
		"pkcs11:token=a%20b":    "pkcs11:token=a%20b",
		"pkcs11:token=a:b@c!~":  "pkcs11:token=a%3Ab%40c%21%7E",
		"pkcs11:id=%01%ab%2D01": "pkcs11:id=%01%AB%2D%30%31",
		"pkcs11:id=ab":          "pkcs11:id=%61%62",
		"pkcs11:token=t;serial=s;manufacturer=m;model=o;object=k;type=private;id=%01": "pkcs11:model=o;manufacturer=m;serial=s;token=t;id=%01;object=k;type=private",
		"pkcs11:slot-id=7;slot-description=d;library-version=1.2":                     "pkcs11:library-version=1.2;slot-description=d;slot-id=7",
		"pkcs11:token=a?pin-value=1234&module-name=x&vendor=1":                        "pkcs11:token=a",
		"pkcs11:token=a;pin-source=file:%2Fpin":                                       "pkcs11:token=a",
		"pkcs11:token=":                                                               "pkcs11:token=",
		"pkcs11:object-type=cert":                                                     "pkcs11:type=cert",
		"pkcs11:objecttype=public":                                                    "pkcs11:type=public",
		"pkcs11:type=secretkey":                                                       "pkcs11:type=secret-key",
		"pkcs11:token=%C3%A4%00%ff1":                                                  "pkcs11:token=%C3%A4%00%FF1",
	} {
		u, err := ParseURI(text)
		if err != nil || u.String() != want {
			t.Errorf("%s: %s, %v", text, u, err)
		}
		if u.HasPIN() != strings.Contains(text, "pin-value") {
			t.Errorf("%s: PIN: %v", text, u.HasPIN())
		}
	}
	for text, want := range map[string]string{
		"":                       "scheme",
		"http:token=a":           "scheme",
		"pkcs11":                 "scheme",
		"pkcs11:token":           "has no value",
		"pkcs11:token=a;":        "has no value",
		"pkcs11:token=a;;type=x": "has no value",
		"pkcs11:token=a%":        "in the middle of an escape",
		"pkcs11:token=a%1":       "in the middle of an escape",
		"pkcs11:token=a%zz":      `"%zz" is no escape`,
		"pkcs11:token=a%+1":      "is no escape",
		"pkcs11:token=a b":       `character ' '`,
		"pkcs11:token=a\"b":      "character",
		"pkcs11:token=ä":         "character",
		"pkcs11:token=a;token=b": "comes twice",
		"pkcs11:type=key":        `type "key" is unknown`,
		"pkcs11:colour=red":      `attribute "colour" is unknown`,
		"pkcs11:slot-id=x":       "is no number",
		"pkcs11:token=a?pin=%zz": "is no escape",
		"pkcs11:token=" + strings.Repeat("a", maxURI): "longer than",
	} {
		if _, err := ParseURI(text); !errors.Is(err, ErrURI) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.64s: %v", text, err)
		}
	}
}

func TestURIMatches(t *testing.T) {
	t.Parallel()
	s := slotInfo{description: "a slot", manufacturer: "slots"}
	tok := tokenInfo{label: "a b", manufacturer: "maker", model: "model", serial: "01"}
	m := moduleInfo{description: "lib", manufacturer: "libs", major: 1, minor: 2}
	for text, want := range map[string]bool{
		"pkcs11:": true, "pkcs11:token=a%20b": true, "pkcs11:token=a%20b%20%20": true, "pkcs11:token=a": false, "pkcs11:token=": false,
		"pkcs11:serial=01;model=model;manufacturer=maker": true, "pkcs11:serial=02": false, "pkcs11:model=x": false,
		"pkcs11:slot-id=5;slot-description=a%20slot;slot-manufacturer=slots": true, "pkcs11:slot-id=6": false, "pkcs11:slot-description=x": false,
		"pkcs11:library-description=lib;library-version=1.2;library-manufacturer=libs": true, "pkcs11:library-version=1.3": false,
		"pkcs11:object=x;id=%01;type=cert": true, // objects are another matter
	} {
		u := mustURI(t, text)
		if got := u.matches(5, s, tok) && u.matchesModule(m); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	good, _ := sampleToken(t, "v252")
	with := func(name string, value any) string {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		if m[name] = value; value == "absent" {
			delete(m, name)
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, c := range []struct {
		text, want  string
		unsupported bool
	}{
		{text: with("pkcs11-padding", "pkcs1")},
		{text: with("pkcs11-padding", "oaep-sha256")},
		{text: with("of-others", 1)},
		{text: with("pkcs11-padding", "raw"), want: `"pkcs11-padding": `, unsupported: true},
		{text: with("pkcs11-padding", nil), want: "is null"},
		{text: with("pkcs11-policy", "x"), want: `member "pkcs11-policy"`, unsupported: true},
		{text: with("pkcs11-uri", "absent"), want: `no member "pkcs11-uri"`},
		{text: with("pkcs11-uri", "pkcs11:colour=red"), want: "is unknown"},
		{text: with("pkcs11-uri", 7), want: "pkcs11-uri"},
		{text: with("pkcs11-key", "absent"), want: `no member "pkcs11-key"`},
		{text: with("pkcs11-key", "AAAA"), want: "too few"},
		{text: with("pkcs11-key", "!"), want: "illegal base64"},
		{text: with("pkcs11-key", strings.Repeat("A", 4096)), want: "too long"},
		{text: with("type", "systemd-fido2"), want: "is not systemd-pkcs11"},
		{text: with("type", "absent"), want: "is not systemd-pkcs11"},
		{text: "[]", want: "cannot unmarshal"},
		{text: with("x", strings.Repeat("A", maxToken)), want: "bytes of JSON"},
	} {
		tok, err := ParseToken(json.RawMessage(c.text))
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || tok != nil) ||
			errors.Is(err, luks2.ErrUnsupported) != c.unsupported {
			t.Errorf("%.80s: %v", c.text, err)
		}
	}
}

// What we write is what we read, and as systemd writes it.
func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"v252", "v257"} {
		text, _ := sampleToken(t, name)
		tok, err := ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		if tok.curve() != (name == "v257") {
			t.Errorf("%s: curve: %v", name, tok.curve())
		}
		again, err := tok.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if again, err = luks2.SetMember(again, "keyslots", []string{"2"}); err != nil {
			t.Fatal(err)
		}
		var a, b map[string]any
		if err := errors.Join(json.Unmarshal(text, &a), json.Unmarshal(again, &b)); err != nil {
			t.Fatal(err)
		}
		for _, m := range []string{"type", "pkcs11-uri", "pkcs11-key"} {
			if a[m] != b[m] {
				t.Errorf("%s: %v became %v", m, a[m], b[m])
			}
		}
		if len(a) != len(b) {
			t.Errorf("%s: %s", name, again)
		}
	}
}

// tree writes files below a folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	packaged   = "usr/share/p11-kit/modules/"
	configured = "etc/pkcs11/modules/"
	own        = "home/modules/"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		files map[string]string
		user  bool
		want  []string // name=path
		err   string
	}{
		{name: "nothing"},
		{name: "order", files: map[string]string{packaged + "b.module": "module: b.so", packaged + "a.module": "# a\n\n  module :  a.so \n",
			packaged + "c.module": "module: c.so\npriority: 5"}, want: []string{"c=c.so", "a=a.so", "b=b.so"}},
		{name: "the administrator's word", files: map[string]string{packaged + "a.module": "module: a.so\npriority: 9", configured + "a.module": "module: /x/a.so",
			packaged + "b.module": "module: b.so\npriority: 1"}, want: []string{"a=/x/a.so", "b=b.so"}},
		{name: "switched off", files: map[string]string{packaged + "a.module": "module: a.so", configured + "a.module": "enable-in:"}},
		{name: "for others", files: map[string]string{packaged + "a.module": "module: a.so\nenable-in: ssh, gpg", packaged + "b.module": "module: b.so\nenable-in: ssh, lockport",
			packaged + "c.module": "module: c.so\ndisable-in: lockport ssh", packaged + "d.module": "module: d.so\ndisable-in: ssh"}, want: []string{"b=b.so", "d=d.so"}},
		{name: "trust", files: map[string]string{packaged + "t.module": "module: t.so\ntrust-policy: yes"}},
		{name: "remote", files: map[string]string{packaged + "t.module": "remote: |ssh host p11-kit remote x.so"}},
		{name: "no such file name", files: map[string]string{packaged + "a.conf": "module: a.so", packaged + ".b.module": "module: b.so", packaged + "c d.module": "module: c.so"}},
		{name: "damaged", files: map[string]string{packaged + "a.module": "module: a.so", packaged + "b.module": "module b.so"}, want: []string{"a=a.so"},
			err: "b.module: line 1: not of the form name: value"},
		{name: "section", files: map[string]string{packaged + "b.module": "[a:b]"}, err: "line 1"},
		{name: "long", files: map[string]string{packaged + "b.module": strings.Repeat("#", maxConfig+1)}, err: "longer than"},
		{name: "a person's", user: true, files: map[string]string{own + "a.module": "module: mine.so", packaged + "a.module": "module: a.so", packaged + "b.module": "module: b.so"},
			want: []string{"a=mine.so", "b=b.so"}},
		{name: "a person's alone", user: true, files: map[string]string{"home/pkcs11.conf": "user-config: only", own + "a.module": "module: mine.so",
			packaged + "b.module": "module: b.so"}, want: []string{"a=mine.so"}},
		{name: "no person's", user: true, files: map[string]string{"etc/pkcs11/pkcs11.conf": "user-config: none", own + "a.module": "module: mine.so",
			packaged + "b.module": "module: b.so"}, want: []string{"b=b.so"}},
		{name: "root has none", files: map[string]string{own + "a.module": "module: mine.so"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := Config{Root: tree(t, c.files), Programs: []string{"lockport"}}
			if c.user {
				config.User = filepath.Join(config.Root, "home")
			}
			list, err := config.Modules()
			var got []string
			for _, m := range list {
				got = append(got, m.Name+"="+m.Path)
			}
			if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// A module is told what its configuration says; a pipe in its place is no trap.
func TestConfigReserved(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{packaged + "a.module": "module: a.so\nx-init-reserved: a=b"})
	list, err := (Config{Root: root}).Modules()
	if err != nil || len(list) != 1 || list[0].Reserved != "a=b" {
		t.Errorf("%+v, %v", list, err)
	}
}
