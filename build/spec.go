package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Spec says what is in an image of a service.
type Spec struct {
	Name     string   // of the image, and of its ID; the first part of its units' names
	Version  string   // may be empty
	Pretty   string   // for people; may be empty
	Prefixes []string // of units; none for the name
	Release  []Field  // further fields of os-release, or others for those that follow from the rest
	Programs []File   // without a target, in /usr/bin
	Units    []string // files with units
	Files    []File   // files and directories
	Dirs     []string // empty directories
	Links    []Link
}

// File is a file or directory of the host and its place in the image.
type File struct{ Source, Target string }

// Link is a symbolic link in the image.
type Link struct{ Path, Target string }

const unitFolder = "/usr/lib/systemd/system"

// Tree makes the tree of an image from a specification alone. Modes are 0644, or
// 0755 for what its owner may execute, and all times are the same.
func (s *Spec) Tree(at time.Time) (*Tree, error) {
	switch {
	case s.Name == "":
		return nil, fmt.Errorf("%w: the image has no name", ErrSpec)
	case len(s.Units) == 0:
		return nil, fmt.Errorf("%w: there are no units", ErrSpec)
	}
	t := New()
	if err := s.AddTo(t); err != nil {
		return nil, err
	}
	t.SetTimes(at)
	return t, nil
}

// Label is NAME_VERSION, which image files and partitions are called by.
func (s *Spec) Label() string {
	if s.Version == "" {
		return s.Name
	}
	return s.Name + "_" + s.Version
}

func checkName(name string) error {
	if strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune(".-", r)
	}) {
		return fmt.Errorf("%w: %q is no name of an image: it may have a-z, 0-9, . and -", ErrSpec, name)
	}
	return nil
}

func checkVersion(version string) error {
	if strings.ContainsFunc(version, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-~^", r)
	}) {
		return fmt.Errorf("%w: %q is no version: it may have letters, digits, . - ~ and ^", ErrSpec, version)
	}
	return nil
}

// AddTo adds what is specified to a tree, which may have an installed system in
// it. Then os-release is that of the system, with what is said here behind it.
func (s *Spec) AddTo(t *Tree) error {
	if err := checkName(s.Name); err != nil {
		return err
	}
	if err := checkVersion(s.Version); err != nil {
		return err
	}
	if err := s.release(t); err != nil {
		return err
	}
	for _, p := range s.Programs {
		if p.Target == "" {
			p.Target = "/usr/bin/" + filepath.Base(p.Source)
		}
		if err := t.addHost(p, 0o755); err != nil {
			return err
		}
	}
	for _, f := range s.Files {
		if f.Target == "" {
			return fmt.Errorf("%w: where in the image is %s to be?", ErrSpec, f.Source)
		}
		if err := t.addHost(f, 0); err != nil {
			return err
		}
	}
	for _, u := range s.Units {
		if err := t.addHost(File{u, path.Join(unitFolder, filepath.Base(u))}, 0o644); err != nil {
			return err
		}
	}
	for _, d := range s.Dirs {
		if err := t.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	for _, l := range s.Links {
		if err := t.Symlink(l.Path, l.Target); err != nil {
			return err
		}
	}
	return nil
}

// release writes os-release, and the link by which older programs find it.
func (s *Spec) release(t *Tree) error {
	name, old := "/usr/lib/os-release", []byte(nil)
	for _, p := range []string{"/etc/os-release", name} {
		if text, err := t.ReadFile(p, maxRelease); err == nil {
			name, old = p, text
			break
		}
	}
	if len(old) > 0 && old[len(old)-1] != '\n' {
		old = append(old, '\n')
	}
	text, err := FormatRelease(s.fields(old == nil))
	if err != nil || len(text) == 0 {
		return err
	}
	if err := t.WriteFile(name, append(old, text...), 0o644); err != nil || old != nil {
		return err
	}
	return t.Symlink("/etc/os-release", "../usr/lib/os-release")
}

// maxRelease is that of what reads the os-release of an image.
const maxRelease = 64 << 10

// fields are those of os-release. Alone, they also say which system it is.
func (s *Spec) fields(alone bool) []Field {
	prefixes := s.Prefixes
	if len(prefixes) == 0 && s.Name != "" {
		prefixes = []string{s.Name}
	}
	list := []Field{
		{"IMAGE_ID", s.Name}, {"IMAGE_VERSION", s.Version},
		{"PORTABLE_PRETTY_NAME", s.Pretty}, {"PORTABLE_PREFIXES", strings.Join(prefixes, " ")},
	}
	if alone {
		list = append([]Field{{"ID", s.Name}, {"VERSION_ID", s.Version}, {"PRETTY_NAME", s.Pretty}}, list...)
	}
	for _, f := range s.Release {
		i := slices.IndexFunc(list, func(have Field) bool { return have.Key == f.Key })
		if i < 0 {
			list = append(list, f)
		} else {
			list[i] = f
		}
	}
	return list
}

// addHost adds a file of the host, or a directory with all that is in it. A mode
// of 0 leaves the right to execute as it is. Links in directories are taken as
// links, the source itself is followed.
func (t *Tree) addHost(f File, mode fs.FileMode) error {
	s, err := os.Stat(f.Source)
	if err != nil {
		return err
	}
	if s.IsDir() {
		return t.addFolder(f)
	}
	return t.addFile(f, s, mode)
}

func (t *Tree) addFile(f File, s fs.FileInfo, mode fs.FileMode) error {
	if !s.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is neither a file nor a directory", ErrSpec, f.Source)
	}
	if mode == 0 {
		mode = 0o644
		if s.Mode()&0o100 != 0 {
			mode = 0o755
		}
	}
	return t.file(f.Target, s.Size(), mode, func() (io.ReadCloser, error) { return os.Open(f.Source) })
}

func (t *Tree) addFolder(f File) error {
	top, err := filepath.EvalSymlinks(f.Source)
	if err != nil {
		return err
	}
	return filepath.WalkDir(top, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		target := path.Join(f.Target, filepath.ToSlash(rel))
		switch e.Type() {
		case fs.ModeDir:
			return t.Mkdir(target, 0o755)
		case fs.ModeSymlink:
			link, err := os.Readlink(p)
			return errors.Join(err, t.Symlink(target, link))
		}
		s, err := e.Info()
		if err != nil {
			return err
		}
		return t.addFile(File{p, target}, s, 0)
	})
}
