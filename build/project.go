package build

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// template has the files of a project, with {{.}} for its name.
//
//go:embed template
var template embed.FS

// projectFiles are those of a project, and what they are made of.
var projectFiles = []struct{ name, from string }{
	{"README.md", "README.md.tmpl"},
	{"go.mod", "go.mod.tmpl"},
	{"main.go", "main.go.tmpl"},
	{SpecName, "portable.conf.tmpl"},
	{"{{.}}.service", "service.tmpl"},
	{"{{.}}.socket", "socket.tmpl"},
}

// maxProject is what leaves room for the suffixes of units and images.
const maxProject = 64

// checkProject wants a name that is one everywhere: of a program, a unit, an image
// and a Go module.
func checkProject(name string) error {
	letters := func(r rune) bool { return r >= 'a' && r <= 'z' }
	bad := strings.ContainsFunc(name, func(r rune) bool { return !letters(r) && (r < '0' || r > '9') && r != '-' })
	if bad || name == "" || !letters(rune(name[0])) || strings.HasSuffix(name, "-") || len(name) > maxProject {
		return fmt.Errorf("%w: %q is no name of a project: it may have a-z, 0-9 and -, begins with a letter and has at most %d", ErrSpec, name, maxProject)
	}
	return nil
}

// NewProject writes a complete example of a service into a new folder in another,
// which is called like the service: a Go program, its units, a specification and a
// README. It returns the names of the files. The folder appears when it is
// complete; one that is there already is [io/fs.ErrExist].
func NewProject(parent, name string) ([]string, error) {
	if err := checkProject(name); err != nil {
		return nil, err
	}
	dir := filepath.Join(parent, name)
	made := temporary(dir)
	files, err := writeProject(made, name)
	if err == nil {
		err = claim(made, dir)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(made))
	}
	for i, f := range files {
		files[i] = filepath.Join(dir, f)
	}
	return files, nil
}

func writeProject(dir, name string) ([]string, error) {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return nil, err
	}
	var list []string
	fill := func(text string) string { return strings.ReplaceAll(text, "{{.}}", name) }
	for _, f := range projectFiles {
		text, err := template.ReadFile("template/" + f.from)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, fill(f.name)), []byte(fill(string(text))), 0o666); err != nil {
			return nil, err
		}
		list = append(list, fill(f.name))
	}
	return list, nil
}

// claim gives a folder its name. To make an empty one of that name first finds
// out that there is none, which a rename would not.
func claim(made, dir string) error {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	// Not os.Rename: it does not rename over a folder, as the system does if that is empty.
	if err := syscall.Rename(made, dir); err != nil {
		return errors.Join(&os.LinkError{Op: "rename", Old: made, New: dir, Err: err}, os.Remove(dir))
	}
	return nil
}
