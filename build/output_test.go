package build

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/image"
	"github.com/lockport/lockport/internal/squashfs"
	"github.com/lockport/lockport/portable"
)

// newService makes the sources of a small service in a folder.
func newService(t testing.TB) (dir string, r *Recipe) {
	t.Helper()
	dir = t.TempDir()
	write(t, dir+"/web.service", "[Service]\nExecStart=/usr/bin/web\nStateDirectory=web\n")
	write(t, dir+"/web", strings.Repeat("a program\n", 1000))
	write(t, dir+"/pages/index.html", "hello")
	write(t, dir+"/pages/again.html", "hello")
	write(t, dir+"/"+SpecName, "[Image]\nName=web\nVersion=1\n[Content]\nUnit=web.service\nProgram=web\nFile=pages:/srv/pages\n")
	r, err := ReadRecipe(dir + "/" + SpecName)
	must(t, err)
	return dir, r
}

// newTree makes the tree of a recipe.
func newTree(t testing.TB, r *Recipe) *Tree {
	t.Helper()
	tree, done, err := r.Tree(t.Context(), Environment{Architecture: "amd64"})
	must(t, err)
	t.Cleanup(func() { must(t, done()) })
	must(t, tree.Complete(portable.StateDirectories))
	return tree
}

// newKey makes a key with its certificate, in files of a folder.
func newKey(t testing.TB, dir string) (key *ecdsa.PrivateKey, certificate *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(7), NotAfter: time.Now().Add(time.Hour)},
		&x509.Certificate{}, key.Public(), key)
	must(t, err)
	certificate, err = x509.ParseCertificate(der)
	must(t, err)
	secretDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	write(t, dir+"/vendor.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, dir+"/key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secretDER})))
	return key, certificate
}

func output(p Protection) Output {
	return Output{
		Format: Squashfs, Protection: p, Architecture: Architecture("amd64"), Label: "web_1", RootOwned: true, NotAfter: time.Unix(1e9, 0),
	}
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// What is written opens as an image, with the protection that was asked for, and
// every file in it is what it was.
func TestWrite(t *testing.T) {
	t.Parallel()
	_, r := newService(t)
	keys := t.TempDir()
	key, certificate := newKey(t, keys)
	tree := newTree(t, r)
	for name, c := range map[string]struct {
		change func(*Output)
		files  []string
		protection
	}{
		"plain":           {func(*Output) {}, []string{"web.raw"}, protection{"", image.Unprotected}},
		"gzip":            {func(o *Output) { o.Compressor, o.Level = "gzip", 1 }, []string{"web.raw"}, protection{"", image.Unprotected}},
		"xz":              {func(o *Output) { o.Compressor, o.BlockSize = "xz", 4096 }, []string{"web.raw"}, protection{"", image.Unprotected}},
		"lz4":             {func(o *Output) { o.Compressor = "lz4" }, []string{"web.raw"}, protection{"", image.Unprotected}},
		"erofs":           {func(o *Output) { o.Format = Erofs }, []string{"web.raw"}, protection{"", image.Unprotected}},
		"erofs, GPT":      {func(o *Output) { o.Format, o.Protection = Erofs, Partitions }, []string{"web.raw"}, protection{"GPT", image.WithVerity}},
		"partitions":      {func(o *Output) { o.Protection = Partitions }, []string{"web.raw"}, protection{"GPT", image.WithVerity}},
		"arm64":           {func(o *Output) { o.Protection, o.Architecture = Partitions, "arm64" }, []string{"web.raw"}, protection{"GPT", image.WithVerity}},
		"beside":          {func(o *Output) { o.Protection = Beside }, []string{"web.raw", "web.roothash", "web.verity"}, protection{"", image.WithVerity}},
		"signed":          {func(o *Output) { o.Protection, o.Key, o.Certificate = Partitions, key, certificate }, []string{"web.raw"}, protection{"GPT", image.Signed}},
		"signed, beside":  {func(o *Output) { o.Protection, o.Key, o.Certificate = Beside, key, certificate }, []string{"web.raw", "web.roothash", "web.roothash.p7s", "web.verity"}, protection{"", image.Signed}},
		"no bound, owned": {func(o *Output) { o.NotAfter, o.RootOwned = time.Time{}, false }, []string{"web.raw"}, protection{"", image.Unprotected}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := output(Naked)
			c.change(&o)
			var done, total int64
			o.Progress = func(d, of int64) { done, total = d, of }
			r, err := Write(t.Context(), tree, dir+"/web.raw", o)
			must(t, err)
			if got := files(t, dir); !slices.Equal(got, c.files) {
				t.Errorf("%q, not %q", got, c.files)
			}
			if len(r.Files) != len(c.files) || r.Files[0] != dir+"/web.raw" || done != total || total == 0 {
				t.Errorf("%+v, %d of %d bytes", r, done, total)
			}
			if s, err := os.Stat(dir + "/web.raw"); err != nil || s.Size() != r.Size {
				t.Error(s, err)
			}
			c.protection.check(t, dir, keys+"/vendor.crt", o.Format, r)
		})
	}
}

