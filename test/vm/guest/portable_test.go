//go:build vm

package guest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// portabler is one of the two programs that attach portable services.
type portabler []string

var (
	ourPortable   = portabler{"lockport", "portable"}
	theirPortable = portabler{"portablectl"}
)

func (p portabler) String() string { return p[0] }

// command is that of a verb.
func (p portabler) command(args ...string) []string { return with(p, args...) }

// try runs a verb however it ends.
func (p portabler) try(t testing.TB, args ...string) result {
	t.Helper()
	return try(t, "", nil, p.command(args...)...)
}

// run runs a verb that must succeed and returns what it printed.
func (p portabler) run(t testing.TB, args ...string) string {
	t.Helper()
	r := p.try(t, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit code %d\nstdout: %s\nstderr: %s", p, strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// changes runs a verb that must succeed and returns the changes that it tells
// of, sorted: the original takes units in no order.
func (p portabler) changes(t testing.TB, args ...string) []string {
	t.Helper()
	r := p.try(t, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s", p, strings.Join(args, " "), r.code, r.stderr)
	}
	return slices.Sorted(strings.SplitSeq(strings.TrimSuffix(r.stderr, "\n"), "\n"))
}

// portableSpace is for a test that attaches: it has the images, and what the test
// leaves attached fails it and is removed.
func portableSpace(t *testing.T) {
	t.Helper()
	images(t)
	// Both make these directories when they need them, and leave them.
	makeDir(t, "/etc/portables")
	makeDir(t, "/run/portables")
	before := snapshot(t)
	t.Cleanup(func() {
		diff := cmp.Diff(before, snapshot(t))
		if diff != "" {
			t.Errorf("left in /etc or /run (-before +after):\n%s", diff)
		}
		if diff != "" || t.Failed() {
			purge(t)
		}
	})
}

// purge removes all that a test may have left attached or running.
func purge(t testing.TB) {
	t.Helper()
	cleanup(t, "sh", "-c", `
		systemctl list-units --plain --no-legend --all 'walkthrough-go*' | while read -r unit rest; do systemctl stop -- "$unit" || :; done
		rm -rf /etc/systemd/system.attached /run/systemd/system.attached /etc/portables/* /run/portables/*
		systemctl daemon-reload
		systemctl reset-failed 'walkthrough-go*' || :`)
}

// watched are the places that attaching may write to. All of /etc is, as none of
// what else is there has a reason to change.
var watched = []string{"/etc", "/run/portables", "/run/systemd/system", "/run/systemd/system.attached", "/run/systemd/system.control", "/run/systemd/portable"}

// snapshot describes every file, link and directory of the watched places.
func snapshot(t testing.TB) map[string]string {
	t.Helper()
	return snapshotOf(t, watched...)
}

// snapshotOf describes all that is in some directories, and where the host may
// have its journal of a change.
func snapshotOf(t testing.TB, tops ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, top := range tops {
		err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				all[path], err = describe(path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, pattern := range []string{"/etc/.#*", "/run/.#*", "/.#*"} {
		hidden, _ := filepath.Glob(pattern)
		for _, path := range hidden {
			all[path] = "hidden"
		}
	}
	return all
}

// describe tells all of a path but its times: owner, mode, target and content.
func describe(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	stat := info.Sys().(*syscall.Stat_t)
	text := fmt.Sprintf("%v %d:%d", info.Mode(), stat.Uid, stat.Gid)
	switch info.Mode().Type() {
	case 0:
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if len(content) > 8<<10 {
			return fmt.Sprintf("%s %d bytes %x", text, len(content), sha256.Sum256(content)), nil
		}
		return text + "\n" + string(content), nil
	case fs.ModeSymlink:
		target, err := os.Readlink(path)
		return text + " → " + target, err
	}
	return text, nil
}

// added is what is in a snapshot and not, or differently, in the one before.
func added(before, after map[string]string) map[string]string {
	list := map[string]string{}
	for path, text := range after {
		if before[path] != text {
			list[path] = text
		}
	}
	for path := range before {
		if _, there := after[path]; !there {
			list[path] = "gone"
		}
	}
	return list
}

// greeted connects to the socket of the service, as visitors do.
func greeted(t testing.TB) {
	t.Helper()
	r := try(t, "", nil, "curl", "-sS", "--max-time", "60", "http://127.0.0.1:8088/")
	if r.code != 0 || !strings.Contains(r.stdout, "Hello! You are visitor #") {
		t.Fatalf("the service answers %q, exit code %d, %s\n%s", r.stdout, r.code, r.stderr,
			try(t, "", nil, "journalctl", "-n", "15", "--no-pager", "-o", "cat").stdout)
	}
}

// inside is a path as the process of a running service sees it.
func inside(t testing.TB, unit, path string) string {
	t.Helper()
	pid, err := strconv.Atoi(run(t, "systemctl", "show", "-P", "MainPID", unit))
	if err != nil || pid == 0 {
		t.Fatalf("%s has no process: %v", unit, err)
	}
	return fmt.Sprintf("/proc/%d/root%s", pid, path)
}

// version is the one that the running service was started from.
func version(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(inside(t, "walkthrough-go.service", "/usr/lib/os-release"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VERSION_ID="); ok {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("the service's os-release says no version:\n%s", text)
	return ""
}

// unloaded wants the service manager to know nothing of the units any more.
func unloaded(t testing.TB) {
	t.Helper()
	if out := run(t, "systemctl", "list-units", "--all", "--plain", "--no-legend", "walkthrough-go*"); out != "" {
		t.Errorf("units are still loaded:\n%s", out)
	}
	// It fails if there are none.
	if r := try(t, "", nil, "systemctl", "list-unit-files", "--no-legend", "walkthrough-go*"); r.stdout != "" {
		t.Errorf("there are still unit files:\n%s", r.stdout)
	}
}

// stop stops the service and its socket.
func stop(t testing.TB) {
	t.Helper()
	run(t, "systemctl", "stop", "walkthrough-go.socket", "walkthrough-go.service")
}
