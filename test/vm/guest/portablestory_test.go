//go:build vm

package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// built are the forms of an image that we build. The first one is made on the host,
// from examples/walkthrough as it is; the others here, of the same files.
var built = []form{
	{"built-squashfs", "walkthrough-go_1.raw", copyBuilt},
	{"built-erofs", "walkthrough-go_1.raw", building("--format=erofs")},
	{"built-gpt", "walkthrough-go_1.raw", building("--verity=partitions")},
	{"built-signed", "walkthrough-go_1.raw", building("--format=erofs", "--sign-key="+portableDir+"/key.pem", "--sign-cert=/etc/verity.d/portable.crt")},
	{"built-beside", "walkthrough-go_1.raw", building("--verity=beside", "--compress=gzip", "--sign-key="+portableDir+"/key.pem", "--sign-cert=/etc/verity.d/portable.crt")},
	{"built-directory", "walkthrough-go_1", building("--format=directory")},
}

func copyBuilt(t testing.TB, _, out string) { run(t, "cp", "/share/walkthrough-go_1.raw", out) }

// walkthroughParts say what is in the image of the walkthrough service.
var walkthroughParts = []string{
	"--name=walkthrough-go", "--image-version=1", "--pretty-name=Walkthrough, the visitor counter", "--program=/share/walkthrough/usr/bin/walkthrough-go",
	"--unit=/share/walkthrough/usr/lib/systemd/system/walkthrough-go.service", "--unit=/share/walkthrough/usr/lib/systemd/system/walkthrough-go.socket",
}

// building builds a form; lint, which runs at the end, must find nothing.
func building(args ...string) func(t testing.TB, tree, out string) {
	return func(t testing.TB, _, out string) {
		t.Helper()
		argv := with(with([]string{"portable", "build", "--json", "--output=" + out}, walkthroughParts...), args...)
		r := lockport(t, argv...)
		if r.code != 0 || strings.Contains(r.stderr, "warning") {
			t.Fatalf("%q: exit code %d\n%s", argv, r.code, r.stderr)
		}
		makeFile(t, out+".json", r.stdout)
	}
}

// builtForm builds a form, once per boot.
func builtForm(t testing.TB, name string) form {
	t.Helper()
	images(t) // which makes the key, too
	for _, f := range built {
		if f.name != name {
			continue
		}
		if !exists(f.path()) {
			makeDir(t, filepath.Dir(f.path()))
			f.pack(t, "", f.path())
		}
		return f
	}
	t.Fatalf("no form %s", name)
	return form{}
}

// rootHash is what building told.
func rootHash(t testing.TB, f form) string {
	t.Helper()
	text, err := os.ReadFile(f.path() + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var told struct{ RootHash string }
	if err := json.Unmarshal(text, &told); err != nil || told.RootHash == "" {
		t.Fatalf("%s tells no root hash: %v", text, err)
	}
	return told.RootHash
}

// visit is what the service answers at one of its sockets.
func visit(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, with([]string{"curl", "-sS", "--max-time", "60"}, args...)...)
}

// greets wants the next visitor to have this number.
func greets(t testing.TB, number int, args ...string) {
	t.Helper()
	if len(args) == 0 {
		args = []string{"http://127.0.0.1:8088/"}
	}
	if got, want := visit(t, args...), fmt.Sprintf("Hello! You are visitor #%d!", number); got != want {
		t.Fatalf("%s answers %q, want %q", args, got, want)
	}
}

// bySocket is the other socket of the service.
var bySocket = []string{"--unix-socket", "/run/walkthrough-go.sock", "http://localhost/"}

// uncounted lets the count begin with the next visitor, and does so again when the
// test is over.
func uncounted(t testing.TB) {
	t.Helper()
	forget := []string{"rm", "-rf", "/var/lib/walkthrough-go", "/var/lib/private/walkthrough-go"}
	run(t, forget...)
	t.Cleanup(func() { cleanup(t, forget...) })
}