// protection is how an image is to be built up.
type protection struct {
	table string
	root  image.Protection
}

func (p protection) check(t *testing.T, dir, certificate string, f Format, r *Result) {
	t.Helper()
	i, err := image.Open(t.Context(), dir, "/web.raw", image.WithTrust(dir, certificate))
	must(t, err)
	defer i.Close()
	root := i.Layout.Parts[slices.IndexFunc(i.Layout.Parts, func(p image.Part) bool { return p.Designator == "root" })]
	if i.Layout.Table != p.table || root.Protection != p.root || root.FileSystem != string(f) || root.Writable {
		t.Errorf("%q, %+v", i.Layout.Table, root)
	}
	if p.table != "" && root.Label != "web_1" {
		t.Errorf("label %q", root.Label)
	}
	v := i.Layout.Verity
	switch p.root {
	case image.Unprotected:
		if v != nil || r.RootHash != nil {
			t.Errorf("%+v, %x", v, r.RootHash)
		}
	default:
		must(t, i.Verify(t.Context()))
		if !bytes.Equal(v.RootHash, r.RootHash) || (v.Signer != nil) != (p.root == image.Signed) {
			t.Errorf("%+v, %x", v, r.RootHash)
		}
	}
	for name, want := range map[string]string{"/usr/bin/web": strings.Repeat("a program\n", 1000), "/srv/pages/again.html": "hello", "/etc/machine-id": ""} {
		if got, err := image.ReadFile(i.Tree, name[1:], 1<<20); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if s, err := i.Stat("var/lib/web"); err != nil || !s.IsDir() {
		t.Error(err)
	}
}

// The same input gives the same bytes, whoever owns it, whenever it was made,
// however it may be read, and whatever the umask.
func TestSameBytes(t *testing.T) { // not parallel: the umask is the process's
	var images [3]map[string][]byte
	for i, mask := range []int{0o022, 0o077, 0o002} {
		old := syscall.Umask(mask)
		defer syscall.Umask(old)
		sources, r := newService(t)
		if i > 0 {
			must(t, os.Chmod(sources+"/pages/index.html", 0o640), os.Chtimes(sources+"/web", time.Now(), time.Unix(int64(i)*1000, 0)))
			if os.Geteuid() == 0 {
				must(t, os.Chown(sources+"/web", 1234, 99), os.Chown(sources+"/pages", 5, 5))
			}
		}
		images[i] = map[string][]byte{}
		for _, p := range []Protection{Naked, Partitions, Beside, "erofs"} {
			dir := t.TempDir()
			o := output(p)
			if p == "erofs" {
				o.Protection, o.Format = Naked, Erofs
			}
			_, err := Write(t.Context(), newTree(t, r), dir+"/web.raw", o)
			must(t, err)
			for _, f := range files(t, dir) {
				b, err := os.ReadFile(filepath.Join(dir, f))
				must(t, err)
				images[i][string(p)+" "+f] = b
				if s, err := os.Stat(filepath.Join(dir, f)); err != nil || s.Mode() != fs.FileMode(0o666&^mask) {
					t.Errorf("%s: mode %v, %v", f, s.Mode(), err)
				}
			}
		}
	}
	for name, b := range images[0] {
		if !bytes.Equal(b, images[1][name]) || !bytes.Equal(b, images[2][name]) {
			t.Errorf("%s is not always the same", name)
		}
	}
	if len(images[0]) != 6 {
		t.Error(len(images[0]))
	}
}

func TestWriteDirectory(t *testing.T) {
	t.Parallel()
	_, r := newService(t)
	tree := newTree(t, r)
	must(t, tree.Mkdir("/locked", 0o500), tree.WriteFile("/locked/x", []byte("x"), fs.ModeSetuid|0o755))
	dir := t.TempDir()
	o := output(Naked)
	o.Format = Directory
	r1, err := Write(t.Context(), tree, dir+"/web_1", o)
	must(t, err)
	i, err := image.Open(t.Context(), dir, "/web_1")
	must(t, err)
	defer i.Close()
	for name, want := range map[string]fs.FileMode{
		"/locked": fs.ModeDir | 0o500, "/locked/x": fs.ModeSetuid | 0o755, "/tmp": fs.ModeDir | fs.ModeSticky | 0o777, "/etc/machine-id": 0o444,
		"/etc/os-release": fs.ModeSymlink | 0o777, "/usr/bin/web": 0o755, "/srv/pages/index.html": 0o644,
	} {
		s, err := i.Lstat(name[1:])
		if err != nil || s.Mode() != want || want&fs.ModeSymlink == 0 && s.ModTime().After(o.NotAfter) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	if r1.Content == 0 || r1.Inodes < 20 || r1.RootHash != nil {
		t.Errorf("%+v", r1)
	}
	if _, err := Write(t.Context(), tree, dir+"/web_1", o); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	o.Replace = true
	if _, err := Write(t.Context(), tree, dir+"/web_1", o); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "a directory is not replaced") {
		t.Error(err)
	}
	write(t, dir+"/file", "mine")
	if _, err := Write(t.Context(), tree, dir+"/file", o); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	// Nothing stays, though some of it may not be written to.
	o.Replace = false
	tree.top.children["pipe"] = &node{}
	tree.top.children["pipe"].Mode = fs.ModeNamedPipe
	if _, err := Write(t.Context(), tree, dir+"/other", o); !errors.Is(err, ErrSpec) {
		t.Error(err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"file", "web_1"}) {
		t.Errorf("%q", got)
	}
}

// broken is a tree with a file that can't be read to its end.
func broken(t *testing.T) *Tree {
	t.Helper()
	tree := New()
	must(t, tree.file("/x", 1<<20, 0o644, func() (io.ReadCloser, error) { return nil, errors.New("no disk") }))
	return tree
}

// What goes wrong leaves nothing behind, and what was there stays.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	key, certificate := newKey(t, t.TempDir())
	other, _ := newKey(t, t.TempDir())
	_, r := newService(t)
	good := newTree(t, r)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		tree   *Tree
		ctx    context.Context
		change func(*Output)
		want   string
	}{
		"source":       {broken(t), nil, func(*Output) {}, "no disk"},
		"directory":    {broken(t), nil, func(o *Output) { o.Format = Directory; o.Replace = false }, "no disk"},
		"cancel":       {good, cancelled, func(*Output) {}, "context canceled"},
		"cancel, dir":  {good, cancelled, func(o *Output) { o.Format = Directory; o.Replace = false }, "context canceled"},
		"key":          {good, nil, func(o *Output) { o.Protection, o.Key, o.Certificate = Beside, other, certificate }, "not that of the certificate"},
		"key, GPT":     {good, nil, func(o *Output) { o.Protection, o.Key, o.Certificate = Partitions, other, certificate }, "not that of the certificate"},
		"architecture": {good, nil, func(o *Output) { o.Protection, o.Architecture = Partitions, "pdp11" }, `for the architecture "pdp11"`},
		"label":        {good, nil, func(o *Output) { o.Protection, o.Label = Partitions, strings.Repeat("x", 40) }, "label"},
		"level":        {good, nil, func(o *Output) { o.Level = 99 }, "level"},
		"block size":   {good, nil, func(o *Output) { o.BlockSize = 5000 }, "block"},
		"format":       {good, nil, func(o *Output) { o.Format = "ext4" }, `no format is called "ext4"`},
		"compressor":   {good, nil, func(o *Output) { o.Compressor = "rar" }, `no compressor is called "rar"`},
		"erofs":        {good, nil, func(o *Output) { o.Format, o.Compressor = Erofs, "xz" }, "only squashfs is compressed"},
		"tree of dir":  {good, nil, func(o *Output) { o.Format, o.Protection = Directory, Beside }, "a directory has no hash tree"},
		"naked":        {good, nil, func(o *Output) { o.Key, o.Certificate = key, certificate }, "there is to be none"},
		"half a key":   {good, nil, func(o *Output) { o.Protection, o.Key = Beside, key }, "belong together"},
		"certificate":  {good, nil, func(o *Output) { o.Certificate = certificate }, "belong together"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			o := output(Naked)
			o.Replace = true
			c.change(&o)
			target := "/web"
			if o.Format != Directory {
				target = "/web.raw"
				write(t, dir+"/web.raw", "old")
			}
			before := files(t, dir)
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			r, err := Write(ctx, c.tree, dir+target, o)
			if r != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v", r, err)
			}
			if got := files(t, dir); !slices.Equal(got, before) {
				t.Errorf("there is %q", got)
			}
			if o.Format != Directory {
				if b, err := os.ReadFile(dir + "/web.raw"); err != nil || string(b) != "old" {
					t.Errorf("%q, %v", b, err)
				}
			}
		})
	}
	if _, err := Write(t.Context(), good, t.TempDir()+"/web", output(Naked)); !errors.Is(err, ErrSpec) {
		t.Error(err)
	}
	if _, err := Write(t.Context(), good, t.TempDir()+"/none/web.raw", output(Naked)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// An image and the files beside it are one: neither is written over unasked, and
// none of an older image stays beside a new one.
func TestBeside(t *testing.T) {
	t.Parallel()
	_, r := newService(t)
	tree := newTree(t, r)
	key, certificate := newKey(t, t.TempDir())
	for _, there := range []string{"web.raw", "web.verity", "web.roothash", "web.roothash.p7s", "web.usrhash"} {
		for _, p := range []Protection{Naked, Beside} {
			dir := t.TempDir()
			write(t, filepath.Join(dir, there), "old")
			_, err := Write(t.Context(), tree, dir+"/web.raw", output(p))
			if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), there) {
				t.Errorf("%s: %v", there, err)
			}
			if got := files(t, dir); !slices.Equal(got, []string{there}) {
				t.Errorf("%q", got)
			}
		}
	}
	dir := t.TempDir()
	for _, step := range []struct {
		change func(*Output)
		want   []string
	}{
		{func(o *Output) { o.Protection, o.Key, o.Certificate = Beside, key, certificate }, []string{"web.raw", "web.roothash", "web.roothash.p7s", "web.verity"}},
		{func(o *Output) { o.Protection = Beside }, []string{"web.raw", "web.roothash", "web.verity"}},
		{func(o *Output) {}, []string{"web.raw"}},
	} {
		o := output(Naked)
		o.Replace = true
		step.change(&o)
		_, err := Write(t.Context(), tree, dir+"/web.raw", o)
		must(t, err)
		if got := files(t, dir); !slices.Equal(got, step.want) {
			t.Errorf("%q", got)
		}
		i, err := image.Open(t.Context(), dir, "/web.raw")
		must(t, err)
		must(t, i.Close())
	}
}

