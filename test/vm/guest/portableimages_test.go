//go:build vm

package guest

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// portableDir holds the portable images. They are made once per boot.
const portableDir = "/srv/portable"

// moreUnits are units of the images besides those of examples/walkthrough: of the
// other types, a template, and one that is not the service's own.
var moreUnits = map[string]string{
	"walkthrough-go@.service":   "[Service]\nExecStart=/usr/bin/walkthrough-go -idle-timeout=%i\n",
	"walkthrough-go-all.target": "[Unit]\nWants=walkthrough-go.socket\n",
	"other.service":             "[Service]\nExecStart=/usr/bin/walkthrough-go\n",
}

// makeTree makes the tree of the service in some version. One unit is called by it.
func makeTree(t testing.TB, dir, version string) {
	t.Helper()
	makeDir(t, filepath.Dir(dir))
	run(t, "cp", "-r", "/share/walkthrough", dir)
	release := "ID=walkthrough-go\nVERSION_ID=" + version + "\nPRETTY_NAME='The walkthrough'\n" +
		"PORTABLE_PREFIXES='walkthrough-go walkthrough-go.socket walkthrough-go.service walkthrough-go-1'\n"
	makeFile(t, filepath.Join(dir, "usr/lib/os-release"), release)
	if err := os.Symlink("../usr/lib/os-release", filepath.Join(dir, "etc/os-release")); err != nil {
		t.Fatal(err)
	}
	units := filepath.Join(dir, "usr/lib/systemd/system")
	makeFile(t, filepath.Join(units, "walkthrough-go-"+version+".timer"), "[Timer]\nOnCalendar=2100-01-01\nUnit=walkthrough-go.service\n")
	for name, text := range moreUnits {
		makeFile(t, filepath.Join(units, name), text)
	}
}

// makeExtension makes a tree with one more unit, which needs the extension to run.
func makeExtension(t testing.TB, dir string) {
	t.Helper()
	makeFile(t, filepath.Join(dir, "usr/lib/extension-release.d/extension-release.extra_1"),
		"ID=walkthrough-go\nVERSION_ID=1\nSYSEXT_IMAGE_ID=extra\nSYSEXT_IMAGE_VERSION=1\n")
	makeFile(t, filepath.Join(dir, "usr/lib/systemd/system/walkthrough-go-extra.service"),
		"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/extra --version\n")
	makeDir(t, filepath.Join(dir, "usr/bin"))
	run(t, "install", "-m", "755", "/usr/sbin/ldconfig", filepath.Join(dir, "usr/bin/extra")) // a small static program
}

