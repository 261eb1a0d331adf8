package portable

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/lockport/lockport/image"
)

const (
	// maxInMemory is how much of a program is read that can't be read in parts.
	maxInMemory = 64 << 20
	// maxLibraries is more than any program needs.
	maxLibraries = 1024
	// maxScripts is how many scripts the interpreter of another may be; the kernel has 5.
	maxScripts = 5
	// maxShebang is what the kernel reads of the first line.
	maxShebang = 256
)

// problem is a finding about a program, whoever starts it.
type problem struct{ rule, text, fix string }

// inspected is what is known of a program.
type inspected struct {
	problems []problem
	golang   bool
}

// program tells what will keep the kernel from executing a file.
func (l *lint) program(at spot, libraryPath []string) []problem {
	return l.inspect(at, libraryPath).problems
}

// inspect does its work once for each program.
func (l *lint) inspect(at spot, libraryPath []string) inspected {
	key := fmt.Sprintf("%d:%s:%q", at.layer, at.at, libraryPath)
	known, ok := l.programs[key]
	if !ok {
		known = l.inspectFile(at, libraryPath, 0)
		l.programs[key] = known
	}
	return known
}

func one(rule, fix, format string, args ...any) inspected {
	return inspected{problems: []problem{{rule, fmt.Sprintf(format, args...), fix}}}
}

func (l *lint) inspectFile(at spot, libraryPath []string, depth int) inspected {
	r, done, err := l.open(at)
	if err != nil {
		return one("image-damaged", "build the image anew", "%s can't be read: %v", at.path(), reason(err))
	}
	defer done()
	head := make([]byte, maxShebang)
	n, err := r.ReadAt(head, 0)
	head = head[:n]
	switch {
	case err != nil && err != io.EOF:
		return one("image-damaged", "build the image anew", "%s can't be read: %v", at.path(), reason(err))
	case bytes.HasPrefix(head, []byte("#!")):
		return l.inspectScript(at, string(head[2:]), libraryPath, depth)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return l.inspectELF(at, r, libraryPath)
	case n == 0:
		return one("exec-format", "put the program there", "%s is empty", at.path())
	}
	return one("exec-format", "begin a script with #! and its interpreter", "%s is neither an ELF file nor a script", at.path())
}

// open opens a file for reading at any offset. What can only be read from its
// beginning is held in memory.
func (l *lint) open(at spot) (r io.ReaderAt, done func(), err error) {
	f, err := l.layers[at.layer].Open(at.at)
	if err != nil {
		return nil, nil, err
	}
	done = func() { _ = f.Close() } // only read from
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = image.ErrNotRegular // it was exchanged since
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	if r, ok := f.(io.ReaderAt); ok {
		return r, done, nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxInMemory))
	return bytes.NewReader(b), done, err
}

// inspectScript looks for the interpreter that the first line names.
func (l *lint) inspectScript(at spot, line string, libraryPath []string, depth int) inspected {
	const rule, fix = "exec-interpreter-missing", "put it in the image, or correct the first line of the script"
	line, _, _ = strings.Cut(line, "\n")
	words := strings.Fields(strings.Trim(line, " \t"))
	if strings.HasSuffix(line, "\r") {
		return one(rule, "save the script with line ends of Unix", "the first line of %s ends with a carriage return, which becomes part of the interpreter's name", at.path())
	}
	if len(words) == 0 {
		return one("exec-format", fix, "%s names no interpreter behind #!", at.path())
	}
	known := l.inspectInterpreter(at, words[0], libraryPath, depth)
	if path.Base(words[0]) == "env" && len(words) > 1 && len(known.problems) == 0 && !strings.ContainsAny(words[1], "-=/$") {
		// Env looks for the interpreter itself.
		return l.inspectInterpreter(at, l.inPath(words[1]), libraryPath, depth)
	}
	return known
}

func (l *lint) inspectInterpreter(script spot, p string, libraryPath []string, depth int) inspected {
	const rule, fix = "exec-interpreter-missing", "put it in the image, or correct the first line of the script"
	at, err := l.layers.find(p)
	switch {
	case missing(err):
		return one(rule, fix, "%s, the interpreter of %s, is not in the image", p, script.path())
	case err != nil:
		return one("image-damaged", "build the image anew", "%s can't be read: %v", p, reason(err))
	case at.info.IsDir() || at.info.Mode()&0o111 == 0:
		return one(rule, fix, "%s, the interpreter of %s, is not executable", p, script.path())
	case depth == maxScripts:
		return one("exec-format", fix, "%s is a script whose interpreter is a script, and so on", script.path())
	}
	return l.inspectFile(at, libraryPath, depth+1)
}

