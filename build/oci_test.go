package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/lockport/lockport/internal/squashfs"
)

// entries are a layer as tests write it down: one entry a word, where a/ is a
// directory, a=text a file, a->b a link, a=>b a hard link, and a an empty file.
func entries(words ...string) []*tar.Header {
	var list []*tar.Header
	for _, w := range words {
		h := &tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1700000000, 0)}
		for _, kind := range []struct {
			sep  string
			flag byte
		}{{"->", tar.TypeSymlink}, {"=>", tar.TypeLink}, {"=", tar.TypeReg}} {
			if name, rest, ok := strings.Cut(w, kind.sep); ok {
				h.Name, h.Linkname, h.Typeflag = name, rest, kind.flag
				break
			}
		}
		switch {
		case h.Name == "" && strings.HasSuffix(w, "/"):
			h.Name, h.Typeflag, h.Mode = w, tar.TypeDir, 0o755
		case h.Name == "":
			h.Name = w
		case h.Typeflag == tar.TypeReg:
			// The content is in a place that files have no other use for.
			h.Size = int64(len(h.Linkname))
		}
		list = append(list, h)
	}
	return list
}

// archive writes entries as an archive.
func archive(t testing.TB, list ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range list {
		h := *h
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname = h.Linkname, ""
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layer is an archive of words.
func layer(t testing.TB, words ...string) []byte { return archive(t, entries(words...)...) }

// images are files of a layout in the making.
type images map[string][]byte

func (m images) blob(kind string, data []byte) ociDescriptor {
	sum := fmt.Sprintf("%x", sha256.Sum256(data))
	m["blobs/sha256/"+sum] = data
	return ociDescriptor{MediaType: kind, Digest: "sha256:" + sum, Size: int64(len(data))}
}

func (m images) json(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// image adds an image and returns the descriptor of its manifest.
func (m images) image(architecture string, layers ...[]byte) ociDescriptor {
	config := ociConfig{ociPlatform: ociPlatform{Architecture: architecture, OS: "linux"}}
	config.RootFS.Type = "layers"
	manifest := ociDocument{SchemaVersion: 2}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(l)))
		manifest.Layers = append(manifest.Layers, m.blob(ociLayers[0], l))
	}
	c := m.blob(ociConfigs[0], m.json(config))
	manifest.Config = &c
	return m.blob(ociManifests[0], m.json(manifest))
}

// index makes it a layout of these images.
func (m images) index(list ...ociDescriptor) images {
	m["oci-layout"] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
	m["index.json"] = m.json(ociDocument{SchemaVersion: 2, Manifests: list})
	return m
}

// folder writes it to a folder, tar to an archive.
func (m images) folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range m {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (m images) tar(t testing.TB) []byte {
	t.Helper()
	var list []*tar.Header
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, &tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(m[name])), Linkname: string(m[name])})
	}
	return archive(t, list...)
}

func file(t testing.TB, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// one is a layout of one image.
func one(t testing.TB, layers ...[]byte) string {
	m := images{}
	return m.index(m.image("amd64", layers...)).folder(t)
}

// load imports an image.
func load(t testing.TB, path string) *Tree {
	t.Helper()
	tree := New()
	if err := tree.ImportOCI(t.Context(), path, t.TempDir(), "amd64"); err != nil {
		t.Fatal(err)
	}
	return tree
}

func compressed(t testing.TB, data []byte, w io.WriteCloser, b *bytes.Buffer) []byte {
	t.Helper()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	return compressed(t, data, gzip.NewWriter(&b), &b)
}

func zstdPacked(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	return compressed(t, data, w, &b)
}

// words are a tree as the words that entries takes, sorted. Of hard links, the
// first name has the content.
func words(t testing.TB, tree *Tree) []string {
	t.Helper()
	list := []string{}
	first := map[squashfs.LinkID]string{}
	var walk func(dir string)
	walk = func(dir string) {
		nodes, err := source{tree}.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			p := path.Join(dir, n.Name)
			switch {
			case n.Mode.IsDir():
				list = append(list, p+"/")
				walk(p)
			case n.Link != squashfs.LinkID{} && first[n.Link] != "":
				list = append(list, p+"=>"+first[n.Link])
			case n.Mode.Type() == fs.ModeSymlink:
				first[n.Link] = p
				list = append(list, p+"->"+n.Target)
			case n.Size == 0:
				first[n.Link] = p
				list = append(list, p)
			default:
				first[n.Link] = p
				list = append(list, p+"="+string(content(t, tree, p)))
			}
		}
	}
	walk("")
	return list
}

