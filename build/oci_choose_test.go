package build

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// named gives a descriptor a name, on a platform.
func named(d ociDescriptor, name string) ociDescriptor {
	if name != "" {
		d.Annotations = map[string]string{"org.opencontainers.image.ref.name": name}
	}
	return d
}

func on(d ociDescriptor, os, architecture, variant string) ociDescriptor {
	d.Platform = &ociPlatform{architecture, os, variant}
	return d
}

func (m images) nested(list ...ociDescriptor) ociDescriptor {
	return m.blob(ociIndexes[0], m.json(ociDocument{SchemaVersion: 2, Manifests: list}))
}

func TestOCIChoose(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		list func(m images, image func(name string, architecture string) ociDescriptor) []ociDescriptor
		pick string // after the path
		want string // the file in it, or what is in an error of ErrSpec
		fail bool
	}{
		"by its configuration": {list: func(_ images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{image("arm", "arm64"), image("amd", "amd64")}
		}, want: "amd"},
		"by its platform": {list: func(_ images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{on(image("a", "amd64"), "windows", "amd64", ""), on(image("b", "amd64"), "linux", "arm64", ""), on(image("c", "arm64"), "linux", "amd64", "")}
		}, want: "c"},
		"nested": {list: func(m images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{m.nested(m.nested(on(image("a", "arm64"), "linux", "arm64", "v8")), m.nested(on(image("b", "amd64"), "linux", "amd64", "")))}
		}, want: "b"},
		"first of one": {list: func(m images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{m.nested(on(image("a", "amd64"), "linux", "amd64", ""), on(image("b", "amd64"), "linux", "amd64", ""))}
		}, want: "a"},
		"for any processor": {list: func(m images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{m.nested(on(image("a", "amd64"), "linux", "amd64", "v3"), on(image("b", "amd64"), "linux", "amd64", "v1"))}
		}, want: "b"},
		"newer processor only": {list: func(m images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{on(image("a", "amd64"), "linux", "amd64", "v3")}
		}, want: "a"},
		"unknown kinds": {list: func(m images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{m.blob("application/xml", []byte("<x/>")), image("a", "amd64"), on(image("b", "amd64"), "unknown", "unknown", "")}
		}, want: "a"},
		"two names of one": {list: func(_ images, image func(string, string) ociDescriptor) []ociDescriptor {
			a := image("a", "amd64")
			return []ociDescriptor{named(a, "latest"), named(a, "1")}
		}, want: "a"},
		"named": {list: func(_ images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{named(image("a", "amd64"), "x/y:1"), named(image("b", "amd64"), "x/y:2")}
		}, pick: ":x/y:2", want: "b"},
		"named as containerd does": {list: func(_ images, image func(string, string) ociDescriptor) []ociDescriptor {
			b := named(image("b", "amd64"), "2")
			b.Annotations[ociNames[0]] = "docker.io/x/y:2"
			return []ociDescriptor{named(image("a", "amd64"), "1"), b}
		}, pick: ":docker.io/x/y:2", want: "b"},
		"several": {list: func(_ images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{named(image("a", "amd64"), "one"), named(image("b", "amd64"), "two"), image("c", "amd64")}
		}, want: `several images for linux/amd64, of which one has to be named: "one linux/amd64", "two linux/amd64", "linux/amd64"`, fail: true},
		"no such name": {list: func(_ images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{named(image("a", "amd64"), "one\x1b[m"), image("b", "amd64")}
		}, pick: ":other", want: `no image called "other" for linux/amd64, but "one\x1b[m", "one without a name"`, fail: true},
		"no such architecture": {list: func(_ images, image func(string, string) ociDescriptor) []ociDescriptor {
			return []ociDescriptor{image("a", "arm64"), image("b", "riscv64")}
		}, want: `no image for linux/amd64, but "linux/arm64", "linux/riscv64"`, fail: true},
		"none": {list: func(images, func(string, string) ociDescriptor) []ociDescriptor { return nil }, want: "nor any other", fail: true},
		"many others": {list: func(_ images, image func(string, string) ociDescriptor) []ociDescriptor {
			list := make([]ociDescriptor, 0, 30)
			for n := range 30 {
				list = append(list, image(fmt.Sprint(n), "arm64"))
			}
			return list
		}, want: "and 10 more", fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := images{}
			m.index(c.list(m, func(name, architecture string) ociDescriptor { return m.image(architecture, layer(t, name)) })...)
			tree := New()
			err := tree.ImportOCI(t.Context(), m.folder(t)+c.pick, t.TempDir(), "amd64")
			switch {
			case c.fail && (!errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, not %s", err, c.want)
			case !c.fail && err != nil:
				t.Error(err)
			case !c.fail && strings.Join(words(t, tree), " ") != c.want:
				t.Errorf("%v, not %s", words(t, tree), c.want)
			}
		})
	}
}

func TestOCIChooseDocker(t *testing.T) {
	t.Parallel()
	m := docker(layer(t, "a"))
	other := docker(layer(t, "b"))
	list := string(m["manifest.json"])
	for name, data := range other {
		if name != "manifest.json" {
			m["other/"+name] = data
		}
	}
	second := strings.NewReplacer("test:1", "test:2", `"Config":"`, `"Config":"other/`, "0/layer.tar", "other/0/layer.tar").Replace(string(other["manifest.json"]))
	m["manifest.json"] = []byte(strings.TrimSuffix(list, "]") + "," + strings.TrimPrefix(second, "["))
	path := file(t, m.tar(t))
	if got := words(t, load(t, path+":test:2")); len(got) != 1 || got[0] != "b" {
		t.Error(got)
	}
	for pick, want := range map[string]string{"": `"test:1 linux/amd64", "test:2 linux/amd64"`, ":test": `no image called "test"`} {
		err := New().ImportOCI(t.Context(), path+pick, t.TempDir(), "amd64")
		if !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", pick, err)
		}
	}
}

// Indexes that lead to each other, or to too many.
func TestOCINesting(t *testing.T) {
	t.Parallel()
	deep := func(m images) ociDescriptor {
		d := m.image("amd64", layer(t, "a"))
		for range maxNested + 1 {
			d = m.nested(d)
		}
		return d
	}
	wide := func(m images) ociDescriptor {
		d := m.image("amd64", layer(t, "a"))
		for range 6 { // of which the image is there a million times
			d = m.nested(d, d, d, d, d, d, d, d, d, d)
		}
		return d
	}
	for name, list := range map[string]func(images) ociDescriptor{"deep": deep, "wide": wide} {
		m := images{}
		m.index(list(m))
		if err := guarded(t, m.folder(t), defaultOCILimits()); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOCIMissing(t *testing.T) {
	t.Parallel()
	if err := New().ImportOCI(t.Context(), one(t)+"-not", t.TempDir(), "amd64"); err == nil || !strings.Contains(err.Error(), "-not: ") {
		t.Error(err)
	}
	if err := New().ImportOCI(t.Context(), one(t), "", "amd64"); !errors.Is(err, ErrSpec) {
		t.Error(err)
	}
}
