package image

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/internal/gpt"
	"github.com/lockport/lockport/internal/verity"
)

// squash is a small image with a usr/lib and an etc.
func squash(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../internal/squashfs/testdata/zstd.sqfs")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, -len(b)&4095)...)
}

// part is a partition to be made.
type part struct {
	kind       gpt.Designator
	data       []byte
	label      string
	uuid       []byte
	attributes gpt.Attributes
	arch       string
}

func native() string { return gpt.Architecture(runtime.GOARCH) }

// disk is an image with a GPT.
func disk(t testing.TB, parts ...part) []byte {
	t.Helper()
	table := &gpt.Table{UUID: gpt.UUID{1}, SectorSize: 512}
	for i, p := range parts {
		arch := p.arch
		if data, _, _ := strings.Cut(string(p.kind), "-"); arch == "" && (data == "root" || data == "usr") {
			arch = native()
		}
		kind, ok := gpt.TypeOf(gpt.Kind{Designator: p.kind, Architecture: arch})
		if !ok {
			t.Fatalf("no type for %s", p.kind)
		}
		id := gpt.UUID{2, byte(i)}
		copy(id[:], p.uuid)
		table.Partitions = append(table.Partitions, gpt.Partition{
			Number: i + 1, Type: kind, UUID: id, Label: p.label, Attributes: p.attributes, Size: int64(len(p.data)),
		})
	}
	size, err := table.Place(1 << 12)
	if err != nil {
		t.Fatal(err)
	}
	b := ram(make([]byte, size))
	if err := table.Write(b, size); err != nil {
		t.Fatal(err)
	}
	for i, p := range table.Partitions {
		copy(b[p.Offset:], parts[i].data)
	}
	return b
}

type ram []byte

func (r ram) WriteAt(p []byte, off int64) (int, error) { return copy(r[off:], p), nil }

// growing is a file in memory.
type growing struct{ b []byte }

func (g *growing) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(g.b) {
		g.b = append(g.b, make([]byte, need-len(g.b))...)
	}
	return copy(g.b[off:], p), nil
}

// hashed makes the hash tree of some data.
func hashed(t testing.TB, data []byte) (tree, root []byte) {
	t.Helper()
	s := &verity.Superblock{Algorithm: "sha256", DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: uint64(len(data) / 4096), Salt: []byte("salt")}
	var out growing
	root, err := verity.Build(context.Background(), bytes.NewReader(data), &out, s, 1)
	if err != nil {
		t.Fatal(err)
	}
	return out.b, root
}

// protected are the partitions of an image with a hash tree.
func protected(t testing.TB, data []byte, of gpt.Designator, label string) (list []part, root []byte) {
	tree, root := hashed(t, data)
	name, _ := of.Verity()
	return []part{{kind: of, data: data, label: label, uuid: root[:16]}, {kind: name, data: tree, label: label, uuid: root[16:]}}, root
}