func content(t testing.TB, tree *Tree, p string) []byte {
	t.Helper()
	r, err := source{tree}.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type layers = [][]string

func TestOCIFlatten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		layers layers
		want   string
	}{
		"no layers":                     {layers{}, ""},
		"empty layer":                   {layers{{}}, ""},
		"spec: populate and change":     {layers{{"./", "./etc/", "./etc/my-app-config", "./bin/", "./bin/my-app-binary=b", "./bin/my-app-tools=t"}, {"./etc/my-app.d/", "./etc/my-app.d/default.cfg", "./bin/my-app-tools=T", "./etc/.wh.my-app-config"}}, "bin/ bin/my-app-binary=b bin/my-app-tools=T etc/ etc/my-app.d/ etc/my-app.d/default.cfg"},
		"spec: whiteouts":               {layers{{"file1", "a/file2", "b/", "c/file3"}, {".wh.file1", "a/.wh.file2", ".wh.b", "file4"}}, "a/ c/ c/file3 file4"},
		"spec: opaque":                  {layers{{"etc/", "etc/my-app-config", "bin/", "bin/my-app-binary", "bin/tools/", "bin/tools/one"}, {"bin/", "bin/.wh..wh..opq"}}, "bin/ etc/ etc/my-app-config"},
		"spec: opaque first":            {layers{{"a/", "a/b/", "a/b/c/", "a/b/c/bar"}, {"a/", "a/.wh..wh..opq", "a/b/", "a/b/c/", "a/b/c/foo"}}, "a/ a/b/ a/b/c/ a/b/c/foo"},
		"spec: opaque last":             {layers{{"a/", "a/b/", "a/b/c/", "a/b/c/bar"}, {"a/", "a/b/", "a/b/c/", "a/b/c/foo", "a/.wh..wh..opq"}}, "a/ a/b/ a/b/c/ a/b/c/foo"},
		"opaque top":                    {layers{{"a", "b/c"}, {".wh..wh..opq", "d"}}, "d"},
		"opaque of nothing":             {layers{{"a"}, {"x/.wh..wh..opq", "a/.wh..wh..opq"}}, "a"},
		"whiteout of its own layer":     {layers{{"a", ".wh.a", "d/", "d/.wh..wh..opq", "d/x"}, {"b", ".wh.b"}}, "a b d/ d/x"},
		"whiteout and new":              {layers{{"a/old"}, {"a/", "a/new", ".wh.a"}}, "a/ a/new"},
		"whiteout, then again":          {layers{{"a"}, {".wh.a"}, {"a=2"}, {".wh.a"}, {"a=3"}}, "a=3"},
		"whiteout of a link only":       {layers{{"d/x", "l->d"}, {".wh.l"}}, "d/ d/x"},
		"whiteout through a link":       {layers{{"d/x", "d/y", "l->d"}, {"l/.wh.x"}}, "d/ d/y l->d"},
		"whiteout as a hard link":       {layers{{"a"}, {".wh..wh.aufs", ".wh.a=>.wh..wh.aufs"}}, ""},
		"aufs":                          {layers{{".wh..wh.plnk/", ".wh..wh.plnk/1.2", ".wh..wh.orph/", "a"}}, "a"},
		"directory hides a link":        {layers{{"d/x", "l->d"}, {"l/", "l/.wh.x", "l/y"}}, "d/ d/x l/ l/y"},
		"directory hides a link, later": {layers{{"d/x", "l->d"}, {"l/.wh.x", "l/"}}, "d/ d/x l/"},
		"opaque directory hides a link": {layers{{"d/x", "l->d"}, {"l/", "l/.wh..wh..opq"}}, "d/ d/x l/"},
		"file for directory":            {layers{{"a/b/c"}, {"a=f"}}, "a=f"},
		"directory for file":            {layers{{"a=f"}, {"a/", "a/b"}}, "a/ a/b"},
		"link for directory":            {layers{{"a/b", "d/"}, {"a->d"}}, "a->d d/"},
		"file for link":                 {layers{{"a->b", "b=1"}, {"a=2"}}, "a=2 b=1"},
		"directory stays":               {layers{{"a/x"}, {"a/", "a/y"}}, "a/ a/x a/y"},
		"last of two":                   {layers{{"a=1", "a=2"}}, "a=2"},
		"through a link":                {layers{{"usr/lib/", "lib->usr/lib"}, {"lib/x=1"}}, "lib->usr/lib usr/ usr/lib/ usr/lib/x=1"},
		"through an absolute link":      {layers{{"l->/usr"}, {"l/x=1"}}, "l->/usr usr/ usr/x=1"},
		"through a link that climbs":    {layers{{"a/l->../../../../etc"}, {"a/l/passwd=1"}}, "a/ a/l->../../../../etc etc/ etc/passwd=1"},
		"absolute names":                {layers{{"/etc/", "/etc/x=1", "//y"}}, "etc/ etc/x=1 y"},
		"links as written":              {layers{{"a->//x/../y/.", "b->../../..", "c->c"}}, "a->//x/../y/. b->../../.. c->c"},
		"hard link":                     {layers{{"a=1", "b=>a", "c=>./b", "d=>/a"}}, "a=1 b=>a c=>a d=>a"},
		"hard link to below":            {layers{{"a=1"}, {"b=>a"}}, "a=1 b=>a"},
		"hard link through a link":      {layers{{"d/a=1", "l->d"}, {"l/b=>l/a"}}, "d/ d/a=1 d/b=>d/a l->d"},
		"hard link to a link":           {layers{{"a->x", "b=>a"}}, "a->x b=>a"},
		"hard link is not followed":     {layers{{"x=1", "a->x", "b=>a"}}, "a->x b=>a x=1"},
		"hard link to itself":           {layers{{"a=1", "a=>a"}}, "a=1"},
		"hard link cut":                 {layers{{"a=1", "b=>a"}, {"a=2"}}, "a=2 b=1"},
		"hard link for its directory":   {layers{{"a/b=1", "a=>a/b"}}, "a=1"},
		"odd names":                     {layers{{"a b", "\xff\xfe", "-", "...", ".wh", "a\nb"}}, "- ... .wh a\nb a b \xff\xfe"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var data [][]byte
			for _, l := range c.layers {
				data = append(data, layer(t, l...))
			}
			if got := strings.Join(words(t, load(t, one(t, data...))), " "); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// full are entries with all that a layer can say.
func full() []*tar.Header {
	at := time.Unix(1600000000, 0)
	return []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o750, Uid: 3, Gid: 4, ModTime: at},
		{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777, ModTime: at},
		{Typeflag: tar.TypeReg, Name: "su", Mode: 0o104755, Linkname: "code", Size: 4, ModTime: at, PAXRecords: map[string]string{
			"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02" + strings.Repeat("\x00", 16),
			"SCHILY.xattr.security.selinux": "x", "SCHILY.xattr.trusted.overlay.opaque": "y", "LIBARCHIVE.xattr.user.c": "eA",
		}},
		{Typeflag: tar.TypeReg, Name: "owned", Mode: 0o2640, Uid: 1000, Gid: 4294967294, ModTime: time.Unix(-5, 0), Format: tar.FormatPAX},
		{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600, ModTime: at},
		{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: at},
		{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o660, Devmajor: 8, Devminor: 0xfffff, Format: tar.FormatGNU, ModTime: at},
		{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "su", Mode: 0o644, Uid: 7, ModTime: at},
		{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "to be ignored"}},
	}
}

