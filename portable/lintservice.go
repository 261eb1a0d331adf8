package portable

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lockport/lockport/image"
)

// service is a service as it will run with the profile.
type service struct {
	*lintUnit
	dynamic bool // it runs as a user that exists only meanwhile
	apivfs  bool // /proc, /sys, /dev and /run are mounted
	mounts  []mount
	env     map[string]string
	// libraries is LD_LIBRARY_PATH.
	libraries []string
}

func (l *lint) checkService(u *lintUnit) {
	s := &service{lintUnit: u, apivfs: u.set.isTrue("Service", "MountAPIVFS", true), dynamic: u.set.isTrue("Service", "DynamicUser", false)}
	s.env = environment(u.set)
	s.libraries = slices.DeleteFunc(strings.Split(s.env["LD_LIBRARY_PATH"], ":"), func(p string) bool { return p == "" })
	s.mounts = l.mountsOf(s)
	l.checkPrograms(s)
	l.checkMounts(s)
	l.checkFolders(s)
	l.checkRootSettings(s)
	l.checkOverridden(s)
	l.checkUsers(s)
	l.checkBusName(s)
	l.checkTasks(s)
	l.checkNetwork(s)
}

// checkFolders looks at paths that are opened, and says where.
func (l *lint) checkFolders(s *service) {
	if v, ok := s.set.last("Service", "WorkingDirectory"); ok {
		e := expand(v.value, s.Name)
		if p := e.text; e.known && path.IsAbs(p) && !s.covered(p) {
			if at, err := l.layers.find(p); missing(err) || err == nil && !at.info.IsDir() {
				l.found("working-directory-missing", s.at(v), fmt.Sprintf("WorkingDirectory=: there is no directory %s in the image", p), "make it, or correct the path")
			}
		}
	}
	for _, v := range s.set.all("Service", "EnvironmentFile") {
		p := expand(strings.TrimPrefix(v.value, "-"), s.Name).text
		if !path.IsAbs(p) || !l.may() {
			continue
		}
		_, inImage := l.layers.find(p)
		if _, onHost := l.host.tree.Stat(fsName(p)); inImage == nil && missing(onHost) {
			l.found("environment-file-on-host", s.at(v), fmt.Sprintf("EnvironmentFile=%s is read on the host, not in the image, and the host has none", p),
				"set the variables with Environment=, or read the file in the program")
		}
	}
}

// pathConditions are conditions and assertions about files, see systemd.unit(5).
var pathConditions = []string{"PathExists", "PathExistsGlob", "PathIsDirectory", "PathIsReadWrite", "FileNotEmpty", "FileIsExecutable", "DirectoryNotEmpty"}

// checkConditions: the service manager looks at paths before it knows of an image.
func (l *lint) checkConditions(u *lintUnit) {
	for _, v := range u.file.settings {
		name, isCondition := strings.CutPrefix(v.key, "Condition")
		if !isCondition {
			name, isCondition = strings.CutPrefix(v.key, "Assert")
		}
		p := expand(strings.TrimLeft(v.value, "|"), u.Name).text
		if !isCondition || v.section != "Unit" || !path.IsAbs(p) || !slices.Contains(pathConditions, name) || !l.may() {
			continue
		}
		_, inImage := l.layers.find(p)
		if _, onHost := l.host.tree.Stat(fsName(p)); inImage == nil && missing(onHost) {
			l.found("condition-on-host", u.at(v), fmt.Sprintf("%s=%s is about the host, which does not have it, and not about the image", v.key, shorten(p)), "take the line out, or name a path of the host")
		}
	}
}

// fsName is an absolute path as package fs has it.
func fsName(p string) string { return cmp.Or(strings.Trim(path.Clean(p), "/"), ".") }

// checkRootSettings: attach says in which image a unit runs.
func (l *lint) checkRootSettings(s *service) {
	for _, key := range []string{"RootImage", "RootDirectory", "RootMStack"} {
		if v, ok := s.set.last("Service", key); ok {
			l.found("root-in-unit", s.at(v), key+"= is set when the image is attached, and only one of its kind can be", "take the line out")
		}
	}
}

// listSettings are those of profiles that add to what a unit has.
var listSettings = []string{"BindPaths", "BindReadOnlyPaths", "CapabilityBoundingSet", "RestrictAddressFamilies", "SystemCallFilter", "SystemCallArchitectures",
	"IPAddressDeny", "IPAddressAllow", "Environment", "LogExtraFields", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "TemporaryFileSystem",
	"AmbientCapabilities", "DeviceAllow", "SupplementaryGroups", "ExecPaths", "NoExecPaths"}

// checkOverridden tells which settings of the unit the profile undoes.
func (l *lint) checkOverridden(s *service) {
	over := map[string]setting{}
	for _, v := range s.set {
		if v.profile && (v.value == "" || !slices.Contains(listSettings, v.key)) {
			over[v.section+v.key] = v
		}
	}
	for _, v := range s.file.settings {
		p, ok := over[v.section+v.key]
		if !ok || v.value == "" || sameValue(v.value, p.value) {
			continue
		}
		severity := Note
		if weaker(v, p) {
			severity = Warning
		}
		l.foundAs(severity, "setting-overridden", s.at(v), fmt.Sprintf("%s=%s becomes %s=%s with the profile %s", v.key, shorten(v.value), v.key, shorten(p.value), l.profile.name),
			"take the line out, or choose another profile")
	}
}

