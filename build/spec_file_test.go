package build

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const everyKey = `# all there is
[Image]
Name=web
Version=3
PrettyName=Pages for all
Prefixes=web web-talk
Prefixes=more
Release=HOME_URL=https://example.org/?a=b
Release=ID=x

[Content]
Go=cmd/web
Go=/src/tool:/usr/bin/other
Program=bin/a
Program=c:d:/opt/a
File=pages:/usr/share/pages
Unit=web.service /abs/web.socket
Unit=web.timer
Directory=/srv
Directory=opt/x
Link=/usr/bin/w:web

[Content]
FromTree=tree
FromOCI=/oci

[Output]
File=out/web.raw
Format=squashfs
Compress=xz
Level=1
BlockSize=4096
Verity=partitions
SignKey=key.pem
SignCertificate=\
  /etc/vendor.crt
`

func TestEveryKey(t *testing.T) {
	t.Parallel()
	got, err := ParseRecipe([]byte(everyKey), "/dir")
	if err != nil {
		t.Fatal(err)
	}
	want := &Recipe{
		Spec: Spec{
			Name: "web", Version: "3", Pretty: "Pages for all", Prefixes: []string{"web", "web-talk", "more"},
			Release:  []Field{{"HOME_URL", "https://example.org/?a=b"}, {"ID", "x"}},
			Programs: []File{{"/dir/bin/a", ""}, {"/dir/c:d", "/opt/a"}},
			Units:    []string{"/dir/web.service", "/abs/web.socket", "/dir/web.timer"},
			Files:    []File{{"/dir/pages", "/usr/share/pages"}},
			Dirs:     []string{"/srv", "opt/x"},
			Links:    []Link{{"/usr/bin/w", "web"}},
		},
		Go:       []File{{"/dir/cmd/web", ""}, {"/src/tool", "/usr/bin/other"}},
		FromTree: "/dir/tree", FromOCI: "/oci", Format: "squashfs", Compressor: "xz", Level: 1, BlockSize: 4096,
		Verity: "partitions", KeyFile: "/dir/key.pem", Certificate: "/etc/vendor.crt", File: "/dir/out/web.raw",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for key := range (specParser{&Recipe{}, "/", nil}).setters() {
		section, name, _ := strings.Cut(key, ".")
		if _, rest, _ := strings.Cut(everyKey, "["+section+"]"); !strings.Contains(rest, "\n"+name+"=") {
			t.Errorf("%s is not tried", key)
		}
	}
}

func TestSpecMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[Image]\nNme=x":                         "line 2: nothing is called Nme= in [Image]",
		"[Content]\n\nName=x":                    "line 3: nothing is called Name= in [Content]",
		"[Images]\nName=x":                       "line 1: there is no section [Images] here",
		"Name=x":                                 "line 1: it stands before the first section",
		"[Image]\nName":                          `line 2: "Name" is no assignment`,
		"[Image]\nName=":                         "line 2: Name= has no value",
		"[Image]\nName=a\nName=b":                `line 3: the specification: there is "a" already`,
		"[Image]\nRelease=x=y":                   `line 2: the specification: "x=y" is not KEY=VALUE`,
		"[Content]\nLink=/a":                     `line 2: the specification: "/a" is not PATH:TARGET`,
		"[Content]\nFromTree=a\nFromTree=b":      `line 3: the specification: there is "/dir/a" already`,
		"[Image]\nName=A":                        `line 2: the specification: "A" is no name of an image`,
		"[Image]\nVersion=1/2":                   `line 2: the specification: "1/2" is no version`,
		"[Output]\n\nFormat=ext9":                `line 3: the specification: "ext9" is no format`,
		"[Output]\nCompress=none":                `line 2: the specification: "none" is no compressor`,
		"[Output]\nVerity=here":                  `line 2: the specification: "here" is no place for a hash tree`,
		"[Output]\nLevel=high":                   `line 2: the specification: "high" is no number`,
		"[Output]\nLevel=-1":                     `line 2: the specification: "-1" is no number`,
		"[Output]\nBlockSize=3\nBlockSize=4":     "line 3: the specification: there is 3 already",
		"[Output]\nBlockSize=99999999999999":     `"99999999999999" is no number`,
		"[Output]\nFile=a\n# b\n\nFile=a\nFile=": `line 5: the specification: there is "/dir/a" already`,
	} {
		r, err := ParseRecipe([]byte(text), "/dir")
		if r != nil || !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestReadRecipe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, SpecName)
	if _, err := ReadRecipe(name); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	write(t, name, "[Image]\nName=a\n[Output]\nFile=b")
	if r, err := ReadRecipe(name); err != nil || r.File != filepath.Join(dir, "b") {
		t.Error(r, err)
	}
	write(t, name, "\n[Image]\nX=a\n")
	if _, err := ReadRecipe(name); err == nil || !strings.HasPrefix(err.Error(), name+": the specification: line 3: ") {
		t.Error(err)
	}
	for _, line := range []string{"Go=none", "Program=none:/usr/bin/x", "File=none:/x", "Unit=" + SpecName + " none"} {
		write(t, name, "[Content]\n#\n"+line)
		if _, err := ReadRecipe(name); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), name+": line 3: stat "+dir+"/none: ") {
			t.Error(err)
		}
	}
	// Not cut off silently.
	write(t, name, "[Image]\nName=a\n#"+strings.Repeat("x", maxSpec)+"\nName=b")
	if _, err := ReadRecipe(name); !errors.Is(err, ErrSpec) {
		t.Error(err)
	}
}

func FuzzParseRecipe(f *testing.F) {
	f.Add([]byte(everyKey))
	f.Add([]byte("[Output]\nLevel=0\nLevel=0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := ParseRecipe(text, "/d"); (r == nil) != (err != nil) {
			t.Error(r, err)
		}
	})
}

// Options add to what there can be several of, and replace what there is one of.
func TestWith(t *testing.T) {
	t.Parallel()
	base, err := ParseRecipe([]byte(everyKey), "/dir")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*base, base.With(Recipe{})); diff != "" {
		t.Error("nothing changes something: ", diff)
	}
	if diff := cmp.Diff(*base, (&Recipe{}).With(*base)); diff != "" {
		t.Error("something is lost: ", diff)
	}
	got := base.With(Recipe{Spec: Spec{Name: "n", Units: []string{"u"}}, Level: 7, Verity: "no"})
	if got.Name != "n" || got.Version != "3" || got.Level != 7 || got.Verity != "no" || got.BlockSize != 4096 || len(got.Units) != 4 || got.Units[3] != "u" {
		t.Errorf("%+v", got)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]File{
		"a":        {"a", ""},
		"a:/b":     {"a", "/b"},
		"a:b":      {"a:b", ""},
		"a:b:/c:d": {"a:b", "/c:d"},
		":/b":      {":/b", ""},
		"a:/b:/c":  {"a:/b", "/c"},
	} {
		if got := ParseFile(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	for _, text := range []string{"", "a", ":b", "a:"} {
		if l, err := ParseLink(text); !errors.Is(err, ErrSpec) {
			t.Errorf("%q: %q", text, l)
		}
	}
	for _, text := range []string{"", "A", "=b", "a=b", "A-B=c", "A\n=b"} {
		if l, err := ParseField(text); !errors.Is(err, ErrSpec) {
			t.Errorf("%q: %q", text, l)
		}
	}
	if f, err := ParseField("A_1="); err != nil || f != (Field{"A_1", ""}) {
		t.Error(f, err)
	}
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