func TestOCIMetadata(t *testing.T) {
	t.Parallel()
	tree := load(t, one(t, archive(t, full()...)))
	want := []string{
		"disk Drw-rw---- 0:0 8:1048575 1600000000 []",
		"fifo prw------- 0:0 0:0 1600000000 []",
		"link Lrwxrwxrwx 7:0 0:0 1600000000 []",
		"null Dcrw-rw-rw- 0:0 1:3 1600000000 []",
		"owned grw-r----- 1000:4294967294 0:0 0 []",
		"su urwxr-xr-x 0:0 0:0 1600000000 [{security.capability 20} {user.a 1} {user.b 1}]",
		"tmp dtrwxrwxrwx 0:0 0:0 1600000000 []",
	}
	list, err := source{tree}.ReadDir("")
	if err != nil {
		t.Fatal(err)
	}
	for n, item := range list {
		attrs := []string{}
		for _, a := range item.Attrs {
			attrs = append(attrs, fmt.Sprintf("{%s %d}", a.Name, len(a.Value)))
		}
		got := fmt.Sprintf("%s %v %d:%d %d:%d %d %v", item.Name, item.Mode, item.UID, item.GID, item.Major, item.Minor, item.ModTime.Unix(), attrs)
		if n >= len(want) || got != want[n] {
			t.Errorf("got %s, want %s", got, want[min(n, len(want)-1)])
		}
	}
	if top := tree.top; top.Mode != fs.ModeDir|0o750 || top.UID != 3 || top.GID != 4 || len(list) != len(want) {
		t.Errorf("the top is %v %d:%d with %d files", top.Mode, top.UID, top.GID, len(list))
	}
}

