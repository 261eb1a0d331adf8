package portable

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// peer is the path of an original. A missing one skips the test, or fails it
// where all of them have to be there.
func peer(t *testing.T, name string) string {
	t.Helper()
	for _, n := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if p, err := exec.LookPath(n); err == nil {
			return p
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is needed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// makers write the tree in a directory to an image file.
var makers = map[string]func(t *testing.T, dir, file string) *exec.Cmd{
	"squashfs": func(t *testing.T, dir, file string) *exec.Cmd {
		return exec.Command(peer(t, "mksquashfs"), dir, file, "-all-root", "-no-progress", "-quiet")
	},
	"erofs": func(t *testing.T, dir, file string) *exec.Cmd {
		return exec.Command(peer(t, "mkfs.erofs"), "--all-root", file, dir)
	},
	"ext4": func(t *testing.T, dir, file string) *exec.Cmd {
		return exec.Command(peer(t, "mkfs.ext4"), "-q", "-d", dir, file, "16M")
	},
}

// In image files, all is found that is found in a directory, and what has to be
// mounted somewhere matters more.
func TestLintImageFiles(t *testing.T) {
	t.Parallel()
	const unprotected = "note not-protected"
	for kind, make := range makers {
		for name, c := range map[string]struct {
			f       fixture
			profile string
			want    []string
		}{
			"good":    {good(), "strict", []string{unprotected}},
			"wanting": {good().without(fixtureImage + "proc/").without(libraryDir + "libc.so.6"), "default", []string{unprotected, "error mount-point-missing /proc", "error exec-library-missing web-drop@.service:2", "error exec-library-missing web-report.service:3", "error exec-library-missing web-talk@.service:4", "error exec-library-missing web.service:8"}},
			"trusted": {good().without(fixtureImage + "var/lib/web/"), "trusted", []string{unprotected, map[bool]string{true: "warning", false: "error"}[kind == "ext4"] + " mount-point-missing web.service:13"}},
		} {
			t.Run(kind+", "+name, func(t *testing.T) {
				t.Parallel()
				dir := c.f.write(t)
				file := filepath.Join(dir, "srv/web_3.raw")
				if out, err := make(t, filepath.Join(dir, fixtureImage), file).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				r, err := Lint(ctx(), openHost(t, dir), Ref{Image: "/srv/web_3.raw"}, LintOptions{Profile: c.profile, Architecture: "x86-64"})
				must(t, err)
				var have []string
				for _, f := range r.Findings {
					have = append(have, describeFinding(f))
				}
				if diff := cmp.Diff(c.want, have); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// What is damaged in an image file is told, and the rest is looked at all the same.
func TestLintDamagedImage(t *testing.T) {
	t.Parallel()
	dir := good().write(t)
	file := filepath.Join(dir, "srv/web_3.raw")
	cmd := exec.Command(peer(t, "mksquashfs"), filepath.Join(dir, fixtureImage), file, "-all-root", "-no-progress", "-quiet")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	must(t, err)
	// The content of files comes first, behind the superblock.
	for i := 96; i < 900; i++ {
		b[i] = 0xff
	}
	must(t, os.WriteFile(file, b, 0o644))
	r, err := Lint(ctx(), openHost(t, dir), Ref{Image: "/srv/web_3.raw"}, LintOptions{Architecture: "x86-64"})
	must(t, err)
	if len(r.Findings) < 10 {
		t.Errorf("%d findings", len(r.Findings))
	}
	for _, f := range r.Findings {
		if f.Rule != "image-damaged" && f.Rule != "not-protected" {
			t.Errorf("%+v", f)
		}
	}
}
