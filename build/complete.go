package build

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// The directories and files that the service manager mounts something over when
// it starts a service in an image that can't be written to.
var (
	mountDirectories = []string{"/dev", "/etc", "/proc", "/root", "/run", "/sys", "/usr", "/var", "/var/lib"}
	sharedDirectory  = []string{"/tmp", "/var/tmp"}
	mountFiles       = []string{"/etc/machine-id", "/etc/resolv.conf"}
)

// Complete adds what an image needs besides the services: mount points, also for
// each StateDirectory= and the like of the units in it. An installed system's
// own machine ID is emptied, so that each machine has its own.
func (t *Tree) Complete(needed func(unit string, text []byte) []string) error {
	for _, p := range mountDirectories {
		if err := t.Mkdir(p, 0o755); err != nil {
			return err
		}
	}
	for _, p := range sharedDirectory {
		if err := t.Mkdir(p, fs.ModeSticky|0o777); err != nil {
			return err
		}
	}
	for _, p := range mountFiles {
		if err := t.emptyFile(p); err != nil {
			return err
		}
	}
	for _, folder := range unitFolders {
		for _, name := range t.names(folder) {
			if err := t.completeFor(path.Join(folder, name), needed); err != nil {
				return err
			}
		}
	}
	return nil
}

// unitFolders are those in which an image has its units.
var unitFolders = []string{"/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// maxUnit is that of what reads the units of an image.
const maxUnit = 1 << 20

func (t *Tree) completeFor(p string, needed func(unit string, text []byte) []string) error {
	n, err := t.walk(p, true, false)
	if err != nil || !n.Mode.IsRegular() {
		return nil // a mask, or a link to nowhere
	}
	text, err := t.ReadFile(p, maxUnit)
	if err != nil {
		return err
	}
	for _, dir := range needed(path.Base(p), text) {
		if err := t.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("making %s for %s: %w", dir, path.Base(p), err)
		}
	}
	return nil
}

// emptyFile makes sure that a path leads to a regular file to mount over.
func (t *Tree) emptyFile(p string) error {
	n, err := t.walk(p, true, false)
	keep := err == nil && n.Mode.IsRegular() && (n.Size == 0 || p != "/etc/machine-id")
	if keep {
		return nil
	}
	if l, err := t.walk(p, false, false); err == nil && l.Mode.Type() == fs.ModeSymlink {
		// One to /run, say, where nothing is yet when it is mounted over.
		dir, err := t.walk(path.Dir(p), true, false)
		if err != nil {
			return err
		}
		delete(dir.children, path.Base(p))
	}
	return t.WriteFile(p, nil, 0o444)
}

// Field is an assignment of an os-release.
type Field struct{ Key, Value string }

// FormatRelease writes fields as os-release(5) has them. Empty values are left
// out. A value with control characters is an error.
func FormatRelease(fields []Field) ([]byte, error) {
	var b strings.Builder
	for _, f := range fields {
		if f.Value == "" {
			continue
		}
		if strings.ContainsFunc(f.Value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, fmt.Errorf("%w: %s has control characters", ErrSpec, f.Key)
		}
		b.WriteString(f.Key + "=" + quote(f.Value) + "\n")
	}
	return []byte(b.String()), nil
}

// quote puts quotes around what a shell would not take as one word.
func quote(text string) string {
	plain := !strings.ContainsFunc(text, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("._-+~^:/@%,", r)
	})
	if plain {
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(text) + `"`
}