// A directory's attributes are those of the last layer that has it.
func TestOCIDirectoryAttributes(t *testing.T) {
	t.Parallel()
	dir := func(mode int64, uid int, attr string) []byte {
		return archive(t, &tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: mode, Uid: uid, PAXRecords: map[string]string{"SCHILY.xattr.user." + attr: "1"}})
	}
	tree := load(t, one(t, dir(0o700, 1, "a"), layer(t, "d/x"), dir(0o2750, 2, "b")))
	n, err := tree.walk("/d", false, false)
	if err != nil {
		t.Fatal(err)
	}
	if n.Mode != fs.ModeDir|fs.ModeSetgid|0o750 || n.UID != 2 || len(n.Attrs) != 1 || n.Attrs[0].Name != "user.b" || len(n.children) != 1 {
		t.Errorf("%v %d %v %d", n.Mode, n.UID, n.Attrs, len(n.children))
	}
}

func TestOCIContainers(t *testing.T) {
	t.Parallel()
	lower, upper := layer(t, "a=1", "b=2"), layer(t, ".wh.a", "c=3")
	m := images{}
	plain := m.index(m.image("amd64", lower, upper))
	for name, path := range map[string]string{
		"folder":         plain.folder(t),
		"archive":        file(t, plain.tar(t)),
		"gzip":           file(t, gzipped(t, plain.tar(t))),
		"zstd":           file(t, zstdPacked(t, plain.tar(t))),
		"gzip layers":    packedLayers(t, gzipped, ".gzip", lower, upper),
		"zstd layers":    packedLayers(t, zstdPacked, ".zstd", lower, upper),
		"docker":         file(t, docker(lower, upper).tar(t)),
		"docker.tar.gz":  file(t, gzipped(t, docker(lower, upper).tar(t))),
		"docker folder":  docker(lower, upper).folder(t),
		"docker, packed": file(t, dockerOf(docker(lower, upper), func(m images) { m["0/layer.tar"] = gzipped(t, lower) }).tar(t)),
		"both":           file(t, both(plain, lower).tar(t)),
		"sha512":         sha512Layout(t, lower, upper),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := strings.Join(words(t, load(t, path)), " "); got != "b=2 c=3" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// packedLayers is an image in docker's words, with compressed layers.
func packedLayers(t testing.TB, pack func(testing.TB, []byte) []byte, kind string, layers ...[]byte) string {
	m := images{}
	config := ociConfig{ociPlatform: ociPlatform{Architecture: "amd64", OS: "linux"}}
	config.RootFS.Type = "layers"
	manifest := ociDocument{SchemaVersion: 2, MediaType: ociManifests[1]}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(l)))
		manifest.Layers = append(manifest.Layers, m.blob("application/vnd.docker.image.rootfs.diff.tar"+kind, pack(t, l)))
	}
	c := m.blob(ociConfigs[1], m.json(config))
	manifest.Config = &c
	list := ociDocument{SchemaVersion: 2, MediaType: ociIndexes[1], Manifests: []ociDescriptor{m.blob(ociManifests[1], m.json(manifest))}}
	return m.index(m.blob(ociIndexes[1], m.json(list))).folder(t)
}

