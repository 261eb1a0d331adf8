//go:build vm

package guest

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A layout is a way to attach, and how what ours then leaves on the disk differs
// from what systemd leaves: only as docs/decisions/0008 has it.
type layout struct {
	what  string
	form  form
	image []string // arguments that name images; those of the form without
	args  []string
	ours  func(files map[string]string) // changes theirs to what is wanted of ours
	tells func(line string) string      // the same for what attach tells
	alone string                        // a path that only systemd makes and removes
	named bool                          // the image is in the search path and given by name
}

// images names what is attached.
func (l layout) images() []string {
	if l.image != nil {
		return l.image
	}
	return l.form.args()
}

// detachArgs are those that detach what was attached.
func (l layout) detachArgs() []string {
	var list []string
	for _, arg := range l.args {
		if arg == "--runtime" || strings.HasPrefix(arg, "--extension=") {
			list = append(list, arg)
		}
	}
	return append(append(list, "--no-reload"), l.images()...)
}

// What is on the disk after systemd and after ours attached the same: every file,
// its content, mode and owner, every link and its target, and the changes told.
func TestPortableLayout(t *testing.T) {
	images(t)
	for _, l := range layouts(t) {
		t.Run(l.what, func(t *testing.T) {
			portableSpace(t)
			if l.named {
				l.image = []string{inSearchPath(t, l.form)}
			}
			before := snapshot(t)
			var files [2]map[string]string
			var told, undone [2][]string
			for i, p := range []portabler{theirPortable, ourPortable} {
				told[i] = p.changes(t, with(append([]string{"attach", "--no-reload"}, l.args...), l.images()...)...)
				files[i] = added(before, snapshot(t))
				undone[i] = p.changes(t, with([]string{"detach"}, l.detachArgs()...)...)
				if diff := cmp.Diff(before, snapshot(t)); diff != "" {
					t.Errorf("%s leaves (-before +after):\n%s", p, diff)
				}
			}
			if len(files[0]) == 0 {
				t.Fatal("nothing was attached")
			}
			if l.ours != nil {
				l.ours(files[0])
			}
			if l.alone != "" {
				delete(files[0], l.alone)
				about := func(line string) bool { return strings.Contains(line, " "+l.alone) }
				told[0], undone[0] = slices.DeleteFunc(told[0], about), slices.DeleteFunc(undone[0], about)
			}
			if l.tells != nil {
				for i, line := range told[0] {
					told[0][i] = l.tells(line)
				}
				slices.Sort(told[0])
			}
			if diff := cmp.Diff(files[0], files[1]); diff != "" {
				t.Errorf("on the disk (-theirs +ours):\n%s", diff)
			}
			if diff := cmp.Diff(told[0], told[1]); diff != "" {
				t.Errorf("attach tells (-theirs +ours):\n%s", diff)
			}
			if diff := cmp.Diff(undone[0], undone[1]); diff != "" {
				t.Errorf("detach tells (-theirs +ours):\n%s", diff)
			}
		})
	}
}

// A path and a version that mean more than they say in a unit file are written so
// that they don't, and either's units are detached. Systemd's do not start.
func TestPortableOddPath(t *testing.T) {
	portableSpace(t)
	before := snapshot(t)
	image := filepath.Join(portableDir, "odd", "50% off: \u00e9", "walkthrough-go_1")
	makeTree(t, image, "1")
	release := filepath.Join(image, "usr/lib/os-release")
	run(t, "sed", "-i", "s/^VERSION_ID=.*/VERSION_ID='1 beta'/", release)
	var files [2]map[string]string
	for i, p := range []portabler{theirPortable, ourPortable} {
		p.run(t, "attach", image)
		files[i] = added(before, snapshot(t))
		if p.String() == "lockport" {
			run(t, "systemctl", "start", "walkthrough-go.socket")
			greeted(t)
			stop(t)
		}
		ourPortable.run(t, "detach", image)
		if diff := cmp.Diff(before, snapshot(t)); diff != "" {
			t.Errorf("left behind (-before +after):\n%s", diff)
		}
	}
	for path, text := range files[0] {
		text = strings.Replace(text, "RootDirectory="+portableDir+"/odd/50% off", "RootDirectory="+portableDir+"/odd/50%% off", 1)
		const version = "PORTABLE_NAME_AND_VERSION=walkthrough-go_1 beta"
		files[0][path] = strings.Replace(text, "="+version+"\n", `="`+version+"\"\n", 1)
	}
	if diff := cmp.Diff(files[0], files[1]); diff != "" {
		t.Errorf("on the disk (-theirs +ours):\n%s", diff)
	}
}

