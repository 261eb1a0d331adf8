package build

import (
	"errors"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNewProject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list, err := NewProject(dir, "web-1")
	must(t, err)
	want := []string{"README.md", "go.mod", "main.go", "portable.conf", "web-1.service", "web-1.socket"}
	if got := files(t, dir+"/web-1"); !slices.Equal(got, want) || len(list) != len(want) || list[0] != dir+"/web-1/README.md" {
		t.Errorf("%q, %q", got, list)
	}
	for _, f := range list {
		text, err := os.ReadFile(f)
		if err != nil || strings.Contains(string(text), "{{") || !strings.Contains(string(text), "web-1") {
			t.Errorf("%s: %v\n%s", f, err, text)
		}
		if pretty, err := format.Source(text); filepath.Ext(f) == ".go" && (err != nil || string(pretty) != string(text)) {
			t.Errorf("%s is not gofmt'ed: %v", f, err)
		}
	}
	if r, err := ReadRecipe(dir + "/web-1/" + SpecName); err != nil || r.Label() != "web-1_1" {
		t.Error(r, err)
	}
	all, err := fs.Glob(template, "template/*")
	if err != nil || len(all) != len(projectFiles) {
		t.Errorf("%q, %v", all, err)
	}

	// What is there stays as it is, also an empty folder.
	must(t, os.Mkdir(dir+"/empty", 0o755))
	write(t, dir+"/file", "mine")
	for _, name := range []string{"web-1", "empty", "file"} {
		if _, err := NewProject(dir, name); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewProject(dir+"/none", "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "A", "1a", "-a", "a-", "a_1", "a.b", "ä", "a b", "a\n", strings.Repeat("a", 65)} {
		if _, err := NewProject(dir, name); !errors.Is(err, ErrSpec) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if got := files(t, dir); !slices.Equal(got, []string{"empty", "file", "web-1"}) {
		t.Errorf("%q", got)
	}
}
