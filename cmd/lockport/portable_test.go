package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestPortableSurvivesKill kills the program at random moments of attaching and
// detaching. Whatever it left, the next call finds either all or nothing.
func TestPortableSurvivesKill(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// testscript.Main makes this binary the command that it is called as.
	tool := filepath.Join(t.TempDir(), "lockport")
	if err := os.Symlink(self, tool); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	units := filepath.Join(root, "srv/web/usr/lib/systemd/system")
	err = os.MkdirAll(units, 0o755)
	write := func(name, text string) {
		if err == nil {
			err = os.WriteFile(name, []byte(text), 0o644)
		}
	}
	const many = 20
	write(filepath.Join(root, "srv/web/usr/lib/os-release"), "ID=x\n")
	for i := range many {
		write(filepath.Join(units, "web-"+strconv.Itoa(i)+".service"), "[Service]\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	call := func(verb string, args ...string) *exec.Cmd {
		return exec.Command(tool, append([]string{"portable", verb, "--root=" + root, "/srv/web"}, args...)...)
	}
	killed, undone := 0, 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		for _, verb := range []string{"attach", "detach"} {
			cmd := call(verb)
			if verb == "attach" && rand.IntN(2) == 0 {
				cmd = call(verb, "--copy=mixed")
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond)
			_ = cmd.Process.Kill()
			if cmd.Wait() != nil {
				killed++
			}
			if out, err := exec.Command(tool, "portable", "repair", "--root="+root).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			} else if string(out) != "No change was interrupted.\n" {
				undone++
			}
			complete(t, root, many)
		}
		_ = call("detach").Run() // so that the next round begins with nothing
	}
	t.Logf("killed %d times, of which %d left something to undo", killed, undone)
}

// complete wants all units with their drop-ins, or no trace of any.
func complete(t *testing.T, root string, many int) {
	t.Helper()
	for _, pattern := range []string{"etc/.#*", "etc/portables/.#*"} {
		if left, err := filepath.Glob(filepath.Join(root, pattern)); len(left) > 0 || err != nil {
			t.Fatal("left: ", left, err)
		}
	}
	at := filepath.Join(root, "etc/systemd/system.attached")
	entries, err := os.ReadDir(at)
	if os.IsNotExist(err) {
		if _, err := os.Lstat(filepath.Join(root, "etc/portables/web")); err == nil {
			t.Fatal("the link to the image was left")
		}
		return
	}
	if err != nil || len(entries) != 2*many {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(at, e.Name()))
		if err != nil || len(files) != 2 || files[0].Name() != "10-profile.conf" || files[1].Name() != "20-portable.conf" {
			t.Fatalf("%s: %v, %v", e.Name(), files, err)
		}
	}
}