// A file that appears while an image is written is not lost, and nothing of the
// image is left beside it.
func TestOthersFile(t *testing.T) {
	t.Parallel()
	for _, there := range []string{"web.raw", "web.verity", "web.roothash"} {
		_, r := newService(t)
		tree := newTree(t, r)
		dir := t.TempDir()
		o := output(Beside)
		o.Progress = func(int64, int64) {
			if _, err := os.Lstat(filepath.Join(dir, there)); err != nil {
				write(t, filepath.Join(dir, there), "another's")
			}
		}
		if _, err := Write(t.Context(), tree, dir+"/web.raw", o); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", there, err)
		}
		b, err := os.ReadFile(filepath.Join(dir, there))
		if got := files(t, dir); err != nil || string(b) != "another's" || len(got) != 1 {
			t.Errorf("%s: %q, %q, %v", there, got, b, err)
		}
	}
}

// An installed system keeps its modes, attributes and hard links.
func TestFromTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	system := dir + "/system"
	write(t, system+"/usr/lib/os-release", "ID=debian")
	write(t, system+"/usr/bin/a", "a")
	write(t, system+"/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	must(t, os.Chmod(system+"/usr/bin/a", fs.ModeSetuid|0o711), os.Link(system+"/usr/bin/a", system+"/usr/bin/b"))
	attributes := syscall.Setxattr(system+"/usr/bin/a", "user.note", []byte("x"), 0) == nil
	write(t, dir+"/web.service", "[Service]\nStateDirectory=web\n")
	r := &Recipe{Spec: Spec{Name: "web", Units: []string{dir + "/web.service"}}, FromTree: system}
	tree := newTree(t, r)
	o := output(Naked)
	o.RootOwned = false
	_, err := Write(t.Context(), tree, dir+"/web.raw", o)
	must(t, err)
	i, err := image.Open(t.Context(), dir, "/web.raw")
	must(t, err)
	defer i.Close()
	for _, name := range []string{"/usr/bin/a", "/usr/bin/b"} {
		s, err := i.Stat(name[1:])
		must(t, err)
		if inode, ok := s.Sys().(*squashfs.Stat); !ok || inode.Links != 2 {
			t.Errorf("%s: %+v", name, s.Sys())
		}
		if s.Mode() != fs.ModeSetuid|0o711 {
			t.Errorf("%s: %v", name, s.Mode())
		}
		if v, ok, err := i.Attribute(name[1:], "user.note"); attributes && (!ok || string(v) != "x") {
			t.Errorf("%s: %q, %v", name, v, err)
		}
	}
	text, err := image.ReadFile(i.Tree, "usr/lib/os-release", 1<<10)
	if err != nil || string(text) != "ID=debian\nIMAGE_ID=web\nPORTABLE_PREFIXES=web\n" {
		t.Errorf("%q, %v", text, err)
	}
	if id, err := image.ReadFile(i.Tree, "etc/machine-id", 100); err != nil || len(id) != 0 {
		t.Errorf("%q, %v", id, err)
	}
}

func TestRecipeRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newKey(t, dir)
	write(t, dir+"/empty", "")
	for want, r := range map[string]*Recipe{
		"has a name":               {},
		"is no place for a hash":   {Verity: "somewhere", File: "x"},
		"no PEM private key":       {KeyFile: dir + "/empty", File: "x"},
		"no PEM":                   {Certificate: dir + "/empty", File: "x"},
		dir + ": ":                 {Certificate: dir, File: "x"},
		"none.pem: no such":        {KeyFile: dir + "/none.pem", File: "x"},
		"none.crt: no such file o": {Certificate: dir + "/none.crt", File: "x"},
	} {
		if _, _, err := r.Output(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for want, r := range map[string]*Recipe{
		"one system, not two":              {FromTree: dir, FromOCI: dir},
		"none is no folder with a Go prog": {Go: []File{{dir + "/none", ""}}},
		"empty is no folder with a Go":     {Go: []File{{dir + "/empty", ""}}},
		"compiling " + dir + ": ":          {Go: []File{{dir, ""}}},
		"none: ":                           {FromTree: dir + "/none"},
	} {
		if tree, _, err := r.Tree(t.Context(), Environment{Architecture: "amd64", Go: "false"}); tree != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestOutputNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newKey(t, dir)
	type named struct {
		File, Label string
		Format      Format
		Protection  Protection
	}
	for _, c := range []struct {
		recipe Recipe
		want   named
	}{
		{Recipe{Spec: Spec{Name: "a"}}, named{"a.raw", "a", Squashfs, Naked}},
		{Recipe{Spec: Spec{Name: "a", Version: "2"}}, named{"a_2.raw", "a_2", Squashfs, Naked}},
		{Recipe{Spec: Spec{Name: "a", Version: "2"}, Format: "directory"}, named{"a_2", "a_2", Directory, Naked}},
		{Recipe{File: "x/b_1.raw"}, named{"x/b_1.raw", "b_1", Squashfs, Naked}},
		{Recipe{File: "b.raw", Verity: "beside"}, named{"b.raw", "b", Squashfs, Beside}},
		{Recipe{File: "b.raw", KeyFile: dir + "/key.pem", Certificate: dir + "/vendor.crt"}, named{"b.raw", "b", Squashfs, Partitions}},
	} {
		name, o, err := c.recipe.Output()
		if got := (named{name, o.Label, o.Format, o.Protection}); err != nil || got != c.want {
			t.Errorf("%+v: %s, %v", c.recipe, cmp.Diff(c.want, got), err)
		}
	}
}

// Each original finds what we write to be in order.
func TestPeers(t *testing.T) {
	t.Parallel()
	_, r := newService(t)
	keys := t.TempDir()
	key, certificate := newKey(t, keys)
	tree := newTree(t, r)
	dir := t.TempDir()
	signed := output(Partitions)
	signed.Key, signed.Certificate = key, certificate
	written, err := Write(t.Context(), tree, dir+"/gpt.raw", signed)
	must(t, err)
	signed.Protection = Beside
	beside, err := Write(t.Context(), tree, dir+"/web.raw", signed)
	must(t, err)
	other := output(Naked)
	other.Format = Erofs
	_, err = Write(t.Context(), tree, dir+"/erofs.raw", other)
	must(t, err)
	t.Run("fsck.erofs", func(t *testing.T) {
		t.Parallel()
		run(t, need(t, "fsck.erofs"), dir+"/erofs.raw")
	})
	t.Run("sgdisk", func(t *testing.T) {
		t.Parallel()
		out := run(t, need(t, "sgdisk"), "-v", dir+"/gpt.raw")
		if !strings.Contains(out, "No problems found") || strings.Contains(strings.ToLower(out), "warning") {
			t.Error(out)
		}
	})
	t.Run("veritysetup", func(t *testing.T) {
		t.Parallel()
		tool := need(t, "veritysetup")
		run(t, tool, "verify", dir+"/web.raw", dir+"/web.verity", hex.EncodeToString(beside.RootHash))
		i, err := image.Open(t.Context(), dir, "/gpt.raw")
		must(t, err)
		defer i.Close()
		whole, err := os.ReadFile(dir + "/gpt.raw")
		must(t, err)
		for _, p := range i.Layout.Parts {
			write(t, keys+"/"+p.Designator, string(whole[p.Offset:p.Offset+p.Size]))
		}
		run(t, tool, "verify", keys+"/root", keys+"/root-verity", hex.EncodeToString(written.RootHash))
	})
	t.Run("unsquashfs", func(t *testing.T) {
		t.Parallel()
		run(t, need(t, "unsquashfs"), "-no-progress", "-d", keys+"/out", dir+"/web.raw")
		if b, err := os.ReadFile(keys + "/out/srv/pages/index.html"); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("openssl", func(t *testing.T) {
		t.Parallel()
		content := keys + "/content"
		write(t, content, hex.EncodeToString(beside.RootHash))
		run(t, need(t, "openssl"), "smime", "-verify", "-binary", "-inform", "der", "-in", dir+"/web.roothash.p7s", "-content", content,
			"-certfile", keys+"/vendor.crt", "-nointern", "-noverify", "-out", keys+"/verified")
	})
}