// inPath is where a program is found by its name, or the name.
func (l *lint) inPath(name string) string {
	for _, folder := range execFolders {
		p := path.Join(folder, name)
		if _, err := l.layers.find(p); err == nil {
			return p
		}
	}
	return name
}

func (l *lint) inspectELF(at spot, r io.ReaderAt, libraryPath []string) inspected {
	f, err := readELF(r)
	if err != nil {
		return one("exec-format", "build the program anew", "%s is %v", at.path(), err)
	}
	if f.elfKind != machines[l.arch] && !l.compatible(f.elfKind) {
		return one("exec-architecture", "build the program for "+l.arch, "%s is for %s and not for %s", at.path(), f.word(), l.arch)
	}
	known := inspected{golang: f.golang}
	if f.interp == "" {
		return known
	}
	if _, err := l.layers.find(f.interp); err != nil {
		known.problems = append(known.problems, problem{"exec-interpreter-missing",
			fmt.Sprintf("%s, the loader of %s, is not in the image", f.interp, at.path()), "put the loader and all libraries in the image, or link the program statically"})
	}
	known.problems = append(known.problems, l.libraries(at, f, libraryPath)...)
	return known
}

// compatible tells whether the kernel runs the program all the same, which
// profiles with SystemCallArchitectures= do not allow.
func (l *lint) compatible(k elfKind) bool {
	if k != machines["x86"] || l.arch != "x86-64" {
		return false
	}
	return len(l.sandbox["service"].all("Service", "SystemCallArchitectures")) == 0
}

// wanted is a library that a file needs, and where that file says it may be.
type wanted struct {
	name, by string
	folders  []string
}

// libraries looks for everything that the loader will load, see ld.so(8).
func (l *lint) libraries(at spot, f *elfFile, libraryPath []string) (list []problem) {
	seen := map[string]bool{}
	var queue []wanted
	add := func(at spot, f *elfFile, inherited []string) {
		folders := append(origin(f.runpath, at), libraryPath...)
		if f.runpath == "" {
			folders = append(append(origin(f.rpath, at), inherited...), libraryPath...)
		}
		for _, name := range f.needed {
			if !seen[name] && len(seen) < maxLibraries {
				seen[name] = true
				queue = append(queue, wanted{name, at.path(), folders})
			}
		}
	}
	inherited := origin(f.rpath, at)
	add(at, f, nil)
	for len(queue) > 0 && l.ctx.Err() == nil {
		w := queue[0]
		queue = queue[1:]
		lib, at, err := l.findLibrary(w, f.elfKind)
		switch {
		case errors.Is(err, errEnough):
			return list
		case errors.Is(err, errELF):
			list = append(list, problem{"exec-library-missing", fmt.Sprintf("%s, which %s needs, is %v", w.name, w.by, err), "build the library anew"})
		case err != nil:
			list = append(list, problem{"exec-library-missing", fmt.Sprintf("%s, which %s needs, is not in the image", w.name, w.by),
				"put the library in the image, or link the program statically"})
		default:
			add(at, lib, inherited)
		}
	}
	return list
}

// origin splits a search path of a file, which may speak of the file's own directory.
func origin(searchPath string, at spot) (folders []string) {
	own := strings.NewReplacer("$ORIGIN", path.Dir(at.path()), "${ORIGIN}", path.Dir(at.path()))
	for _, folder := range strings.Split(own.Replace(searchPath), ":") {
		for _, lib := range []string{"lib", "lib64"} {
			p := strings.NewReplacer("$LIB", lib, "${LIB}", lib).Replace(folder)
			if strings.HasPrefix(p, "/") && !strings.Contains(p, "$") && len(folders) < maxLibraryFolders {
				folders = append(folders, p)
			}
			if p == folder {
				break
			}
		}
	}
	return folders
}

// findLibrary returns the first library of a name that is of the program's kind.
func (l *lint) findLibrary(w wanted, kind elfKind) (*elfFile, spot, error) {
	candidates := []string{w.name}
	if !strings.Contains(w.name, "/") {
		candidates = nil
		for _, folder := range append(w.folders, l.libraryFolders()...) {
			candidates = append(candidates, path.Join(folder, w.name))
		}
	}
	for _, p := range candidates {
		if !l.may() {
			return nil, spot{}, errEnough
		}
		at, err := l.layers.find(p)
		if err != nil || !at.info.Mode().IsRegular() {
			continue
		}
		r, done, err := l.open(at)
		if err != nil {
			return nil, spot{}, err
		}
		f, err := readELF(r)
		done()
		if err != nil {
			return nil, spot{}, err
		}
		if f.elfKind == kind {
			return f, at, nil
		}
	}
	return nil, spot{}, errNoLibrary
}

var errNoLibrary = errors.New("no such library")