// layouts are the profiles, scopes and copy modes in pairs, extensions, and images
// found by name. What every form comes to, TestPortableForms compares.
func layouts(t *testing.T) []layout {
	t.Helper()
	directory, squashfs := formOf(t, "directory"), formOf(t, "squashfs")
	var list []layout
	for _, c := range []struct {
		form form
		args string
	}{
		{directory, "--copy=auto --profile=trusted --runtime"},
		{directory, "--copy=copy --profile=nonetwork"},
		{directory, "--copy=symlink --profile=strict --runtime"},
		{squashfs, "--copy=auto --profile=strict"},
		{squashfs, "--copy=copy --profile=trusted --runtime"},
		{squashfs, "--copy=symlink --profile=nonetwork"},
	} {
		list = append(list, layout{what: c.form.name + " " + c.args, form: c.form, args: strings.Fields(c.args)})
	}
	list = append(list,
		layout{what: "prefix", image: []string{squashfs.path(), "walkthrough-go.socket", "walkthrough-go-1"}},
		layout{what: "force", form: squashfs, args: []string{"--force"}},
		layout{what: "image by name", form: squashfs, named: true, alone: "/etc/portables/walkthrough-go_1.raw"},
		layout{what: "directory by name", form: directory, named: true, args: []string{"--copy=symlink"},
			alone: "/etc/portables/walkthrough-go_1"},
	)
	for _, f := range []form{directory, squashfs} {
		list = append(list, layout{what: f.name + " --copy=mixed", form: f, args: []string{"--copy=mixed"},
			ours: runsCopy(f), tells: func(line string) string {
				return strings.Replace(line, "Copied "+f.path()+"/usr", "Copied /etc/portables/"+f.file+"/usr", 1)
			}})
		for _, suffix := range []string{"", ".raw"} {
			extra := filepath.Join(portableDir, "extension/extra_1"+suffix)
			list = append(list, layout{what: fmt.Sprintf("%s with extension %s", f.name, filepath.Base(extra)), form: f,
				args: []string{"--extension=" + extra}, ours: everyServiceHas(extra)})
		}
	}
	return list
}

// inSearchPath copies an image to where it is found by name, and returns its name.
func inSearchPath(t *testing.T, f form) string {
	t.Helper()
	makeDir(t, "/var/lib/portables")
	run(t, "cp", "-a", f.path(), "/var/lib/portables/")
	t.Cleanup(func() { cleanup(t, "rm", "-rf", filepath.Join("/var/lib/portables", f.file)) })
	return strings.TrimSuffix(f.file, ".raw")
}

// runsCopy has the units run from the copy of the image, and says where it is from:
// systemd copies it and runs the original all the same.
func runsCopy(f form) func(files map[string]string) {
	return func(files map[string]string) {
		from, to := f.path(), filepath.Join("/etc/portables", f.file)
		for path, text := range files {
			if strings.HasSuffix(path, "/20-portable.conf") {
				text = strings.ReplaceAll(text, from, to)
				files[path] = strings.Replace(text, "', do not edit.\n", "', do not edit.\n# '"+to+"' is a copy of '"+from+"', made by lockport.\n", 1)
			}
		}
	}
}

// everyServiceHas has the lines of an extension in all drop-ins: systemd 257
// writes them only for the units that come from the extension.
func everyServiceHas(extra string) func(files map[string]string) {
	return func(files map[string]string) {
		lines := "\nExtensionDirectories=" + extra
		if strings.HasSuffix(extra, ".raw") {
			lines = "\nExtensionImages=" + extra
		}
		lines += "\nLogExtraFields=PORTABLE_EXTENSION=" + filepath.Base(extra) +
			"\nLogExtraFields=PORTABLE_EXTENSION_NAME_AND_VERSION=extra_1\n"
		for _, path := range slices.Collect(maps.Keys(files)) {
			if strings.HasSuffix(path, ".service.d/20-portable.conf") && !strings.Contains(path, "walkthrough-go-extra") {
				files[path] += lines
			}
		}
	}
}
