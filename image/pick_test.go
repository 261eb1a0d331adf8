package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPick(t *testing.T) {
	t.Parallel()
	arch := native()
	for name, c := range map[string]struct {
		entries []string // a trailing slash makes a directory
		path    string
		want    string // the entry; "" for none
	}{
		"newest":            {[]string{"a_1.raw", "a_10.raw", "a_9.raw"}, "/d/a.raw.v", "a_10.raw"},
		"of this name":      {[]string{"a_1.raw", "b_2.raw", "ab_3.raw", "a.raw", "a_.raw"}, "/d/a.raw.v", "a_1.raw"},
		"files":             {[]string{"a_1.raw", "a_2.raw/", "a_3"}, "/d/a.raw.v", "a_1.raw"},
		"directories":       {[]string{"a_1/", "a_2", "a_3.raw"}, "/d/a.v", "a_1"},
		"pattern":           {[]string{"a_1.raw", "b_7.raw"}, "/d/x.v/b___.raw", "b_7.raw"},
		"pattern, dir":      {[]string{"b_1/", "b_7.raw"}, "/d/x.v/b___", "b_1"},
		"native":            {[]string{"a_1_" + arch + ".raw", "a_1.raw", "a_2_riscv32.raw"}, "/d/a.raw.v", "a_1_" + arch + ".raw"},
		"newer first":       {[]string{"a_1_" + arch + ".raw", "a_2.raw"}, "/d/a.raw.v", "a_2.raw"},
		"tries left":        {[]string{"a_2+0-3.raw", "a_1+1-2.raw"}, "/d/a.raw.v", "a_1+1-2.raw"},
		"more tries left":   {[]string{"a_2+1-2.raw", "a_2+2-1.raw"}, "/d/a.raw.v", "a_2+2-1.raw"},
		"no tries counted":  {[]string{"a_2+3.raw", "a_2.raw"}, "/d/a.raw.v", "a_2.raw"},
		"no tries left":     {[]string{"a_1+0-1.raw", "a_2+0-9.raw"}, "/d/a.raw.v", "a_2+0-9.raw"},
		"fewer done":        {[]string{"a_1+1-3.raw", "a_1+1-2.raw"}, "/d/a.raw.v", "a_1+1-2.raw"},
		"with architecture": {[]string{"a_1_" + arch + "+3-1.raw"}, "/d/a.raw.v", "a_1_" + arch + "+3-1.raw"},
		"bad counters":      {[]string{"a_1+x.raw", "a_2+1-.raw", "a_3+99999999999.raw", "a_4++1.raw"}, "/d/a.raw.v", "a_4++1.raw"},
		"bad versions":      {[]string{"a_1 2.raw", "a_é.raw"}, "/d/a.raw.v", ""},
		"nothing":           {nil, "/d/a.raw.v", ""},
	} {
		root := t.TempDir()
		f, ok := parsePick(c.path)
		if !ok {
			t.Errorf("%s: %s says nothing of versions", name, c.path)
			continue
		}
		must(t, os.MkdirAll(filepath.Join(root, f.dir), 0o755))
		for _, e := range c.entries {
			p := filepath.Join(root, f.dir, e)
			if e[len(e)-1] == '/' {
				must(t, os.Mkdir(p, 0o755))
			} else {
				write(t, p, "")
			}
		}
		have, err := f.pick(open(t, root))
		switch {
		case c.want == "" && !errors.Is(err, ErrNotFound):
			t.Errorf("%s: %q, %v", name, have, err)
		case c.want != "" && (err != nil || have != f.dir+"/"+c.want):
			t.Errorf("%s: %q, %v", name, have, err)
		}
	}
	for _, p := range []string{"/a", "/a.raw", "/.v", "/a.v/b", "/a.v/___.raw", "/a.v/b___.img", "/a/b___.raw", "/.raw.v"} {
		if f, ok := parsePick(p); ok {
			t.Errorf("%s: %+v", p, f)
		}
	}
}

// A directory of versions is found by its name, and is the best of what is in it.
func TestFindNewest(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, p := range []string{"etc/portables/a.raw.v/a_1.raw", "etc/portables/a.raw.v/a_2.raw", "etc/portables/b.v/b_3/usr/x", "etc/portables/c.v/x"} {
		write(t, filepath.Join(root, p), "")
	}
	ctx := context.Background()
	list, err := List(ctx, root)
	must(t, err)
	var have []string
	for _, i := range list {
		have = append(have, i.Name+" "+string(i.Type)+" "+i.Path)
	}
	want := []string{"a raw /etc/portables/a.raw.v/a_2.raw", "b directory /etc/portables/b.v/b_3"}
	if len(have) != 2 || have[0] != want[0] || have[1] != want[1] {
		t.Error(have)
	}
	for ref, want := range map[string]string{
		"a": "/etc/portables/a.raw.v/a_2.raw", "b": "/etc/portables/b.v/b_3", "a.raw.v": "/etc/portables/a.raw.v/a_2.raw",
		"/etc/portables/a.raw.v": "/etc/portables/a.raw.v/a_2.raw", "/etc/portables/a.raw.v/a___.raw": "/etc/portables/a.raw.v/a_2.raw",
		"/etc/portables/a.raw.v/a_1.raw": "/etc/portables/a.raw.v/a_1.raw",
	} {
		if i, err := Find(ctx, root, ref); err != nil || i.Path != want {
			t.Errorf("%s: %s, %v", ref, i.Path, err)
		}
	}
	for _, ref := range []string{"c", "/etc/portables/c.v", "/etc/portables/none.v"} {
		if i, err := Find(ctx, root, ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %s, %v", ref, i.Path, err)
		}
	}
}