// docker is what docker save makes of an image.
func docker(layers ...[]byte) images {
	m, config := images{}, ociConfig{ociPlatform: ociPlatform{Architecture: "amd64", OS: "linux"}}
	config.RootFS.Type = "layers"
	d := dockerImage{RepoTags: []string{"test:1"}}
	for n, l := range layers {
		name := fmt.Sprintf("%d/layer.tar", n)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(l)))
		m[name], d.Layers = l, append(d.Layers, name)
	}
	data := m.json(config)
	d.Config = fmt.Sprintf("%x.json", sha256.Sum256(data))
	m[d.Config], m["manifest.json"] = data, m.json([]dockerImage{d})
	return m
}

func dockerOf(m images, change func(images)) images {
	change(m)
	return m
}

// both is a layout that also has a manifest of docker's, which says otherwise.
func both(m images, l []byte) images {
	m = maps.Clone(m)
	maps.Copy(m, docker(l))
	return m
}

func sha512Layout(t testing.TB, layers ...[]byte) string {
	m := images{}
	rename := func(d ociDescriptor) ociDescriptor {
		old := "blobs/sha256/" + strings.TrimPrefix(d.Digest, "sha256:")
		sum := fmt.Sprintf("%x", sha512.Sum512(m[old]))
		m["blobs/sha512/"+sum] = m[old]
		delete(m, old)
		d.Digest = "sha512:" + sum
		return d
	}
	config := ociConfig{ociPlatform: ociPlatform{Architecture: "amd64", OS: "linux"}}
	config.RootFS.Type = "layers"
	manifest := ociDocument{SchemaVersion: 2}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, fmt.Sprintf("sha512:%x", sha512.Sum512(l)))
		manifest.Layers = append(manifest.Layers, rename(m.blob(ociLayers[0], l)))
	}
	c := rename(m.blob(ociConfigs[0], m.json(config)))
	manifest.Config = &c
	return m.index(rename(m.blob(ociManifests[0], m.json(manifest)))).folder(t)
}

// Older archives of docker's have links in place of equal layers.
func TestOCIDockerLinks(t *testing.T) {
	t.Parallel()
	same := layer(t, "a=1")
	m := docker(same, same)
	delete(m, "1/layer.tar")
	list := []*tar.Header{{Typeflag: tar.TypeSymlink, Name: "1/layer.tar", Linkname: "../0/layer.tar"}, {Typeflag: tar.TypeLink, Name: "0/layer.tar", Linkname: "0/VERSION"}}
	m["0/VERSION"] = m["0/layer.tar"]
	delete(m, "0/layer.tar")
	data := m.tar(t)
	data = append(data[:len(data)-1024], archive(t, list...)...)
	if got := strings.Join(words(t, load(t, file(t, data))), " "); got != "a=1" {
		t.Errorf("got %q", got)
	}
}

func TestOCISparse(t *testing.T) {
	t.Parallel()
	// As GNU tar 1.34 --sparse writes a file of 300000 bytes that has text at
	// 200000 only; its newer form, in which the map is in front of the content.
	text := "in between"
	sparseMap := fmt.Sprintf("2\n200000\n%d\n300000\n0\n", len(text))
	body := sparseMap + strings.Repeat("\x00", 512-len(sparseMap)) + text
	data := archive(t,
		&tar.Header{Typeflag: tar.TypeReg, Name: "before", Size: 3, Linkname: "abc"},
		&tar.Header{Typeflag: tar.TypeReg, Name: "GNUSparseFile.1/x", Size: int64(len(body)), Linkname: body, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"XXX.sparse.major": "1", "XXX.sparse.minor": "0", "XXX.sparse.name": "x", "XXX.sparse.realsize": "300000"}},
		&tar.Header{Typeflag: tar.TypeReg, Name: "after", Size: 3, Linkname: "def"})
	// The writer refuses these records, so they are written with another name.
	data = bytes.ReplaceAll(data, []byte("XXX.sparse."), []byte("GNU.sparse."))
	tree := load(t, one(t, data))
	want := make([]byte, 300000)
	copy(want[200000:], text)
	if got := content(t, tree, "x"); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, which begin %q", len(got), got[:min(20, len(got))])
	}
	if a, b := content(t, tree, "before"), content(t, tree, "after"); string(a) != "abc" || string(b) != "def" {
		t.Errorf("%q %q", a, b)
	}
}