// The whole story of an image that we build, as README.md and the walkthrough tell it:
// inspected, attached, enabled and started, visited, stopped, detached, with the original
// and with ours.
func TestPortableStory(t *testing.T) {
	t.Cleanup(func() { cleanup(t, "systemctl", "daemon-reload") })
	for _, f := range built {
		t.Run(f.name, func(t *testing.T) {
			f := builtForm(t, f.name)
			for _, p := range []portabler{theirPortable, ourPortable} {
				t.Run(p.String(), func(t *testing.T) { story(t, p, f) })
			}
		})
	}
}

func story(t *testing.T, p portabler, f form) {
	portableSpace(t)
	uncounted(t)
	shown := p.run(t, "inspect", f.path())
	for _, want := range []string{"Walkthrough, the visitor counter", "\twalkthrough-go.service\n\twalkthrough-go.socket"} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %q in\n%s", want, shown)
		}
	}
	p.run(t, "attach", "--enable", "--now", f.path())
	sameState(t, f, "running")
	greets(t, 1)
	greets(t, 2, bySocket...)
	// systemctl is-enabled doesn't look for links in this place, the next boot does.
	if !exists("/etc/systemd/system.attached/sockets.target.wants/walkthrough-go.socket") {
		t.Error("the socket is not enabled")
	}
	// The service may go, and comes back with its next visitor.
	run(t, "systemctl", "stop", "walkthrough-go.service")
	greets(t, 3)
	p.run(t, "detach", "--enable", "--now", f.path())
	sameState(t, f, "detached")
	unloaded(t)
	nothingLeft(t)
}

// Under each of the profiles the service runs, and the count goes on from one to the other.
func TestPortableStoryProfiles(t *testing.T) {
	portableSpace(t)
	uncounted(t)
	f := builtForm(t, "built-signed")
	for i, profile := range []string{"default", "trusted", "nonetwork", "strict"} {
		ourPortable.run(t, "attach", "--profile="+profile, f.path())
		run(t, "systemctl", "enable", "--now", "walkthrough-go.socket")
		greets(t, 2*i+1)
		greets(t, 2*i+2, bySocket...)
		run(t, "systemctl", "disable", "--now", "walkthrough-go.socket", "walkthrough-go.service")
		ourPortable.run(t, "detach", f.path())
	}
	unloaded(t)
}

// The originals find in order what we build.
func TestPortableBuiltPeers(t *testing.T) {
	for _, f := range built {
		if f.name == "built-directory" {
			continue // systemd-dissect is for files
		}
		t.Run(f.name, func(t *testing.T) {
			f := builtForm(t, f.name)
			if out := run(t, "systemd-dissect", "--no-pager", f.path()); !strings.Contains(out, "✓ portable service") {
				t.Errorf("it is no portable service:\n%s", out)
			}
			run(t, "systemd-dissect", "--validate", f.path())
			if list := run(t, "systemd-dissect", "--list", f.path()); !strings.Contains(list, "usr/lib/systemd/system/walkthrough-go.socket") {
				t.Errorf("systemd-dissect lists\n%s", list)
			}
		})
	}
	t.Run("veritysetup", func(t *testing.T) {
		f := builtForm(t, "built-beside")
		run(t, "veritysetup", "verify", f.path(), strings.TrimSuffix(f.path(), ".raw")+".verity", rootHash(t, f))
		for _, name := range []string{"built-gpt", "built-signed"} {
			f := builtForm(t, name)
			loop := run(t, "losetup", "--find", "--show", "--read-only", "--partscan", f.path())
			t.Cleanup(func() { cleanup(t, "losetup", "--detach", loop) })
			run(t, "veritysetup", "verify", loop+"p1", loop+"p2", rootHash(t, f))
			if out := run(t, "sgdisk", "--verify", f.path()); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
		}
	})
	t.Run("signed only", func(t *testing.T) {
		f := builtForm(t, "built-signed")
		run(t, "systemd-dissect", "--image-policy=root=signed", "--list", f.path())
		if r := try(t, "", nil, "systemd-dissect", "--image-policy=root=signed", "--list", builtForm(t, "built-gpt").path()); r.code == 0 {
			t.Error("an image without a signature passes for a signed one")
		}
	})
}
