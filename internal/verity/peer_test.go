package verity

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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

func run(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command(peer(t, name), args...).CombinedOutput()
	return string(out), err
}

func mustRun(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := run(t, name, args...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

var rootLine = regexp.MustCompile(`Root hash:\s+([0-9a-f]+)`)

func TestTreesAreVeritysetups(t *testing.T) {
	t.Parallel()
	const uuid = "00112233-4455-6677-8899-aabbccddeeff"
	for _, c := range []struct {
		algorithm  string
		data, hash int
		blocks     uint64
		salt       string
	}{
		{"sha256", 4096, 4096, 1, "salt"}, {"sha256", 4096, 4096, 2, ""}, {"sha256", 4096, 4096, 128, "0123456789abcdef0123456789abcdef"},
		{"sha256", 4096, 4096, 129, "x"}, {"sha256", 512, 512, 16, "s"}, {"sha256", 512, 512, 256, "s"}, {"sha256", 512, 512, 257, "s"},
		{"sha256", 512, 512, 5000, strings.Repeat("long", 64)}, {"sha256", 1024, 4096, 3000, "s"}, {"sha256", 4096, 1024, 3000, "s"},
		{"sha384", 512, 512, 600, "s"}, {"sha512", 512, 512, 600, ""}, {"sha512", 4096, 4096, 600, "s"}, {"sha512", 512, 512, 1, ""},
		{"sha3-256", 512, 512, 300, "s"}, {"sha3-512", 1024, 512, 70, "s"}, {"sha256", 65536, 65536, 5, "s"},
	} {
		t.Run(fmt.Sprintf("%s %d %d %d", c.algorithm, c.data, c.hash, c.blocks), func(t *testing.T) {
			t.Parallel()
			s := superblock(c.algorithm, c.data, c.hash, c.blocks, c.salt)
			id, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
			if err != nil {
				t.Fatal(err)
			}
			s.UUID = [16]byte(id)
			data, tree, root := build(t, s)
			dir := t.TempDir()
			names := []string{filepath.Join(dir, "data"), filepath.Join(dir, "tree")}
			for i, b := range []ram{data, tree} {
				if err := os.WriteFile(names[i], b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			mustRun(t, "veritysetup", "verify", names[0], names[1], hex.EncodeToString(root))

			salt := hex.EncodeToString([]byte(c.salt))
			if salt == "" {
				salt = "-"
			}
			theirs := filepath.Join(dir, "theirs")
			out := mustRun(t, "veritysetup", "format", "--hash", c.algorithm, "--salt", salt, "--uuid", uuid,
				"--data-block-size", fmt.Sprint(c.data), "--hash-block-size", fmt.Sprint(c.hash), names[0], theirs)
			if m := rootLine.FindStringSubmatch(out); m == nil || m[1] != hex.EncodeToString(root) {
				t.Errorf("our root hash is %x: %s", root, out)
			}
			b, err := os.ReadFile(theirs)
			if err != nil || !bytes.Equal(b, tree) {
				t.Errorf("the trees differ: %v", err)
			}
			if err := open(t, data, b, root).Verify(t.Context(), 2); err != nil {
				t.Error(err)
			}
		})
	}
}

// With a random salt and an offset in one file, and trees that veritysetup no
// longer verifies.
func TestOneFileForDataAndTree(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, noise(200*4096), 0o600); err != nil {
		t.Fatal(err)
	}
	out := mustRun(t, "veritysetup", "format", "--hash-offset", fmt.Sprint(200*4096), "--data-blocks", "200", name, name)
	m := rootLine.FindStringSubmatch(out)
	if m == nil {
		t.Fatal(out)
	}
	root, err := hex.DecodeString(m[1])
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := open(t, b, b[200*4096:], root).Verify(t.Context(), 0); err != nil {
		t.Error(err)
	}
	b[100*4096+7] ^= 0x10
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	err = open(t, b, b[200*4096:], root).Verify(t.Context(), 0)
	out, theirs := run(t, "veritysetup", "verify", "--hash-offset", fmt.Sprint(200*4096), name, name, m[1])
	if err == nil || theirs == nil || !strings.Contains(out, fmt.Sprint(100*4096)) || !strings.Contains(err.Error(), fmt.Sprint(100*4096)) {
		t.Errorf("%v, but they say %v: %s", err, theirs, out)
	}
}