func sameValue(a, b string) bool {
	x, okX := parseBool(a)
	y, okY := parseBool(b)
	return a == b || okX && okY && x == y
}

// weaker tells whether the unit asked for more than it will have.
func weaker(unit, profile setting) bool {
	asked, ok := parseBool(unit.value)
	given, isBool := parseBool(profile.value)
	return profile.value == "" || unit.key == "TasksMax" && tasks(unit.value) > tasks(profile.value) || ok && isBool && !asked && given
}

// tasks is the number in TasksMax=, or more than any.
func tasks(value string) int {
	n, err := strconv.Atoi(value)
	if err != nil {
		return 1 << 30
	}
	return n
}

// checkUsers looks for the names that the service runs under.
func (l *lint) checkUsers(s *service) {
	for _, kind := range []struct{ key, file, word string }{{"User", "/etc/passwd", "user"}, {"Group", "/etc/group", "group"}} {
		v, ok := s.set.last("Service", kind.key)
		e := expand(v.value, s.Name)
		if _, number := strconv.ParseUint(e.text, 10, 32); !ok || number == nil || !e.known || e.text == "root" {
			continue
		}
		inImage := hasName(l.layers.readFile(kind.file, maxUnit))(e.text)
		text, err := image.ReadFile(l.host.tree, kind.file[1:], maxUnit)
		onHost := err != nil || hasName(text, nil)(e.text) // a tree without may become a host yet
		switch {
		case s.dynamic && !inImage:
			l.foundAs(Note, "user-unknown", s.at(v), fmt.Sprintf("programs that look up the %s %s will not find it in the image's %s", kind.word, e.text, kind.file),
				"do without the name, or add it there")
		case !s.dynamic && !onHost:
			l.found("user-unknown", s.at(v), fmt.Sprintf("the %s %s is looked up on the host, which does not have it", kind.word, e.text),
				"create it on the host with systemd-sysusers, or set DynamicUser=yes")
		}
	}
}

// hasName returns what tells whether a file of users or groups has a name.
func hasName(text []byte, _ error) func(string) bool {
	return func(name string) bool {
		for line := range strings.SplitSeq(string(text), "\n") {
			if strings.HasPrefix(line, name+":") {
				return true
			}
		}
		return false
	}
}

// checkBusName: the bus allows names to be owned only by users that it knows.
func (l *lint) checkBusName(s *service) {
	name, ok := s.set.last("Service", "BusName")
	if !ok || !s.dynamic {
		return
	}
	severity := Warning
	if serviceType(s.set) == "dbus" {
		severity = Error // it never counts as started
	}
	who := "the unit"
	if v, _ := s.set.last("Service", "DynamicUser"); v.profile {
		who = "the profile " + l.profile.name
	}
	l.foundAs(severity, "bus-name-dynamic", s.at(name), fmt.Sprintf("with DynamicUser=yes, which %s sets, the service can't own the bus name %s", who, shorten(name.value)),
		"let it run as a static user, with a profile such as trusted, or do without the name")
}

// goTasks is how many threads the runtime of Go wants to have by default.
const goTasks = 6

// checkTasks: a Go program that can't make a thread ends at once.
func (l *lint) checkTasks(s *service) {
	v, ok := s.set.last("Service", "TasksMax")
	if !ok || tasks(v.value) >= goTasks || s.env["GOMAXPROCS"] == "1" {
		return
	}
	for _, line := range s.set.all("Service", "ExecStart") {
		list, _ := commandsOf(line.value)
		for _, c := range list {
			at, p, err := l.findProgram(s, expand(c.path, s.Name).text)
			if err == nil && !s.covered(p) && at.info.Mode().IsRegular() && l.inspect(at, s.libraries).golang {
				l.found("tasks-max-go", s.at(line), fmt.Sprintf("%s is a Go program, which may need more threads than TasksMax=%s, and then ends", at.path(), v.value),
					"add Environment=GOMAXPROCS=1, or take another profile")
			}
		}
	}
}

// networkless tells whether a service can't open a connection to other machines.
func networkless(set settings) bool {
	var families []string
	for _, v := range set.all("Service", "RestrictAddressFamilies") {
		families = append(families, strings.Fields(v.value)...)
	}
	allowed := len(families) == 0 || strings.HasPrefix(families[0], "~") || slices.ContainsFunc(families, func(f string) bool { return strings.HasPrefix(f, "AF_INET") })
	return !allowed || set.isTrue("Service", "PrivateNetwork", false)
}

// checkNetwork tells of services that run for long, that nothing hands a socket
// to, and that have no network of their own.
func (l *lint) checkNetwork(s *service) {
	if !networkless(s.set) {
		return
	}
	if slices.ContainsFunc(s.file.settings, func(v setting) bool { return v.key == "PrivateNetwork" || v.key == "RestrictAddressFamilies" }) {
		return // whoever wrote it knows
	}
	_, sockets := s.set.last("Service", "Sockets")
	if serviceType(s.set) == "oneshot" || sockets || l.trigger[s.Name] || !installs(s.lintUnit) {
		return
	}
	l.found("no-network", s.top(), fmt.Sprintf("with the profile %s the service has no network, and no socket unit hands it a connection", l.profile.name),
		"add a socket unit of the same name, or take the profile default")
}
