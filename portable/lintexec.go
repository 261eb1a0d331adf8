package portable

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// execKeys are the commands of a service.
var execKeys = []string{"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecReloadPost", "ExecStop", "ExecStopPost"}

// execFolders is where a program without a path is looked for.
var execFolders = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// command is what is left of a command line when its prefixes are off.
type command struct {
	path     string
	optional bool // "-": it may fail
	root     bool // "+", "!" or "!!": it runs as root
	shell    bool // "|": it is for a shell
}

// parseCommand reads the first word of a command line, see the table of
// prefixes in systemd.service(5).
func parseCommand(word string) command {
	rest := strings.TrimLeft(word, "-@:+!|")
	prefix := word[:len(word)-len(rest)]
	return command{rest, strings.Contains(prefix, "-"), strings.ContainsAny(prefix, "+!"), strings.Contains(prefix, "|")}
}

// commandsOf splits a value into command lines, which a lone semicolon divides.
func commandsOf(value string) (list []command, err error) {
	begin := true
	for value = strings.TrimLeft(value, " \t"); value != ""; value = strings.TrimLeft(value, " \t") {
		if value == ";" || strings.HasPrefix(value, "; ") {
			value, begin = value[1:], true
			continue
		}
		word, rest, err := firstWord(value)
		if err != nil {
			return list, err
		}
		if begin {
			list = append(list, parseCommand(word))
		}
		value, begin = rest, false
	}
	return list, nil
}

// checkPrograms looks at everything that the service executes in the image.
func (l *lint) checkPrograms(s *service) {
	startOnly := s.set.isTrue("Service", "RootDirectoryStartOnly", false)
	for _, key := range execKeys {
		for _, v := range s.set.all("Service", key) {
			if startOnly && key != "ExecStart" {
				continue
			}
			list, _ := commandsOf(v.value) // a wrong one has been told of
			for _, c := range list {
				if e := expand(c.path, s.Name); e.known && !c.shell && l.may() {
					c.path = e.text
					l.checkProgram(s, v, c)
				}
			}
		}
	}
}

// checkProgram looks at one program.
func (l *lint) checkProgram(s *service, v setting, c command) {
	severity := Error
	if c.optional {
		severity = Warning
	}
	if strings.HasSuffix(c.path, "/") || c.path == "" {
		l.foundAs(severity, "exec-directory", s.at(v), fmt.Sprintf("%s=: %q is a directory", v.key, c.path), "give the path of the program")
		return
	}
	if strings.Contains(c.path, "/") && c.path[0] != '/' {
		l.foundAs(severity, "exec-relative", s.at(v), fmt.Sprintf("%s=: %s is a relative path", v.key, c.path), "give the path from the top of the image")
		return
	}
	at, p, err := l.findProgram(s, c.path)
	switch {
	case errors.Is(err, errEnough) || s.covered(p) || s.covered(l.layers.target(p)):
		return
	case missing(err):
		l.missingProgram(s, v, c)
		return
	case err != nil:
		l.damaged(place{0, p, 0}, err)
		return
	}
	if at.info.IsDir() || !at.info.Mode().IsRegular() {
		l.found("exec-directory", s.at(v), fmt.Sprintf("%s=: %s is no file that can be executed", v.key, p), "give the path of the program")
		return
	}
	l.checkExecutable(s, v, c, at)
	for _, found := range l.program(at, s.libraries) {
		l.found(found.rule, s.at(v), fmt.Sprintf("%s=: %s", v.key, found.text), found.fix)
	}
}

// missingProgram says so, and where it may be instead.
func (l *lint) missingProgram(s *service, v setting, c command) {
	severity := Error
	text := fmt.Sprintf("%s=: %s is not in the image", v.key, c.path)
	if c.optional {
		severity = Warning
		text += `, which the "-" hides`
	}
	fix := "put the program there, or correct the path"
	for _, folder := range execFolders {
		p := path.Join(folder, path.Base(c.path))
		if at, err := l.layers.find(p); err == nil && at.info.Mode().IsRegular() {
			fix = "there is " + p
			break
		}
	}
	l.foundAs(severity, "exec-missing", s.at(v), text, fix)
}

var (
	errCovered = errors.New("the image can't tell what is there")
	errEnough  = errors.New("not looked at")
)

// findProgram follows the path of a program, or looks for its name as the
// service manager does.
func (l *lint) findProgram(s *service, name string) (at spot, p string, err error) {
	if name == "" || strings.Contains(name, "/") && name[0] != '/' {
		return spot{}, "", fs.ErrNotExist
	}
	if name[0] == '/' {
		at, err = l.layers.find(name)
		return at, name, err
	}
	folders := execFolders
	if v, ok := s.set.last("Service", "ExecSearchPath"); ok {
		folders = strings.Split(v.value, ":")
	}
	err = fs.ErrNotExist
	for _, folder := range folders {
		if p = path.Join("/", folder, name); s.covered(p) {
			return spot{}, p, errCovered
		}
		if !l.may() {
			return spot{}, p, errEnough
		}
		if at, err = l.layers.find(p); !missing(err) {
			return at, p, err
		}
	}
	return spot{}, "", err
}

// checkExecutable compares the mode of a program and of the directories above it
// with who runs it.
func (l *lint) checkExecutable(s *service, v setting, c command, at spot) {
	mode := at.info.Mode()
	other := s.dynamic && !c.root
	switch {
	case mode&0o111 == 0:
		l.found("exec-not-executable", s.at(v), fmt.Sprintf("%s=: %s is not executable: its mode is %04o", v.key, at.path(), mode.Perm()), "make its mode 0755")
	case other && mode&0o001 == 0:
		l.found("exec-not-executable", s.at(v), fmt.Sprintf("%s=: %s is not executable for the dynamic user of the service: its mode is %04o", v.key, at.path(), mode.Perm()),
			"make its mode 0755")
	}
	for dir := path.Dir(at.at); other; dir = path.Dir(dir) {
		if info, err := l.layers[at.layer].Lstat(dir); err == nil && info.Mode()&0o001 == 0 {
			l.found("path-not-searchable", place{at.layer, path.Join("/", dir), 0},
				fmt.Sprintf("the dynamic user of a service may not enter it: its mode is %04o", info.Mode().Perm()), "make its mode 0755")
		}
		if dir == "." {
			break
		}
	}
}

// checkSocketCommands: only services are told which image they run in.
func (l *lint) checkSocketCommands(u *lintUnit) {
	for _, v := range u.set {
		if v.section == "Socket" && strings.HasPrefix(v.key, "ExecSt") && v.value != "" {
			l.found("exec-on-host", u.at(v), v.key+"= of a socket runs on the host, not in the image", "let the service do it")
		}
	}
}

// environment is what Environment= sets.
func environment(set settings) map[string]string {
	env := map[string]string{}
	for _, v := range set.all("Service", "Environment") {
		words, _ := splitWords(v.value) // a wrong one has been told of
		for _, w := range words {
			if name, value, ok := strings.Cut(w, "="); ok {
				env[name] = value
			}
		}
	}
	return env
}
