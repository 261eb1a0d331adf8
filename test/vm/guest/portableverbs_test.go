//go:build vm

package guest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// directions are who begins and who goes on. That of the original alone shows what
// is wanted of the others.
var directions = [][2]portabler{{ourPortable, theirPortable}, {theirPortable, ourPortable}, {theirPortable, theirPortable}}

// between runs a test for each direction. What it returns has to be the same in all.
func between(t *testing.T, f func(t *testing.T, first, then portabler) any) {
	var want any
	for _, d := range slices.Backward(directions) {
		t.Run(d[0].String()+" then "+d[1].String(), func(t *testing.T) {
			portableSpace(t)
			have := f(t, d[0], d[1])
			if want == nil {
				want = have
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("not as with theirs alone (-theirs +this):\n%s", diff)
			}
		})
	}
}

// One enables and starts while it attaches, the other disables and stops while it
// detaches. Both call it enabled when nothing runs.
func TestPortableEnableNow(t *testing.T) {
	f := formOf(t, "squashfs")
	between(t, func(t *testing.T, first, then portabler) any {
		before := snapshot(t)
		first.run(t, "attach", "--runtime", "--enable", "--now", f.path(), "walkthrough-go.socket", "walkthrough-go.service")
		files := added(before, snapshot(t))
		greeted(t)
		sameState(t, f, "running-runtime")
		stop(t)
		sameState(t, f, "enabled-runtime")
		run(t, "systemctl", "start", "walkthrough-go.socket")
		then.run(t, "detach", "--runtime", "--enable", "--now", f.path(), "walkthrough-go.socket", "walkthrough-go.service")
		if diff := cmp.Diff(before, snapshot(t)); diff != "" {
			t.Errorf("left behind (-before +after):\n%s", diff)
		}
		unloaded(t)
		return files
	})
}

// One attaches and starts a version, the other goes on to the next: what runs is
// restarted, units that are gone are stopped.
func TestPortableReattach(t *testing.T) {
	f := formOf(t, "squashfs")
	between(t, func(t *testing.T, first, then portabler) any {
		before := snapshot(t)
		units := []string{"walkthrough-go.service", "walkthrough-go.socket", "walkthrough-go-1.timer"}
		first.run(t, "attach", f.path())
		run(t, with([]string{"systemctl", "start"}, units...)...)
		greeted(t)
		then.run(t, "reattach", "--now", second(f))
		files := added(before, snapshot(t))
		greeted(t)
		if v := version(t); v != "2" {
			t.Errorf("version %s is running", v)
		}
		if r := try(t, "", nil, "systemctl", "is-active", "walkthrough-go-1.timer"); r.stdout == "active\n" {
			t.Error("the timer of the old version goes on")
		}
		// It fails when its unit goes, before it is stopped.
		try(t, "", nil, "systemctl", "reset-failed", "walkthrough-go-1.timer")
		run(t, "systemctl", "stop", "walkthrough-go.service", "walkthrough-go.socket", "walkthrough-go-2.timer", "walkthrough-go-all.target")
		first.run(t, "detach", second(f))
		if diff := cmp.Diff(before, snapshot(t)); diff != "" {
			t.Errorf("left behind (-before +after):\n%s", diff)
		}
		unloaded(t)
		return files
	})
}

// A unit of an extension runs with what the extension brings. Ours has that for
// the units of the root image, too.
func TestPortableExtension(t *testing.T) {
	f := formOf(t, "squashfs")
	for i, d := range directions[:2] {
		extra := filepath.Join(portableDir, "extension/extra_1"+[]string{"", ".raw"}[i])
		t.Run(d[0].String()+" attaches "+filepath.Base(extra), func(t *testing.T) {
			portableSpace(t)
			d[0].run(t, "attach", "--extension="+extra, f.path())
			for _, args := range [][]string{{"inspect", "--extension=" + extra, f.path()}, {"is-attached", "--extension=" + extra, f.path()}} {
				theirs := theirPortable.run(t, args...)
				// Systemd leaves out which one it is if it is a directory.
				theirs = strings.Replace(theirs, "Extension:\n\t\n", "Extension:\n\t"+extra+"\n", 1)
				if diff := cmp.Diff(theirs, ourPortable.run(t, args...)); diff != "" {
					t.Errorf("%q differs (-theirs +ours):\n%s", args, diff)
				}
			}
			run(t, "systemctl", "start", "walkthrough-go-extra.service", "walkthrough-go.socket")
			greeted(t)
			if there := exists(inside(t, "walkthrough-go.service", "/usr/bin/extra")); there != (d[0].String() == "lockport") {
				t.Errorf("the service sees the extension: %v", there)
			}
			stop(t)
			run(t, "systemctl", "stop", "walkthrough-go-extra.service")
			if r := d[1].try(t, "detach", f.path()); r.code == 0 {
				t.Error("detached without the extension")
			}
			d[1].run(t, "detach", "--extension="+extra, f.path())
			unloaded(t)
			nothingLeft(t)
		})
	}
}