// What was in the tree stays where the image has nothing of that name.
func TestOCIOverTree(t *testing.T) {
	t.Parallel()
	tree := New()
	for _, p := range []string{"/etc/mine", "/etc/both"} {
		if err := tree.WriteFile(p, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := tree.ImportOCI(t.Context(), one(t, layer(t, "etc/both=new", "etc/other"), layer(t, "etc/.wh.mine", "etc/.wh.other")), t.TempDir(), "amd64")
	if got := strings.Join(words(t, tree), " "); err != nil || got != "etc/ etc/both=new etc/mine=old" {
		t.Errorf("%q %v", got, err)
	}
}

func TestOCIContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := images{}
	m.index(m.image("amd64", layer(t, "a")))
	for _, p := range []string{m.folder(t), file(t, m.tar(t))} {
		if err := New().ImportOCI(ctx, p, t.TempDir(), "amd64"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}

// An image of a container goes through all of its way to an image of ours.
func TestOCIRoundTrip(t *testing.T) {
	t.Parallel()
	tree := load(t, one(t, archive(t, append(full(), entries("su2=>su", "etc/", "etc/x=1")...)...), layer(t, "etc/.wh.x", "etc/y="+strings.Repeat("y", 300000))))
	var images [2][]byte
	for n := range images {
		name := filepath.Join(t.TempDir(), "image.raw")
		if _, err := Write(t.Context(), tree, name, Output{Format: Squashfs, Protection: Naked, Label: "image"}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		images[n] = data
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two images differ")
	}
	image, err := squashfs.Open(bytes.NewReader(images[0]), int64(len(images[0])))
	if err != nil {
		t.Fatal(err)
	}
	back := New()
	if err := back.Import("/", dotted{squashfs.FSTree(image)}); err != nil {
		t.Fatal(err)
	}
	sameTree(t, tree, back)
}

// dotted is a tree whose top is called as in io/fs.
type dotted struct{ squashfs.Tree }

func (d dotted) ReadDir(p string) ([]squashfs.Node, error) { return d.Tree.ReadDir(path.Clean(p)) }

// sameTree compares all that an image holds of files.
func sameTree(t testing.TB, a, b *Tree) {
	t.Helper()
	if a, b := words(t, a), words(t, b); !slices.Equal(a, b) {
		t.Errorf("%.300q\n%.300q", a, b)
	}
	for p, one := range nodes(a) {
		other := nodes(b)[p]
		one.Link, other.Link = squashfs.LinkID{}, squashfs.LinkID{}
		one.ModTime, other.ModTime = time.Unix(max(0, one.ModTime.Unix()), 0), time.Unix(other.ModTime.Unix(), 0)
		if !one.Mode.IsRegular() {
			other.Size = one.Size
		}
		if one, other := fmt.Sprintf("%+v", one), fmt.Sprintf("%+v", other); one != other {
			t.Errorf("%s:\n%s\n%s", p, one, other)
		}
	}
}

func nodes(tree *Tree) map[string]squashfs.Node {
	list := map[string]squashfs.Node{}
	var walk func(n *node, p string)
	walk = func(n *node, p string) {
		for name, c := range n.children {
			list[path.Join(p, name)] = c.Node
			walk(c, path.Join(p, name))
		}
	}
	walk(tree.top, "")
	return list
}

func TestOCIDirectory(t *testing.T) {
	t.Parallel()
	tree := load(t, one(t, layer(t, "bin/", "bin/a=1", "bin/b=>bin/a", "l->bin", "l/c=2", "out->/etc/passwd")))
	dir := filepath.Join(t.TempDir(), "image")
	if _, err := Write(t.Context(), tree, dir, Output{Format: Directory, Protection: Naked}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"bin/a": "1", "bin/b": "1", "bin/c": "2"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if got, err := os.Readlink(filepath.Join(dir, "out")); err != nil || got != "/etc/passwd" {
		t.Errorf("%q %v", got, err)
	}
}

// Progress goes up to all bytes of all layers.
func TestOCIProgress(t *testing.T) {
	t.Parallel()
	path := one(t, layer(t, "a=1"), layer(t, "b=2"), sparse(t, 1<<20))
	var last, all int64
	err := New().importOCI(t.Context(), path, t.TempDir(), "amd64", defaultOCILimits(), func(done, total int64) {
		if done < last || done > total || all != 0 && total != all {
			t.Errorf("%d of %d, after %d of %d", done, total, last, all)
		}
		last, all = done, total
	})
	if err != nil || last == 0 || last != all {
		t.Errorf("%d of %d at the end: %v", last, all, err)
	}
}
