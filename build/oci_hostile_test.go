package build

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockport/lockport/internal/squashfs"
)

// guarded imports an image that is to be refused, and checks that nothing is
// anywhere but in the spool.
func guarded(t *testing.T, image string, l ociLimits) error {
	t.Helper()
	dir := t.TempDir()
	spool := filepath.Join(dir, "spool")
	if err := os.Mkdir(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	err := New().importOCI(t.Context(), image, spool, "amd64", l, nil)
	if err == nil {
		t.Fatal("not refused")
	}
	found, listErr := os.ReadDir(dir)
	if listErr != nil || len(found) != 1 {
		t.Errorf("%v is beside the spool, %v", found, listErr)
	}
	inside, listErr := os.ReadDir(spool)
	if listErr != nil {
		t.Error(listErr)
	}
	for _, f := range inside {
		if !strings.HasPrefix(f.Name(), "oci-") || !f.Type().IsRegular() {
			t.Errorf("%s is in the spool", f.Name())
		}
	}
	return err
}

func TestOCIHostileEntries(t *testing.T) {
	t.Parallel()
	reg := func(name string) *tar.Header { return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	for name, c := range map[string]struct {
		list []*tar.Header
		want error
	}{
		"up":                         {entries("../x=1"), ErrUnsafe},
		"up, absolute":               {entries("/../x=1"), ErrUnsafe},
		"up and down":                {entries("a/../b=1"), ErrUnsafe},
		"up at the end":              {entries("a/.."), ErrUnsafe},
		"up in a directory":          {entries("../../etc/"), ErrUnsafe},
		"up in a link's name":        {entries("../l->x"), ErrUnsafe},
		"up in a whiteout":           {entries("a/../../.wh.b"), ErrUnsafe},
		"whiteout of nothing":        {entries(".wh."), ErrUnsafe},
		"whiteout of itself":         {entries("a/.wh.."), ErrUnsafe},
		"whiteout of above":          {entries("a/.wh..."), ErrUnsafe},
		"whiteout as directory":      {entries(".wh.a/"), ErrUnsafe},
		"opaque as directory":        {entries(".wh..wh..opq/"), ErrUnsafe},
		"below a whiteout":           {entries(".wh.a/b"), ErrUnsafe},
		"below an opaque":            {entries(".wh..wh..opq/.wh..wh..opq"), ErrUnsafe},
		"hard link up":               {entries("a=>../../etc/passwd"), ErrUnsafe},
		"hard link to nothing":       {entries("a=>etc/passwd"), fs.ErrNotExist},
		"hard link to later":         {entries("a=>b", "b=1"), fs.ErrNotExist},
		"hard link through a link":   {entries("l->/", "a=>l/etc/passwd"), fs.ErrNotExist},
		"hard link to a directory":   {entries("d/", "a=>d"), ErrUnsafe},
		"hard link to the top":       {entries("a=>/"), ErrUnsafe},
		"hard link through a loop":   {entries("l->l", "a=>l/x"), syscall.ELOOP},
		"file as the top":            {entries(".=1"), ErrUnsafe},
		"link as the top":            {entries(".->/etc"), ErrUnsafe},
		"below a file":               {entries("a=1", "a/b=1"), syscall.ENOTDIR},
		"below a file, deeper":       {entries("a=1", "a/b/c=1"), syscall.ENOTDIR},
		"below a link to a file":     {entries("a=1", "l->a", "l/b=1"), syscall.ENOTDIR},
		"through a loop":             {entries("a->b", "b->a", "a/x=1"), syscall.ELOOP},
		"long name":                  {entries(strings.Repeat("n", 256) + "=1"), ErrUnsafe},
		"long path":                  {entries(strings.Repeat("n/", 2048) + "n=1"), ErrUnsafe},
		"deep":                       {entries(strings.Repeat("n/", 257) + "n=1"), ErrUnsafe},
		"deep, through links":        {entries(strings.Repeat("n/", 200), "l->"+strings.Repeat("n/", 200), "l/"+strings.Repeat("m/", 100)+"n"), ErrUnsafe},
		"long link":                  {entries("l->" + strings.Repeat("x", 4096)), ErrUnsafe},
		"empty link":                 {[]*tar.Header{{Typeflag: tar.TypeSymlink, Name: "l"}}, ErrUnsafe},
		"overlay's whiteout":         {[]*tar.Header{{Typeflag: tar.TypeChar, Name: "c"}}, ErrUnsafe},
		"device that no image holds": {[]*tar.Header{{Typeflag: tar.TypeBlock, Name: "b", Devmajor: 4096, Format: tar.FormatGNU}}, ErrUnsafe},
		"negative device":            {[]*tar.Header{{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: -1, Format: tar.FormatGNU}}, ErrUnsafe},
		"negative owner":             {[]*tar.Header{{Typeflag: tar.TypeReg, Name: "f", Uid: -1, Format: tar.FormatGNU}}, ErrUnsafe},
		"owner none":                 {[]*tar.Header{{Typeflag: tar.TypeReg, Name: "f", Gid: math.MaxUint32, Format: tar.FormatGNU}}, ErrUnsafe},
		"unknown kind":               {[]*tar.Header{{Typeflag: tar.TypeCont, Name: "f"}}, ErrUnsafe},
		"long attribute": {[]*tar.Header{{Typeflag: tar.TypeReg, Name: "f", PAXRecords: map[string]string{
			"SCHILY.xattr.user.a": strings.Repeat("x", 64<<10+1)}}}, ErrUnsafe},
		"attribute without a name": {[]*tar.Header{{Typeflag: tar.TypeReg, Name: "f", PAXRecords: map[string]string{"SCHILY.xattr.user.": "x"}}}, ErrUnsafe},
		"good, then bad":           {append([]*tar.Header{reg("good")}, entries("../x=1")...), ErrUnsafe},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := archive(t, c.list...)
			if err := guarded(t, one(t, data), defaultOCILimits()); !errors.Is(err, c.want) {
				t.Errorf("alone: %v, not %v", err, c.want)
			}
			if err := guarded(t, one(t, layer(t, "lower"), data), defaultOCILimits()); !errors.Is(err, c.want) {
				t.Errorf("over another: %v, not %v", err, c.want)
			}
		})
	}
}