func makeDir(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func makeFile(t testing.TB, path, text string) {
	t.Helper()
	makeDir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A form is a way to pack a tree.
type form struct {
	name string // its directory in portableDir
	file string // the image in it
	pack func(t testing.TB, tree, out string)
}

// path is where the image is.
func (f form) path() string { return filepath.Join(portableDir, f.name, f.file) }

// directory tells whether the image is no file.
func (f form) directory() bool { return f.name == "directory" }

// args are the image and, where its name doesn't say it, the prefix of its units.
func (f form) args() []string {
	if f.name == "versions" {
		return []string{f.path(), "walkthrough-go"}
	}
	return []string{f.path()}
}

// forms are all that an image may come in.
var forms = []form{
	{"directory", "walkthrough-go_1", copyTree},
	{"squashfs", "walkthrough-go_1.raw", packSquashfs},
	{"erofs", "walkthrough-go_1.raw", packErofs},
	{"ext4", "walkthrough-go_1.raw", packExt4},
	{"gpt", "walkthrough-go_1.raw", packGPT},
	{"signed", "walkthrough-go_1.raw", packSigned},
	{"sidecar", "walkthrough-go_1.raw", packSidecar},
	{"versions", "walkthrough-go.raw.v", packVersions},
}

// formOf returns the form of a name.
func formOf(t testing.TB, name string) form {
	t.Helper()
	for _, f := range forms {
		if f.name == name {
			return f
		}
	}
	t.Fatalf("no form %s", name)
	return form{}
}

var portableImages struct {
	sync.Mutex
	made bool
}

// images makes the images unless they are there: the forms, a second version as
// directory and squashfs, and an extension as both.
func images(t testing.TB) {
	t.Helper()
	portableImages.Lock()
	defer portableImages.Unlock()
	if portableImages.made {
		return
	}
	makeDir(t, portableDir)
	for _, version := range []string{"1", "2"} {
		makeTree(t, filepath.Join(portableDir, "tree", version), version)
	}
	extra := filepath.Join(portableDir, "extension/extra_1")
	makeExtension(t, extra)
	packSquashfs(t, extra, extra+".raw")
	for _, f := range forms {
		makeDir(t, filepath.Dir(f.path()))
		f.pack(t, filepath.Join(portableDir, "tree/1"), f.path())
	}
	for _, name := range []string{"directory", "squashfs"} {
		f := formOf(t, name)
		f.pack(t, filepath.Join(portableDir, "tree/2"), second(f))
	}
	portableImages.made = true
}

// second is where the second version of a form is.
func second(f form) string { return strings.Replace(f.path(), "_1", "_2", 1) }

func copyTree(t testing.TB, tree, out string) { run(t, "cp", "-a", tree, out) }

func packSquashfs(t testing.TB, tree, out string) {
	run(t, "mksquashfs", tree, out, "-noappend", "-quiet", "-no-progress", "-all-root", "-comp", "zstd", "-Xcompression-level", "1")
}

func packErofs(t testing.TB, tree, out string) {
	run(t, "mkfs.erofs", "--quiet", "--all-root", out, tree)
}

func packExt4(t testing.TB, tree, out string) {
	run(t, "truncate", "-s", "32M", out)
	run(t, "mkfs.ext4", "-q", "-F", "-d", tree, out)
}

// packSidecar has the hash tree and the root hash in files of their own.
func packSidecar(t testing.TB, tree, out string) {
	packSquashfs(t, tree, out)
	base := strings.TrimSuffix(out, ".raw")
	makeFile(t, base+".roothash", makeVerity(t, out, base+".verity"))
}

// makeVerity writes the hash tree of a file and returns the root hash.
func makeVerity(t testing.TB, data, tree string) string {
	t.Helper()
	for line := range strings.Lines(run(t, "veritysetup", "format", data, tree)) {
		if hash, ok := strings.CutPrefix(line, "Root hash:"); ok {
			return strings.TrimSpace(hash)
		}
	}
	t.Fatal("veritysetup tells no root hash")
	return ""
}

// packGPT has a partition for the data and one for the hash tree, found by their
// types and by the root hash in their names.
func packGPT(t testing.TB, tree, out string) {
	const sector, megabyte = 512, 1 << 20
	data, hashes := out+".data", out+".hashes"
	packSquashfs(t, tree, data)
	hash := makeVerity(t, data, hashes)
	var start, sectors [2]int64
	end := int64(megabyte)
	for i, name := range []string{data, hashes} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		start[i], sectors[i] = end/sector, (info.Size()+sector-1)/sector
		end += (info.Size() + megabyte - 1) / megabyte * megabyte
	}
	run(t, "truncate", "-s", strconv.FormatInt(end+megabyte, 10), out)
	run(t, "sgdisk",
		fmt.Sprintf("--new=1:%d:%d", start[0], start[0]+sectors[0]-1), "--typecode=1:4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "--partition-guid=1:"+uuidOf(t, hash[:32]),
		fmt.Sprintf("--new=2:%d:%d", start[1], start[1]+sectors[1]-1), "--typecode=2:2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "--partition-guid=2:"+uuidOf(t, hash[32:]),
		out)
	for i, name := range []string{data, hashes} {
		run(t, "dd", "if="+name, "of="+out, "bs=512", "conv=notrunc,sparse", "status=none", fmt.Sprintf("seek=%d", start[i]))
		run(t, "rm", name)
	}
	makeFile(t, strings.TrimSuffix(out, ".raw")+".roothash", hash)
}

func uuidOf(t testing.TB, digits string) string {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 16 {
		t.Fatalf("%q are not the digits of a UUID", digits)
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// packSigned is what systemd's own builder makes: erofs, hash tree and signature
// in partitions. The machine trusts the key.
func packSigned(t testing.TB, tree, out string) {
	key, certificate := filepath.Join(portableDir, "key.pem"), "/etc/verity.d/portable.crt"
	makeDir(t, filepath.Dir(certificate))
	run(t, "openssl", "req", "-batch", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=machine",
		"-keyout", key, "-out", certificate)
	run(t, "systemd-repart", "--make-ddi=portable", "--offline=yes", "--private-key="+key, "--certificate="+certificate,
		"--copy-source="+tree, out)
}

// packVersions has another version beside the one that counts.
func packVersions(t testing.TB, tree, out string) {
	makeDir(t, out)
	packSquashfs(t, tree, filepath.Join(out, "walkthrough-go_1.raw"))
	makeFile(t, filepath.Join(out, "walkthrough-go_0.9.raw"), "no image at all")
}
