package image

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lockport/lockport/internal/gpt"
)

// peer finds one of the originals. The test is skipped where there is none, but
// fails where CI is set.
func peer(t testing.TB, name string) string {
	t.Helper()
	for _, n := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if path, err := exec.LookPath(n); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is needed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// run runs an original in a folder and returns what it prints.
func run(t testing.TB, dir string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(peer(t, argv[0]), argv[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// sampleTree has something of everything that an image is asked for.
func sampleTree(t *testing.T) (dir string, noise []byte) {
	t.Helper()
	dir = t.TempDir()
	noise = make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(i * i >> 5)
	}
	write(t, filepath.Join(dir, "usr/lib/os-release"), "ID=x\n")
	write(t, filepath.Join(dir, "usr/lib/noise"), string(noise))
	must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
	must(t, os.Symlink("/usr/lib/os-release", filepath.Join(dir, "etc/os-release")))
	return dir, noise
}

// checkSample wants an image to have that tree.
func checkSample(t *testing.T, i *Image, noise []byte) {
	t.Helper()
	name := "etc/os-release"
	if i.Layout.part("root") == nil {
		name = "lib/os-release" // through a link that the service manager makes
	}
	text, err := ReadFile(i, name, 100)
	if err != nil || string(text) != "ID=x\n" {
		t.Errorf("os-release: %q, %v", text, err)
	}
	have, err := fs.ReadFile(i, "usr/lib/noise")
	if err != nil || !bytes.Equal(have, noise) {
		t.Errorf("noise: %v", err)
	}
}

// Images whose every part the originals have made.
func TestImagesOfOriginals(t *testing.T) {
	t.Parallel()
	tree, noise := sampleTree(t)
	formats := map[string][]string{
		"squashfs": {"mksquashfs", tree, "data", "-quiet", "-no-progress"},
		"erofs":    {"mkfs.erofs", "data", tree},
		"ext4":     {"mkfs.ext4", "-q", "-d", tree, "data", "8M"},
	}
	for name, mkfs := range formats {
		for _, kind := range []string{"naked", "naked with verity", "root", "root with verity", "usr", "usr with verity"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				src := tree
				if strings.HasPrefix(kind, "usr") {
					src = filepath.Join(tree, "usr")
				}
				argv := append([]string(nil), mkfs...)
				for i := range argv {
					argv[i] = strings.ReplaceAll(argv[i], tree, src)
				}
				run(t, dir, argv...)
				img := build(t, dir, kind)
				i, err := Open(context.Background(), "/", img)
				must(t, err)
				defer i.Close()
				p := i.Layout.part(strings.Fields(strings.ReplaceAll(kind, "naked", "root"))[0])
				if p == nil || p.FileSystem != name || p.Writable != (name == "ext4" && !strings.Contains(kind, "verity")) {
					t.Errorf("%+v", i.Layout)
				}
				checkSample(t, i, noise)
				if err := i.Verify(context.Background()); (err == nil) != strings.Contains(kind, "verity") {
					t.Error(err)
				}
			})
		}
	}
}

// build makes an image of the file system in the file data, and returns its path.
func build(t *testing.T, dir, kind string) string {
	t.Helper()
	img := filepath.Join(dir, "img.raw")
	if strings.HasPrefix(kind, "naked") {
		must(t, os.Rename(filepath.Join(dir, "data"), img))
		if kind != "naked" {
			run(t, dir, "veritysetup", "format", "--root-hash-file=img.roothash", "img.raw", "img.verity")
		}
		return img
	}
	sgdisk := []string{"sgdisk", "-Z", "-a", "8", "-n", "1:0:+" + kib(t, dir, "data"), "-t", "1:" + typeCode(t, kind, false), "img.raw"}
	if strings.Contains(kind, "verity") {
		run(t, dir, "veritysetup", "format", "--root-hash-file=hash", "data", "tree")
		text, err := os.ReadFile(filepath.Join(dir, "hash"))
		must(t, err)
		sgdisk = append(sgdisk[:len(sgdisk)-1], "-u", "1:"+dashed(text[:32]), "-n", "2:0:+"+kib(t, dir, "tree"), "-t", "2:"+typeCode(t, kind, true), "-u", "2:"+dashed(text[32:64]), "img.raw")
	}
	must(t, os.WriteFile(img, nil, 0o644))
	must(t, os.Truncate(img, 32<<20))
	run(t, dir, sgdisk...)
	for n, name := range []string{"data", "tree"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			poke(t, img, b, firstSector(t, run(t, dir, "sgdisk", "-i", strconv.Itoa(n+1), "img.raw"))*512)
		}
	}
	return img
}

// typeCode is the type of a partition for this machine.
func typeCode(t *testing.T, kind string, tree bool) string {
	t.Helper()
	name, _, _ := strings.Cut(kind, " ")
	d := gpt.Designator(name)
	if tree {
		d, _ = d.Verity()
	}
	u, ok := gpt.TypeOf(gpt.Kind{Designator: d, Architecture: native()})
	if !ok {
		t.Fatalf("no type for %s", d)
	}
	return u.String()
}

// kib is the size of a file for sgdisk.
func kib(t *testing.T, dir, name string) string {
	t.Helper()
	s, err := os.Stat(filepath.Join(dir, name))
	must(t, err)
	return strconv.FormatInt((s.Size()+1023)/1024, 10) + "K"
}

// dashed is a UUID of 32 hex digits.
func dashed(hex []byte) string {
	return strings.Join([]string{string(hex[:8]), string(hex[8:12]), string(hex[12:16]), string(hex[16:20]), string(hex[20:32])}, "-")
}

func firstSector(t *testing.T, text string) int64 {
	t.Helper()
	_, rest, ok := strings.Cut(text, "First sector: ")
	n, err := strconv.ParseInt(strings.Fields(rest + " ")[0], 10, 64)
	if !ok || err != nil {
		t.Fatal(text)
	}
	return n
}

func poke(t *testing.T, name string, b []byte, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(b, at)
	must(t, errors.Join(err, f.Close()))
}

// systemd-repart makes all of an image: file system, hash tree and signature. Of
// version 252 it needs root for it.
func TestImageOfSystemdRepart(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("systemd-repart needs root")
	}
	tree, noise := sampleTree(t)
	dir := t.TempDir()
	common := "VerityMatchKey=root\nLabel=a_1\n"
	write(t, filepath.Join(dir, "defs/1.conf"), "[Partition]\nType=root\nFormat=squashfs\nCopyFiles="+tree+":/\nVerity=data\n"+common)
	write(t, filepath.Join(dir, "defs/2.conf"), "[Partition]\nType=root-verity\nVerity=hash\n"+common)
	write(t, filepath.Join(dir, "defs/3.conf"), "[Partition]\nType=root-verity-sig\nVerity=signature\n"+common)
	run(t, dir, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "vendor.crt", "-subj", "/CN=vendor", "-days", "2")
	run(t, dir, "systemd-repart", "--empty=create", "--size=auto", "--definitions=defs", "--private-key=key.pem", "--certificate=vendor.crt", "--dry-run=no", "a.raw")
	p, err := ParsePolicy("root=signed")
	must(t, err)
	i, err := Open(context.Background(), "/", filepath.Join(dir, "a.raw"), WithPolicy(p), WithTrust(dir, filepath.Join(dir, "vendor.crt")))
	must(t, err)
	defer i.Close()
	checkSample(t, i, noise)
	if err := i.Verify(context.Background()); err != nil || i.Layout.Verity.Signer.Subject.CommonName != "vendor" {
		t.Error(err, i.Layout.Verity)
	}
}