func TestOCILimits(t *testing.T) {
	t.Parallel()
	small := layer(t, "a=12345", "b=67890")
	holes := sparse(t, 1<<40)
	for name, c := range map[string]struct {
		change func(l *ociLimits)
		layers [][]byte
	}{
		"layers":      {func(l *ociLimits) { l.layers = 1 }, [][]byte{small, small}},
		"entries":     {func(l *ociLimits) { l.entries = 3 }, [][]byte{small, small}},
		"files":       {func(l *ociLimits) { l.nodes = 10 }, [][]byte{layer(t, "a/b/c/d/e/f/g/h/i/j/k")}},
		"depth":       {func(l *ociLimits) { l.depth = 2 }, [][]byte{layer(t, "a/b/c")}},
		"names":       {func(l *ociLimits) { l.names = 100 }, [][]byte{layer(t, "l->"+strings.Repeat("x", 100))}},
		"attributes":  {func(l *ociLimits) { l.names = 100 }, [][]byte{archive(t, &tar.Header{Typeflag: tar.TypeReg, Name: "f", PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", 100)}})}},
		"bytes":       {func(l *ociLimits) { l.bytes = int64(len(small)) * 2 }, [][]byte{small, small, small}},
		"hard links":  {func(l *ociLimits) { l.bytes = 8192 }, [][]byte{layer(t, "a="+strings.Repeat("x", 1000), "b=>a", "c=>a", "d=>a", "e=>a", "f=>a", "g=>a", "h=>a", "i=>a", "j=>a")}},
		"holes":       {func(*ociLimits) {}, [][]byte{holes}},
		"json":        {func(l *ociLimits) { l.json = 100 }, [][]byte{small}},
		"descriptors": {func(l *ociLimits) { l.visited = 0 }, [][]byte{small}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := defaultOCILimits()
			load(t, one(t, layer(t, "a"))) // it is not for another reason
			c.change(&l)
			if err := guarded(t, one(t, c.layers...), l); !errors.Is(err, ErrUnsafe) {
				t.Error(err)
			}
		})
	}
	t.Run("archive", func(t *testing.T) {
		t.Parallel()
		m := images{}
		data := m.index(m.image("amd64", small)).tar(t)
		for name, change := range map[string]func(l *ociLimits){"members": func(l *ociLimits) { l.members = 3 }, "bytes": func(l *ociLimits) { l.bytes = 2048 }} {
			l := defaultOCILimits()
			change(&l)
			if err := guarded(t, file(t, gzipped(t, data)), l); !errors.Is(err, ErrUnsafe) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// sparse is an archive with a file of nothing but a hole.
func sparse(t testing.TB, size int64) []byte {
	t.Helper()
	sparseMap := fmt.Sprintf("1\n%d\n0\n", size)
	body := sparseMap + strings.Repeat("\x00", 512-len(sparseMap))
	data := archive(t, &tar.Header{Typeflag: tar.TypeReg, Name: "GNUSparseFile.1/x", Size: int64(len(body)), Linkname: body, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"XXX.sparse.major": "1", "XXX.sparse.minor": "0", "XXX.sparse.name": "x", "XXX.sparse.realsize": fmt.Sprint(size)}})
	return bytes.ReplaceAll(data, []byte("XXX.sparse."), []byte("GNU.sparse."))
}

// A hole takes no place on the disk.
func TestOCIHoles(t *testing.T) {
	t.Parallel()
	tree := New()
	spool := t.TempDir()
	if err := tree.ImportOCI(t.Context(), one(t, sparse(t, 64<<20)), spool, "amd64"); err != nil {
		t.Fatal(err)
	}
	if n, err := tree.walk("x", false, false); err != nil || n.Size != 64<<20 {
		t.Fatal(n, err)
	}
	used := int64(0)
	err := filepath.WalkDir(spool, func(p string, _ fs.DirEntry, err error) error {
		s, statErr := os.Stat(p)
		if statErr == nil && s.Mode().IsRegular() {
			used += s.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return errors.Join(err, statErr)
	})
	if err != nil || used > 1<<20 {
		t.Errorf("%d bytes, %v", used, err)
	}
}

// damage is a change to a good layout, after which it is refused.
func TestOCIDamage(t *testing.T) {
	t.Parallel()
	l := layer(t, "a=1")
	build := func(change func(m images, manifest *ociDocument, config *ociConfig)) images {
		m := images{}
		config := &ociConfig{ociPlatform: ociPlatform{Architecture: "amd64", OS: "linux"}}
		config.RootFS.Type = "layers"
		config.RootFS.DiffIDs = []string{m.blob("", l).Digest}
		manifest := &ociDocument{SchemaVersion: 2, Layers: []ociDescriptor{m.blob(ociLayers[0], l)}}
		change(m, manifest, config)
		c := m.blob(ociConfigs[0], m.json(config))
		if manifest.Config == nil {
			manifest.Config = &c
		}
		return m.index(m.blob(ociManifests[0], m.json(manifest)))
	}
	plain := func(images, *ociDocument, *ociConfig) {}
	load(t, build(plain).folder(t))
	after := func(change func(m images)) images { return dockerOf(build(plain), change) }
	blob := func(m images, d string) string { return "blobs/" + strings.Replace(d, ":", "/", 1) }
	digest := fmt.Sprintf("sha256:%x", sum(l))
	for name, c := range map[string]struct {
		m    images
		want string // in the error
	}{
		"layer of other content": {after(func(m images) { m[blob(m, digest)] = layer(t, "a=2") }), "it should be " + digest},
		"layer cut":              {after(func(m images) { m[blob(m, digest)] = l[:len(l)-1] }), "not 2048"},
		"layer missing":          {after(func(m images) { delete(m, blob(m, digest)) }), "no such file"},
		"manifest of other digest": {after(func(m images) {
			m["index.json"] = bytes.Replace(m["index.json"], []byte(`sha256:`), []byte(`sha256:0`), 1)
		}), "no digest"},
		"unknown digest": {after(func(m images) {
			m["index.json"] = bytes.Replace(m["index.json"], []byte(`sha256:`), []byte(`blake3:`), 1)
		}), "neither sha256 nor sha512"},
		"no index":              {after(func(m images) { delete(m, "index.json") }), "index.json: no such file"},
		"no layout":             {after(func(m images) { delete(m, "oci-layout") }), "neither an oci-layout nor"},
		"another version":       {after(func(m images) { m["oci-layout"] = []byte(`{"imageLayoutVersion":"2.0.0"}`) }), `version "2.0.0"`},
		"no JSON":               {after(func(m images) { m["index.json"] = []byte(`{`) }), "unexpected end"},
		"index is a manifest":   {after(func(m images) { m["index.json"] = []byte(`{"schemaVersion":2,"manifests":[],"layers":[]}`) }), "at once"},
		"schema 1":              {build(func(_ images, m *ociDocument, _ *ociConfig) { m.SchemaVersion = 1 }), "version 1"},
		"manifest is an index":  {build(func(_ images, m *ociDocument, _ *ociConfig) { m.Manifests = []ociDescriptor{} }), "at once"},
		"manifest calls itself": {build(func(_ images, m *ociDocument, _ *ociConfig) { m.MediaType = ociIndexes[0] }), "calls itself"},
		"negative size":         {build(func(_ images, m *ociDocument, _ *ociConfig) { m.Layers[0].Size = -1 }), "not -1"},
		"digest that climbs":    {build(func(_ images, m *ociDocument, _ *ociConfig) { m.Layers[0].Digest = "sha256:../../../etc/passwd" }), "no digest"},
		"digest in capitals":    {build(func(_ images, m *ociDocument, _ *ociConfig) { m.Layers[0].Digest = "sha256:" + strings.Repeat("A", 64) }), "no digest"},
		"artifact": {build(func(m images, d *ociDocument, _ *ociConfig) {
			c := m.blob("application/vnd.oci.empty.v1+json", []byte("{}"))
			d.Config = &c
		}), "no image"},
		"no list of layers":      {build(func(_ images, _ *ociDocument, c *ociConfig) { c.RootFS.DiffIDs = nil }), "has 0 of kind"},
		"another list of layers": {build(func(_ images, _ *ociDocument, c *ociConfig) { c.RootFS.Type = "base" }), `kind "base"`},
		"another layer": {build(func(_ images, _ *ociDocument, c *ociConfig) {
			c.RootFS.DiffIDs[0] = "sha256:" + strings.Repeat("0", 64)
		}), "unpacked: it should be"},
		"foreign": {build(func(_ images, m *ociDocument, _ *ociConfig) {
			m.Layers[0].MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
		}), "given away"},
		"foreign, docker": {build(func(_ images, m *ociDocument, _ *ociConfig) {
			m.Layers[0].MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
		}), "given away"},
		"encrypted": {build(func(_ images, m *ociDocument, _ *ociConfig) { m.Layers[0].MediaType += "+gzip+encrypted" }), "a kind that isn't read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := guarded(t, c.m.folder(t), defaultOCILimits()); !strings.Contains(err.Error(), c.want) {
				t.Errorf("folder: %v, not %s", err, c.want)
			}
			err := guarded(t, file(t, c.m.tar(t)), defaultOCILimits())
			if want := strings.ReplaceAll(c.want, "no such file", "file does not exist"); !strings.Contains(err.Error(), want) {
				t.Errorf("archive: %v, not %s", err, want)
			}
		})
	}
}

func TestOCIDamagedLayers(t *testing.T) {
	t.Parallel()
	good := layer(t, "a="+strings.Repeat("x", 2000))
	longer := bytes.Clone(good)
	copy(longer[124:], "77777777777") // its size
	sumHeader(longer[:512])
	for name, data := range map[string][]byte{
		"cut in a header":  good[:300],
		"cut in a content": good[:1000],
		"longer than all":  longer,
		"noise":            bytes.Repeat([]byte("noise"), 300),
		"cut gzip":         gzipped(t, good)[:30],
		"only magic":       {0x1f, 0x8b},
		"zstd magic":       {0x28, 0xb5, 0x2f, 0xfd},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := guarded(t, one(t, data), defaultOCILimits()); errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
	for name, change := range map[string]func(m images){
		"layer outside": func(m images) {
			m["manifest.json"] = bytes.Replace(m["manifest.json"], []byte("0/layer.tar"), []byte("../../etc/x"), 1)
		},
		"config outside": func(m images) {
			m["manifest.json"] = bytes.Replace(m["manifest.json"], []byte(`"Config":"`), []byte(`"Config":"../`), 1)
		},
		"layer damaged": func(m images) { m["0/layer.tar"] = longer },
		"config damaged": func(m images) {
			for name := range m {
				if len(path.Base(name)) == 69 {
					m[name] = append(m[name], ' ')
				}
			}
		},
	} {
		t.Run("docker: "+name, func(t *testing.T) {
			t.Parallel()
			m := dockerOf(docker(good), change)
			guarded(t, m.folder(t), defaultOCILimits())
			if name != "config outside" { // where it leads to is inside of an archive
				guarded(t, file(t, m.tar(t)), defaultOCILimits())
			}
		})
	}
}

// A layout's links don't lead out of it.
func TestOCILayoutLinks(t *testing.T) {
	t.Parallel()
	m := images{}
	good := m.index(m.image("amd64", layer(t, "a"))).folder(t)
	bad := t.TempDir()
	for _, name := range []string{"oci-layout", "index.json", "blobs"} {
		if err := os.Symlink(filepath.Join(good, name), filepath.Join(bad, name)); err != nil {
			t.Fatal(err)
		}
	}
	guarded(t, bad, defaultOCILimits())
	loops := archive(t, entries("oci-layout->index.json", "index.json->oci-layout")...)
	if err := guarded(t, file(t, loops), defaultOCILimits()); !errors.Is(err, syscall.ELOOP) {
		t.Error(err)
	}
}

// FuzzOCILayer applies any archive over another one. What comes out has to be a
// tree that an image can be made of.
func FuzzOCILayer(f *testing.F) {
	f.Add(layer(f, "a/", "a/b=1", "l->a", "l/c=2", "h=>a/b", ".wh.x", "d/.wh..wh..opq", "usr/.wh.lib"))
	f.Add(layer(f, "lib/", "lib/.wh.so", "lib/x=>usr/lib/so", "usr=1"))
	f.Add(archive(f, full()...))
	f.Add(sparse(f, 100000))
	f.Add([]byte{})
	lower := layer(f, "usr/lib/so=1", "lib->usr/lib", "x=2", "d/e/f=3", "up->../../..", "loop->loop", "hard=>x")
	f.Fuzz(func(t *testing.T, data []byte) {
		l := ociLimits{layers: 2, entries: 200, nodes: 2000, depth: 64, names: 1 << 20, bytes: 4 << 20}
		i := &ociImporter{ctx: t.Context(), folder: t.TempDir(), limits: l, left: l.bytes, tree: New()}
		for _, layer := range [][]byte{lower, data} {
			spool, err := newOCISpool(i.folder)
			if err != nil {
				t.Fatal(err)
			}
			if spool.size, err = io.Copy(spool.file, bytes.NewReader(layer)); err != nil {
				t.Fatal(err)
			}
			err = i.apply(spool)
			spool.file.Close()
			if i.sparse != nil {
				defer i.sparse.file.Close()
			}
			if err != nil {
				return
			}
		}
		if i.tree.checkDepth(l.depth) != nil {
			return
		}
		for p, n := range nodes(i.tree) {
			if n.Mode.IsRegular() && int64(len(content(t, i.tree, p))) != n.Size {
				t.Errorf("%q isn't of %d bytes", p, n.Size)
			}
		}
		if _, err := squashfs.Write(t.Context(), &discard{}, source{i.tree}, squashfs.WriteOptions{Compressor: squashfs.Zstd, NotAfter: time.Unix(1<<31, 0)}); err != nil {
			t.Errorf("no image can be made of it: %v", err)
		}
	})
}

type discard struct{}

func (*discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func sum(data []byte) []byte { return ociDigest{algorithm: "sha256"}.sum(data) }

func (d ociDigest) sum(data []byte) []byte {
	h := d.hash()
	h.Write(data)
	return h.Sum(nil)
}

// sumHeader makes the checksum of a header right.
func sumHeader(h []byte) {
	copy(h[148:156], "        ")
	total := 0
	for _, b := range h {
		total += int(b)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", total))
}