// Each profile, as ours attaches it, lets the service run.
func TestPortableProfiles(t *testing.T) {
	f := formOf(t, "squashfs")
	for _, profile := range []string{"default", "nonetwork", "strict", "trusted"} {
		t.Run(profile, func(t *testing.T) {
			portableSpace(t)
			ourPortable.run(t, "attach", "--now", "--profile="+profile, f.path(), "walkthrough-go.socket", "walkthrough-go")
			greeted(t)
			stop(t)
			theirPortable.run(t, "detach", "--now", f.path())
		})
	}
}

// What is refused, and with what exit code. Ours then changes nothing.
func TestPortableRefusals(t *testing.T) {
	portableSpace(t)
	f := formOf(t, "directory")
	image := f.path()
	for _, c := range []struct {
		before       string // what is attached
		args         string
		theirs, ours int
	}{
		{"", "detach " + image, 1, 1},
		{"", "reattach --no-reload " + image, 1, 1},
		{"", "attach --no-reload /srv/portable/no-such-image", 1, 1},
		{"", "attach --no-reload no-such-image", 1, 1},
		{"", "inspect no-such-image", 1, 1},
		{"", "attach --no-reload " + image + " other", 1, 1},               // not in PORTABLE_PREFIXES
		{"", "attach --no-reload " + image + " walkthrough-go-none", 1, 1}, // no such unit
		{"", "attach --no-reload " + image + " -", 1, 1},
		{"", "attach --no-reload --copy=none " + image, 1, 1},
		{"", "attach --no-reload --extension=" + second(f) + " " + image, 1, 1},
		{"", "is-attached " + image, 0, 0},
		{"", "is-attached", 1, 1},
		{"", "attach", 1, 1},
		{"", "no-such-verb", 1, 1},
		{"", "attach --no-reload --profile=no-such-profile " + image, 0, 1}, // theirs: without a sandbox
		{image, "attach --no-reload " + image, 1, 1},
		{image, "attach --no-reload --force " + image, 0, 0},
		{image, "detach --no-reload --runtime " + image, 1, 1},
		{image, "reattach --no-reload --runtime " + image, 1, 1},
		{image, "detach --no-reload " + second(f), 0, 1},          // theirs: any version
		{image, "detach --no-reload no-such-image", 0, 1},         // theirs: any name
		{image, "reattach --no-reload " + image + " other", 1, 1}, // theirs: detaches first
	} {
		for _, side := range []struct {
			portabler
			code int
		}{{theirPortable, c.theirs}, {ourPortable, c.ours}} {
			if c.before != "" {
				theirPortable.run(t, "attach", "--no-reload", c.before)
			}
			before := snapshot(t)
			r := side.try(t, strings.Fields(c.args)...)
			if r.code != side.code {
				t.Errorf("%s %s: exit code %d, expected %d\n%s", side, c.args, r.code, side.code, r.stderr)
			}
			if diff := cmp.Diff(before, snapshot(t)); diff != "" && side.code != 0 && side.String() == "lockport" {
				t.Errorf("%s %s changes (-before +after):\n%s", side, c.args, diff)
			}
			for _, path := range []string{"/etc/systemd/system.attached", "/etc/portables"} {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
			makeDir(t, "/etc/portables")
		}
	}
}

// A unit that runs keeps its image attached.
func TestPortableRunning(t *testing.T) {
	f := formOf(t, "directory")
	portableSpace(t)
	theirPortable.run(t, "attach", f.path())
	run(t, "systemctl", "start", "walkthrough-go.socket")
	before := snapshot(t)
	for _, p := range []portabler{theirPortable, ourPortable} {
		if r := p.try(t, "detach", f.path()); r.code != 1 {
			t.Errorf("%s detach: exit code %d, %s", p, r.code, r.stderr)
		}
		if diff := cmp.Diff(before, snapshot(t)); diff != "" {
			t.Errorf("%s detaches what runs (-before +after):\n%s", p, diff)
		}
	}
	stop(t)
	ourPortable.run(t, "detach", f.path())
}

// Images in the search path are marked and removed as by systemd, but not while
// they are attached.
func TestPortableRemove(t *testing.T) {
	for _, f := range []form{formOf(t, "directory"), formOf(t, "squashfs"), formOf(t, "sidecar")} {
		t.Run(f.name, func(t *testing.T) {
			portableSpace(t)
			var seen [2][]string
			for i, p := range []portabler{theirPortable, ourPortable} {
				seen[i] = markAndRemove(t, p, f)
			}
			if f.name == "sidecar" {
				// Systemd takes only the root hash along.
				seen[0][len(seen[0])-1] = strings.Replace(seen[0][len(seen[0])-1], "walkthrough-go_1.verity", "", 1)
			}
			if diff := cmp.Diff(seen[0], seen[1]); diff != "" {
				t.Errorf("the image after each step (-theirs +ours):\n%s", diff)
			}
		})
	}
}

// markAndRemove takes an image in the search path to its end, and tells what there
// is after each step.
func markAndRemove(t *testing.T, p portabler, f form) (seen []string) {
	t.Helper()
	const folder = "/var/lib/portables"
	name, path := inSearchPath(t, f), filepath.Join(folder, f.file)
	if f.name == "sidecar" {
		stem := strings.TrimSuffix(f.path(), ".raw")
		run(t, "cp", stem+".roothash", stem+".verity", folder)
	}
	// Systemd's own service lacks the capability for directories.
	marks := !f.directory() || p.String() == "lockport"
	mode := func() string {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().String()
	}
	if marks {
		p.run(t, "read-only", name)
		seen = append(seen, mode())
	} else if r := p.try(t, "read-only", name); r.code != 1 {
		t.Errorf("%s marks a directory: exit code %d", p, r.code)
		run(t, "chattr", "-i", path)
	} else {
		seen = append(seen, mode())
	}
	listed := strings.Fields(theirPortable.run(t, "list", "--no-legend"))
	if mark := map[bool]string{true: "yes", false: "no"}[marks]; !slices.Equal(listed[:3], []string{name, listed[1], mark}) {
		t.Errorf("%s lists %q", theirPortable, listed)
	}
	if marks {
		p.run(t, "read-only", name, "no")
	}
	seen = append(seen, mode())
	p.run(t, "attach", "--no-reload", name)
	if r := p.try(t, "remove", name); r.code != 1 || !exists(path) {
		t.Errorf("%s removes an attached image: exit code %d, %s", p, r.code, r.stderr)
	}
	p.run(t, "detach", "--no-reload", name)
	p.run(t, "remove", name)
	seen = append(seen, run(t, "ls", "-A", folder))
	run(t, "sh", "-c", "rm -f "+folder+"/*.verity "+folder+"/*.roothash")
	return seen
}

// What is attached and detached is in the journal in the same fields.
func TestPortableJournal(t *testing.T) {
	portableSpace(t)
	extra := filepath.Join(portableDir, "extension/extra_1")
	var fields [2][]map[string]any
	for i, p := range []portabler{theirPortable, ourPortable} {
		cursor := run(t, "sh", "-c", "journalctl --sync; journalctl -n 0 --show-cursor | sed -n 's/^-- cursor: //p'")
		for _, args := range [][]string{
			{"--runtime", "--extension=" + extra, formOf(t, "directory").path()},
			{"--extension=" + extra + ".raw", formOf(t, "squashfs").path()},
		} {
			p.run(t, with([]string{"attach", "--no-reload"}, args...)...)
			p.run(t, with([]string{"detach", "--no-reload"}, args...)...)
		}
		fields[i] = portableMessages(t, cursor)
	}
	if len(fields[0]) != 4 {
		t.Fatalf("not four messages of systemd: %v", fields[0])
	}
	if diff := cmp.Diff(fields[0], fields[1]); diff != "" {
		t.Errorf("the journal (-theirs +ours):\n%s", diff)
	}
}

// portableMessages are those of attaching and detaching since the cursor, with the
// fields that do not depend on the process.
func portableMessages(t *testing.T, cursor string) (list []map[string]any) {
	t.Helper()
	run(t, "journalctl", "--sync")
	out := run(t, "journalctl", "-o", "json", "--after-cursor="+cursor,
		"MESSAGE_ID=187c62eb1e7f463bb530394f52cb090f", "MESSAGE_ID=76c5c754d628490d8ecba4c9d042112b")
	for line := range strings.Lines(out) {
		var all map[string]any
		if err := json.Unmarshal([]byte(line), &all); err != nil {
			t.Fatal(err)
		}
		kept := map[string]any{}
		for _, key := range []string{"MESSAGE_ID", "PRIORITY", "PORTABLE_ROOT", "PORTABLE_EXTENSION"} {
			kept[key] = all[key]
		}
		list = append(list, kept)
	}
	return list
}
