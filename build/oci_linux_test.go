package build

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lockport/lockport/internal/squashfs"
)

// A fifo would make us wait for a writer.
func TestOCIFifo(t *testing.T) {
	t.Parallel()
	m := images{}
	dir := m.index(m.image("amd64", layer(t, "a"))).folder(t)
	if err := os.Remove(filepath.Join(dir, "index.json")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "index.json"), 0o600); err != nil {
		t.Skip(err)
	}
	for _, p := range []string{dir, filepath.Join(dir, "index.json")} {
		if err := New().ImportOCI(t.Context(), p, t.TempDir(), "amd64"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%v", err)
		}
	}
}

// Layers at random are flattened as umoci does it, another implementation. It is
// no tool that we need anywhere else, so nothing demands it.
func TestOCILikeUmoci(t *testing.T) {
	t.Parallel()
	umoci, err := exec.LookPath("umoci")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("umoci is not installed, or we aren't root")
	}
	for seed := range uint64(20) {
		var layers [][]byte
		r := rand.New(rand.NewPCG(seed, 1))
		for range 4 {
			layers = append(layers, archive(t, randomLayer(r)...))
		}
		m := images{}
		d := m.image("amd64", layers...)
		d.Annotations = map[string]string{"org.opencontainers.image.ref.name": "t"}
		layout := m.index(d).folder(t)
		bundle := filepath.Join(t.TempDir(), "bundle")
		out, err := exec.CommandContext(t.Context(), umoci, "unpack", "--image", layout+":t", bundle).CombinedOutput()
		tree := New()
		ours := tree.ImportOCI(t.Context(), layout, t.TempDir(), "amd64")
		if (err == nil) != (ours == nil) {
			t.Fatalf("seed %d: %v, umoci %v: %s", seed, ours, err, out)
		}
		if err != nil {
			continue
		}
		theirs := New()
		if err := theirs.Import("/", squashfs.DirTree(filepath.Join(bundle, "rootfs"))); err != nil {
			t.Fatal(err)
		}
		if a, b := described(t, tree), described(t, theirs); !slices.Equal(a, b) {
			t.Errorf("seed %d:\n%s\numoci:\n%s", seed, strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
	}
}

func described(t *testing.T, tree *Tree) []string {
	list := words(t, tree)
	for p, n := range nodes(tree) {
		if n.Mode.IsRegular() {
			list = append(list, fmt.Sprintf("%s %v %d:%d %d %v", p, n.Mode, n.UID, n.GID, n.ModTime.Unix(), n.Attrs))
		} else {
			list = append(list, fmt.Sprintf("%s %v %d:%d", p, n.Mode, n.UID, n.GID))
		}
	}
	slices.Sort(list)
	return list
}

// randomLayer has files of few names, so that they often meet. A path is in it
// once, as layers have it.
func randomLayer(r *rand.Rand) []*tar.Header {
	names := []string{"a", "b", "c"}
	random := func() string {
		p := names[r.IntN(3)]
		for r.IntN(2) == 0 {
			p = path.Join(p, names[r.IntN(3)])
		}
		return p
	}
	var words, files []string
	seen := map[string]bool{}
	dir := func(p string) bool { // and those above, as layers have them
		for at := p; at != "."; at = path.Dir(at) {
			if seen["no "+at] {
				return false
			}
		}
		var list []string
		for at := p; at != "." && !seen[at]; at = path.Dir(at) {
			seen[at] = true
			list = append(list, at+"/")
		}
		slices.Reverse(list)
		words = append(words, list...)
		return true
	}
	for range 12 {
		p := random()
		d, base := path.Dir(p), path.Base(p)
		if seen[p] || !dir(d) {
			continue
		}
		switch r.IntN(7) {
		case 0:
			dir(p)
			continue
		case 1:
			words = append(words, path.Join(d, ".wh."+base))
			seen["wh "+p] = true
			continue
		case 2:
			if d != "." && !seen["opq "+d] {
				words = append(words, path.Join(d, ".wh..wh..opq"))
				seen["opq "+d] = true
			}
			continue
		case 3:
			words = append(words, p+"->"+[]string{"", "/", "../"}[r.IntN(3)]+random())
		case 4:
			if len(files) == 0 {
				continue
			}
			words = append(words, p+"=>"+files[r.IntN(len(files))])
		default:
			words = append(words, fmt.Sprintf("%s=%d", p, r.Uint32()))
			files = append(files, p)
		}
		seen[p], seen["no "+p] = true, true
	}
	return entries(words...)
}