// put writes an image below a new root, and what lies beside it.
func put(t testing.TB, img []byte, beside map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "srv"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range beside {
		if err := os.WriteFile(filepath.Join(root, "srv", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "srv/a.raw"), img, 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

// look describes an image in a line for each part.
func look(t testing.TB, root string, list ...Option) (string, error) {
	t.Helper()
	i, err := Open(context.Background(), root, "/srv/a.raw", list...)
	if err != nil {
		return "", err
	}
	defer i.Close()
	var b strings.Builder
	b.WriteString(i.Layout.Table)
	for _, p := range i.Layout.Parts {
		b.WriteString(" " + p.Designator + "=" + p.FileSystem + "," + string(p.Protection))
		if p.Writable {
			b.WriteString(",rw")
		}
		if p.Grow {
			b.WriteString(",grow")
		}
	}
	if v := i.Layout.Verity; v != nil {
		b.WriteString(" hash of " + v.Of + " from " + v.Source)
		if v.Signer != nil {
			b.WriteString(" signed by " + v.Signer.Subject.CommonName)
		}
	}
	if err := fs.WalkDir(i, ".", func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
		return b.String(), err
	}
	return b.String(), nil
}

func TestLayouts(t *testing.T) {
	t.Parallel()
	data := squash(t)
	rootParts, hash := protected(t, data, gpt.Root, "")
	usrParts, _ := protected(t, data, gpt.Usr, "")
	tree, _ := hashed(t, data)
	digits := hex.EncodeToString(hash)
	swap := part{kind: gpt.Swap, data: make([]byte, 4096)}
	claim := part{kind: gpt.RootVeritySig, data: sigPartition(t, `{"rootHash":"`+digits+`","signature":"MAA="}`)}
	otherArch := "riscv64"
	for name, c := range map[string]struct {
		img    []byte
		beside map[string]string
		want   string
		fails  error
	}{
		"naked":            {data, nil, " root=squashfs,unprotected", nil},
		"naked, hash only": {data, map[string]string{"a.roothash": digits}, " root=squashfs,unprotected", nil},
		"naked, verity": {data, map[string]string{"a.roothash": digits + "\n", "a.verity": string(tree)},
			" root=squashfs,verity hash of root from /srv/a.roothash", nil},
		"naked, bad hash":   {data, map[string]string{"a.roothash": "xyz", "a.verity": string(tree)}, "", errAny},
		"naked, no hash":    {data, map[string]string{"a.roothash": "", "a.verity": string(tree)}, "", errAny},
		"naked, wrong":      {data, map[string]string{"a.roothash": strings.Repeat("11", 32), "a.verity": string(tree)}, "", verity.ErrRootHash},
		"naked, signed":     {data, map[string]string{"a.roothash": digits, "a.verity": string(tree), "a.roothash.p7s": "0\x00"}, " root=squashfs,signed hash of root from /srv/a.roothash", nil},
		"naked, not signed": {data, map[string]string{"a.roothash": digits, "a.verity": string(tree), "a.roothash.p7s": ""}, "", errAny},
		"root":              {disk(t, part{kind: gpt.Root, data: data}, swap), nil, "GPT root=squashfs,unprotected swap=,unprotected,rw", nil},
		"usr":               {disk(t, part{kind: gpt.Usr, data: data}), nil, "GPT usr=squashfs,unprotected", nil},
		"root and usr":      {disk(t, part{kind: gpt.Usr, data: data}, part{kind: gpt.Root, data: data}), nil, "GPT root=squashfs,unprotected usr=squashfs,unprotected", nil},
		"generic":           {disk(t, part{kind: gpt.Generic, data: data}), nil, "GPT root=squashfs,unprotected", nil},
		"two generic":       {disk(t, part{kind: gpt.Generic, data: data}, part{kind: gpt.Generic, data: data}), nil, "", gpt.ErrSeveral},
		"nothing":           {disk(t, swap), nil, "", gpt.ErrNoRoot},
		"root twice":        {disk(t, part{kind: gpt.Root, data: make([]byte, 4096), label: "a_1"}, part{kind: gpt.Root, data: data, label: "a_2"}), nil, "GPT root=squashfs,unprotected", nil},
		"foreign":           {disk(t, part{kind: gpt.Root, data: make([]byte, 4096), arch: otherArch}, part{kind: gpt.Root, data: data}), nil, "GPT root=squashfs,unprotected", nil},
		"hidden":            {disk(t, part{kind: gpt.Root, data: data, attributes: gpt.NoAuto}), nil, "", gpt.ErrNoRoot},
		"empty":             {disk(t, part{kind: gpt.Root, data: make([]byte, 4096)}), nil, "", ErrNotImage},
		"encrypted":         {disk(t, part{kind: gpt.Root, data: append([]byte("LUKS\xba\xbe"), make([]byte, 4090)...)}), nil, "", ErrEncrypted},
		"verity":            {disk(t, rootParts...), nil, "GPT root=squashfs,verity root-verity=DM_verity_hash,unprotected hash of root from the UUIDs of the partitions", nil},
		"verity of usr":     {disk(t, usrParts...), nil, "GPT usr=squashfs,verity usr-verity=DM_verity_hash,unprotected hash of usr from the UUIDs of the partitions", nil},
		"verity, beside": {disk(t, rootParts...), map[string]string{"a.roothash": digits},
			"GPT root=squashfs,verity root-verity=DM_verity_hash,unprotected hash of root from /srv/a.roothash", nil},
		"verity, another": {disk(t, rootParts...), map[string]string{"a.roothash": strings.Repeat("11", 32)}, "", gpt.ErrNoRoot},
		"verity twice":    {disk(t, rootParts...), map[string]string{"a.verity": string(tree)}, "", ErrNotImage},
		"tree alone":      {disk(t, rootParts[1]), nil, "", gpt.ErrMismatch},
		"signed": {disk(t, append(rootParts[:2:2], claim)...), nil,
			"GPT root=squashfs,signed root-verity=DM_verity_hash,unprotected root-verity-sig=,unprotected hash of root from the signature partition", nil},
		"signed otherwise": {disk(t, append(rootParts[:2:2], part{kind: gpt.RootVeritySig,
			data: sigPartition(t, `{"rootHash":"`+strings.Repeat("11", 32)+`","signature":"MAA="}`)})...), nil, "", verity.ErrRootHash},
		"damaged claim": {disk(t, append(rootParts[:2:2], part{kind: gpt.RootVeritySig, data: sigPartition(t, `{`)})...), nil, "", ErrNotImage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			have, err := look(t, put(t, c.img, c.beside))
			switch {
			case c.fails == errAny && err != nil:
			case !errors.Is(err, c.fails):
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

var errAny = errors.New("any error")

func sigPartition(t testing.TB, text string) []byte {
	t.Helper()
	return append([]byte(text), make([]byte, 4096-len(text))...)
}

// Each block of an image that has a hash tree is either what it was, or an error.
func TestDamageIsNoticed(t *testing.T) {
	t.Parallel()
	data := squash(t)
	list, _ := protected(t, data, gpt.Root, "")
	img := disk(t, list...)
	at := bytes.Index(img, data)
	ctx := context.Background()
	for block := 0; block < len(data); block += 4096 {
		bad := bytes.Clone(img)
		bad[at+block+100] ^= 1
		root := put(t, bad, nil)
		i, err := Open(ctx, root, "/srv/a.raw")
		var corrupt *verity.CorruptError
		if block == 0 { // the superblock is read at once
			if !errors.As(err, &corrupt) {
				t.Errorf("block 0: %v", err)
			}
			continue
		}
		must2(t, err)
		if err := i.Verify(ctx); !errors.As(err, &corrupt) || int(corrupt.Block) != block/4096 || !strings.Contains(err.Error(), "partition 1 (root)") {
			t.Errorf("block %d: %v", block/4096, err)
		}
		must2(t, i.Close())
	}
	root := put(t, img, nil)
	i, err := Open(ctx, root, "/srv/a.raw")
	must2(t, err)
	must2(t, i.Verify(ctx))
	must2(t, i.Close())
	root = put(t, data, nil)
	i, err = Open(ctx, root, "/srv/a.raw")
	must2(t, err)
	if err := i.Verify(ctx); !errors.Is(err, ErrNoVerity) {
		t.Error(err)
	}
	must2(t, i.Close())
}

func must2(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// With a root hash from elsewhere, neither the image nor what is beside it counts.
func TestRootHashGiven(t *testing.T) {
	t.Parallel()
	data := squash(t)
	list, hash := protected(t, data, gpt.Root, "")
	root := put(t, disk(t, list...), map[string]string{"a.roothash": strings.Repeat("22", 32)})
	have, err := look(t, root, WithRootHash(hash))
	if err != nil || !strings.HasSuffix(have, "from the caller") {
		t.Error(have, err)
	}
	if _, err := look(t, root, WithRootHash(bytes.Repeat([]byte{1}, 32))); !errors.Is(err, gpt.ErrNoRoot) {
		t.Error(err)
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	data := squash(t)
	list, _ := protected(t, data, gpt.Root, "")
	plain := put(t, disk(t, part{kind: gpt.Root, data: data, attributes: gpt.ReadOnly}, part{kind: gpt.Home, data: data}), nil)
	guarded := put(t, disk(t, list...), nil)
	claimed := put(t, disk(t, append(list, part{kind: gpt.RootVeritySig, data: sigPartition(t, `{"rootHash":"`+hex.EncodeToString(append(bytes.Clone(list[0].uuid), list[1].uuid...))+`","signature":"MAA="}`)})...), nil)
	for _, c := range []struct {
		policy string
		root   string
		fails  bool
		want   string
	}{
		{"*", plain, false, "GPT home=squashfs,unprotected root=squashfs,unprotected"},
		{"root=unprotected", plain, false, "GPT root=squashfs,unprotected"},
		{"root=unprotected:=absent", plain, true, ""},
		{"root=unprotected:home=absent", plain, true, ""},
		{"root=unprotected:usr=unprotected", plain, true, ""},
		{"root=unprotected+read-only-on", plain, false, "GPT root=squashfs,unprotected"},
		{"root=read-only-off", plain, true, ""},
		{"root=growfs-on", plain, true, ""},
		{"root=verity", plain, true, ""},
		{"root=encrypted+unprotected", plain, false, "GPT root=squashfs,unprotected"},
		{"root=verity", guarded, false, "GPT root=squashfs,verity root-verity=DM_verity_hash,unprotected hash of root from the UUIDs of the partitions"},
		{"root=signed", guarded, true, ""},
		{"root=signed", claimed, true, ""}, // by nobody who is trusted
		{"root=verity", claimed, false, "GPT root=squashfs,verity root-verity=DM_verity_hash,unprotected hash of root from the UUIDs of the partitions"},
		{"root=unprotected", guarded, false, "GPT root=squashfs,unprotected"},
		{"root=unprotected:=absent", guarded, true, ""},
		{"-", plain, true, ""},
		{"~", plain, true, ""},
	} {
		p, err := ParsePolicy(c.policy)
		must(t, err)
		have, err := look(t, c.root, WithPolicy(p))
		if c.fails != (err != nil) || have != c.want {
			t.Errorf("%s: %q, %v", c.policy, have, err)
		}
	}
	for _, text := range []string{"", "root", "boot=open", "root=strong", "root=verity:root=signed", "root=verity++signed", "*:*"} {
		if _, err := ParsePolicy(text); err == nil {
			t.Errorf("%q is a policy", text)
		}
	}
}

func TestCertificatesOfAHost(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, filepath.Join(root, "etc/verity.d/a.crt"), "no certificate")
	write(t, filepath.Join(root, "etc/verity.d/empty.crt"), "")
	write(t, filepath.Join(root, "etc/verity.d/other.txt"), "no certificate")
	list, err := Certificates(root)
	if len(list) != 0 || err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), "/etc/verity.d/a.crt") {
		t.Error(list, err)
	}
	called := false
	_, err = look(t, put(t, squash(t), nil), WithCertificates(func() ([]*x509.Certificate, error) { called = true; return nil, nil }))
	if err != nil || called {
		t.Error("certificates are read for an image without a signature", err)
	}
}

// A root hash from elsewhere is that of the root file system, whatever is beside
// the image: that another part has it proves nothing of what is run.
func TestRootHashIsOfRoot(t *testing.T) {
	t.Parallel()
	data := squash(t)
	list, hash := protected(t, data, gpt.Usr, "")
	img := disk(t, append(list, part{kind: gpt.Root, data: data})...)
	root := put(t, img, map[string]string{"a.usrhash": strings.Repeat("00", 32)})
	if have, err := look(t, root, WithRootHash(hash)); err == nil {
		t.Error(have)
	}
}

// What is beside an image has to be a file: a link is not copied with it, and a
// fifo would be waited for.
func TestOddHashTrees(t *testing.T) {
	t.Parallel()
	root := put(t, squash(t), nil)
	name := filepath.Join(root, "srv/a.verity")
	must2(t, syscall.Mkfifo(name, 0o600))
	if _, err := look(t, root); !errors.Is(err, ErrNotRegular) {
		t.Error(err)
	}
	must2(t, os.Remove(name))
	must2(t, os.Symlink("a.raw", name))
	if _, err := look(t, root); !errors.Is(err, ErrNotRegular) {
		t.Error(err)
	}
}
