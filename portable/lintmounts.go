package portable

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// mountKind is what has to be in the image for something to be mounted there.
type mountKind int

const (
	anything mountKind = iota
	directory
	regularFile
)

func (k mountKind) String() string {
	if k == regularFile {
		return "an empty regular file"
	}
	return "an empty directory"
}

// mount is a path of the image that something else comes to lie over.
type mount struct {
	path string
	kind mountKind
	why  string
	from setting // whose profile is also set for what no setting asks for by name
}

// fileSources are files of the host that are commonly bound, should the host that
// is looked at not have them.
var fileSources = []string{"/etc/machine-id", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/etc/localtime", "/etc/timezone", "/etc/nsswitch.conf", "/run/dbus/system_bus_socket"}

// maxMounts of a service are looked at.
const maxMounts = 256

// mountsOf lists what the service manager mounts for a service.
func (l *lint) mountsOf(s *service) []mount {
	list := impliedMounts(s)
	for _, key := range []string{"BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem", "MountImages"} {
		eachWord(s.set, key, func(v setting, w string) bool {
			if m, ok := l.mountOf(s, key, w); ok {
				m.from = v
				list = append(list, m)
			}
			return len(list) < maxMounts
		})
	}
	eachStateDirectory(s.set, s.Name, func(m mount) bool {
		list = append(list, m)
		return len(list) < maxMounts
	})
	return list
}

// eachWord goes through the words of a setting as long as more are wanted.
func eachWord(set settings, key string, do func(v setting, word string) (more bool)) {
	for _, v := range set.all("Service", key) {
		words, _ := splitWords(v.value) // with the quotes wrong, it is not used
		for _, w := range words {
			if !do(v, w) {
				return
			}
		}
	}
}

// impliedMounts are those that no setting names.
func impliedMounts(s *service) (list []mount) {
	add := func(why string, paths ...string) {
		for _, p := range paths {
			list = append(list, mount{p, directory, why, setting{profile: true}})
		}
	}
	if s.apivfs {
		add("MountAPIVFS=yes", "/proc", "/sys", "/dev", "/run")
	}
	private, _ := s.set.last("Service", "PrivateTmp")
	switch on, _ := parseBool(private.value); {
	case s.dynamic:
		add("DynamicUser=yes", "/tmp", "/var/tmp")
	case on || private.value == "disconnected":
		add("PrivateTmp="+private.value, "/tmp", "/var/tmp")
	}
	return list
}

var stateSettings = []struct{ key, top string }{
	{"StateDirectory", "/var/lib"}, {"CacheDirectory", "/var/cache"}, {"LogsDirectory", "/var/log"}, {"ConfigurationDirectory", "/etc"},
}

// mountOf reads a word of a setting: SOURCE[:DESTINATION[:OPTIONS]], or for a
// temporary file system DESTINATION[:OPTIONS].
func (l *lint) mountOf(s *service, key, w string) (mount, bool) {
	e := expand(strings.TrimLeft(w, "-+"), s.Name)
	source, rest, _ := strings.Cut(strings.ReplaceAll(e.text, `\:`, "\x00"), ":")
	destination, _, _ := strings.Cut(rest, ":")
	if destination == "" {
		destination = source
	}
	m := mount{path: source, kind: directory, why: key + "=" + source}
	if key != "TemporaryFileSystem" {
		m.path, m.why = destination, key+"="+strings.TrimPrefix(w, "-")
	}
	if strings.HasPrefix(key, "Bind") {
		m.kind = l.sourceKind(source)
	}
	m.path = path.Clean(strings.ReplaceAll(m.path, "\x00", ":"))
	return m, e.known && path.IsAbs(m.path) && m.path != "/"
}

// sourceKind tells what a path of the host is.
func (l *lint) sourceKind(source string) mountKind {
	if slices.Contains(fileSources, source) {
		return regularFile
	}
	info, err := l.host.tree.Stat(fsName(source))
	switch {
	case err != nil:
		return anything
	case info.IsDir():
		return directory
	}
	return regularFile
}

// covered tells whether something that is not of the image comes to lie over
// what a path leads to.
func (s *service) covered(p string) bool {
	for _, m := range s.mounts {
		if below(p, m.path) {
			return true
		}
	}
	return false
}

// below tells whether a path is another or beneath it.
func below(p, top string) bool {
	top = strings.TrimSuffix(top, "/")
	return strings.HasPrefix(p, top) && (len(p) == len(top) || p[len(top)] == '/')
}

// isMadeFor tells whether the mount point is made where another mount is, before
// this one.
func (s *service) isMadeFor(m mount, target string) bool {
	for _, other := range s.mounts {
		if other.path != m.path && below(target, other.path) {
			return true
		}
	}
	return false
}

// checkMounts wants a place in the image for everything that is mounted.
func (l *lint) checkMounts(s *service) {
	if root := l.layers[0]; root.Layout != nil && rootPart(root) == nil {
		return // all is made in memory
	}
	done := map[string]bool{}
	for _, m := range s.mounts {
		target := l.layers.target(m.path)
		if done[m.path] || s.isMadeFor(m, target) {
			continue
		}
		done[m.path] = true
		// What the profile asks for is about the image, and told once.
		at, why := s.at(m.from), m.why
		if m.from.profile {
			at, why = place{0, m.path, 0}, m.why+" of the profile "+l.profile.name
			if m.from.key == "" {
				why = m.why
			}
		}
		// What the profile asks for is the same for most services.
		key := fmt.Sprint(m.path, m.kind, why, l.readOnly(s))
		if m.from.profile && l.mounts[key] || !l.may() {
			continue
		}
		l.mounts[key] = true
		found, err := l.layers.find(m.path)
		switch {
		case missing(err):
			l.missingMount(s, at, m, target, why)
		case err != nil:
			l.damaged(place{0, m.path, 0}, err)
		case m.kind == directory && !found.info.IsDir(), m.kind == regularFile && !found.info.Mode().IsRegular():
			l.found("mount-point-type", at, fmt.Sprintf("%s is mounted on %s, where the image has %s", why, m.path, describeMode(found)), "put "+m.kind.String()+" there")
		}
	}
}

func describeMode(s spot) string {
	switch {
	case s.info.IsDir():
		return "a directory"
	case s.info.Mode().IsRegular():
		return "a file"
	}
	return "a device or the like"
}

// missingMount tells of a mount point that is not there. Where the image can be
// written to, the service manager makes it, and so changes the image.
func (l *lint) missingMount(s *service, at place, m mount, target, why string) {
	severity, text := Error, fmt.Sprintf("%s is not in the image, but %s is mounted there", m.path, why)
	if target != m.path {
		text = fmt.Sprintf("%s is a link to %s, which is not in the image, but %s is mounted there", m.path, target, why)
	}
	if !l.readOnly(s) {
		severity = Warning
		text += "; the service manager has to change the image"
	}
	l.foundAs(severity, "mount-point-missing", at, text, fmt.Sprintf("make %s %s", m.kind, target))
}

// readOnly tells whether the root image can't be written to while the service is
// being started: with ProtectSystem=strict, an image file is opened read-only.
func (l *lint) readOnly(s *service) bool {
	root := l.layers[0]
	protect, _ := s.set.last("Service", "ProtectSystem")
	if root.Layout == nil {
		return root.ReadOnly
	}
	return root.ReadOnly || protect.value == "strict" || !rootPart(root).Writable
}
