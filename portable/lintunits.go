package portable

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/lockport/lockport/image"
)

// lintUnit is a unit of the images, and what it comes to with the profile.
type lintUnit struct {
	Unit
	typ  string
	file *unitFile
	set  settings
}

// at is a place in the unit's file. A line of the profile is no line of it.
func (u *lintUnit) at(s setting) place {
	if s.profile {
		return place{u.image, u.Path, 0}
	}
	return place{u.image, u.Path, s.line}
}

func (u *lintUnit) top() place { return place{u.image, u.Path, 0} }

// template tells whether the unit needs an instance.
func (u *lintUnit) template() bool { return strings.Contains(u.Name, "@.") }

// foundFolder is a directory that belongs to a unit.
type foundFolder struct {
	layer      int
	path, unit string
}

// otherTypes are the types of units that are never taken from an image.
var otherTypes = []string{".mount", ".automount", ".swap", ".slice", ".scope", ".device", ".nspawn", ".network"}

// unitSections are those of the files of each type.
var unitSections = map[string][]string{
	"service": {"Unit", "Install", "Service"}, "socket": {"Unit", "Install", "Socket"}, "target": {"Unit", "Install"},
	"timer": {"Unit", "Install", "Timer"}, "path": {"Unit", "Install", "Path"},
}

// collectUnits finds the units of all images.
func (l *lint) collectUnits() error {
	for i, img := range l.layers {
		have, seen := map[string]bool{}, map[string]bool{}
		for _, folder := range unitFolders {
			// On most systems, /lib is the same as /usr/lib.
			at, err := img.Resolve(folder)
			if err == nil && seen[at] {
				continue
			}
			seen[at] = true
			entries, err := fs.ReadDir(img, folder)
			switch {
			case missing(err):
				continue
			case err != nil:
				l.damaged(place{i, "/" + folder, 0}, err)
				continue
			}
			for _, e := range entries {
				if err := l.ctx.Err(); err != nil {
					return err
				}
				l.entry(i, folder, e, have)
			}
		}
	}
	slices.SortFunc(l.units, func(a, b *lintUnit) int { return cmp.Compare(a.Name, b.Name) })
	if len(l.units) == 0 && !l.broken {
		l.noUnits()
	}
	l.checkOthers()
	return nil
}

func (l *lint) damaged(at place, err error) {
	l.broken = true
	l.found("image-damaged", at, "it can't be read: "+reason(err), "build the image anew")
}

func (l *lint) noUnits() {
	text := "the image has no units at all"
	if len(l.others) > 0 {
		text = fmt.Sprintf("no unit of the image has the prefix %s", strings.Join(l.prefixes, " or "))
	}
	l.found("no-units", place{}, text, "add units to /usr/lib/systemd/system that begin with the prefix, which is what the image's name begins with")
}

// entry looks at one entry of a folder of units.
func (l *lint) entry(layer int, folder string, e fs.DirEntry, have map[string]bool) {
	name, p := e.Name(), path.Join("/", folder, e.Name())
	at := place{layer, p, 0}
	if i := strings.LastIndexByte(name, '.'); i > 0 && slices.Contains([]string{".d", ".wants", ".requires", ".upholds"}, name[i:]) {
		l.folders = append(l.folders, foundFolder{layer, p, name[:i]})
		return
	}
	suffix := path.Ext(name)
	switch {
	case unitType(name) != "" && !matchUnit(name, l.prefixes):
		if _, known := l.others[name]; !known {
			l.others[name] = at
		}
	case !matchUnit(name, l.prefixes) || have[name]:
	case slices.Contains(otherTypes, suffix) && len(l.prefixes) > 0:
		l.found("unit-type", at, fmt.Sprintf("units of the type %s are not attached", suffix[1:]), "do without it, or install it on the host")
	case unitType(name) != "":
		l.addUnit(layer, p, have)
	case suffix != "" && slices.Contains(unitTypes, suffix[1:]):
		l.found("unit-name", at, fmt.Sprintf("%q can't be the name of a unit, so it is not attached", name), `use letters, digits and :-_.\ only`)
	}
}

func (l *lint) addUnit(layer int, p string, have map[string]bool) {
	text, ok := l.unitText(place{layer, p, 0})
	if !ok {
		return
	}
	name := path.Base(p)
	have[name] = true
	if l.size += len(text); len(l.units) == maxUnits || l.size > maxUnitBytes {
		l.found("too-much", place{layer, "", 0}, "the image has more units than are looked at", "split it")
		return
	}
	if l.byName[name] != nil {
		l.found("unit-clash", place{layer, p, 0}, "an image below has a unit of this name, which is the one that is attached", "give it another name")
		return
	}
	u := &lintUnit{Unit: Unit{name, p, text, layer}, typ: unitType(name)}
	u.file = parseUnitFile(text, unitSections[u.typ]...)
	u.set = slices.Concat(u.file.settings, l.sandbox[u.typ])
	l.units = append(l.units, u)
	l.byName[name] = u
}

// unitText reads a unit file as attach will. It is not ok if that will not.
func (l *lint) unitText(at place) (text []byte, ok bool) {
	img := l.layers[at.layer]
	to, linkErr := img.ReadLink(at.file[1:])
	if linkErr == nil && to == "/dev/null" {
		l.found("unit-empty", at, "the unit is masked, and so it is not attached", "remove it, or put a unit in its place")
		return nil, false
	}
	resolved, err := img.Resolve(at.file)
	if missing(err) {
		l.found("unit-link-broken", at, fmt.Sprintf("it is a link to %q, which the image does not have", to), "put the file itself here")
		return nil, false
	}
	if err == nil && linkErr == nil && path.IsAbs(to) {
		l.found("unit-link-absolute", at, fmt.Sprintf("it is a link to %s, which systemd-portabled takes for a file of the host", to), "make the link relative, or put the file itself here")
	}
	if err == nil {
		text, err = image.ReadFile(img, resolved, maxUnit)
	}
	switch {
	case errors.Is(err, image.ErrNotRegular) || errors.Is(err, image.ErrTooLarge):
		l.found("unit-irregular", at, "it is "+reason(err), "put a unit file here")
	case err != nil:
		l.damaged(at, err)
	case len(text) == 0:
		l.found("unit-empty", at, "the file is empty, and so it is not attached", "remove it, or fill it")
	default:
		return text, l.checkCharacters(at, text)
	}
	return nil, false
}

// reason is what an error says without the path, which the finding has.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

func (l *lint) checkCharacters(at place, text []byte) bool {
	ok := true
	n := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		n++
		if !image.Printable(strings.NewReplacer("\t", " ", "\r", " ").Replace(string(line))) {
			l.found("unit-characters", place{at.layer, at.file, n}, "there are control characters, or bytes that are not UTF-8", "write them as escapes")
			ok = false
		}
	}
	return ok
}

// systemSigns are what only an image with a distribution in it has.
var systemSigns = []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/var/lib/dpkg/status", "/var/lib/rpm", "/usr/lib/sysimage/rpm",
	"/lib/apk/db/installed", "/usr/lib/apk/db/installed", "/var/lib/pacman/local"}

// checkOthers tells of units that stay behind. An image with a whole system has
// many of those; one without has forgotten about the prefix.
func (l *lint) checkOthers() {
	if len(l.others) == 0 || len(l.units) == 0 {
		return
	}
	for _, p := range systemSigns {
		if _, err := l.layers.find(p); err == nil {
			return
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.others)) {
		l.found("unit-not-attached", l.others[name], fmt.Sprintf("the unit is not attached: it does not begin with %s", strings.Join(l.prefixes, " or ")),
			"rename it, or attach it by a prefix of its own")
	}
}

// checkUnits looks at each unit on its own.
func (l *lint) checkUnits() error {
	for _, f := range l.folders {
		if l.byName[f.unit] != nil {
			l.found("drop-in-ignored", place{f.layer, f.path, 0}, "what is in this directory is not attached", "move the settings to the unit, and links to its [Install] section")
		}
	}
	for _, u := range l.units {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		l.checkSyntax(u)
		l.checkHostUnit(u)
		l.checkComplete(u)
		l.checkValues(u)
		l.checkConditions(u)
		if u.typ == "service" {
			l.checkService(u)
		} else if u.typ == "socket" {
			l.checkSocketCommands(u)
		}
	}
	return nil
}

func (l *lint) checkSyntax(u *lintUnit) {
	for _, f := range u.file.flaws {
		severity, effect := Warning, ", and is passed over"
		if f.fatal {
			severity, effect = Error, ", and the unit is not loaded"
		}
		l.foundAs(severity, "unit-syntax", place{u.image, u.Path, f.line}, f.text+effect, "see systemd.syntax(7) and the manual of this type of unit")
	}
}

func (l *lint) checkHostUnit(u *lintUnit) {
	for _, folder := range unitFolders {
		p := path.Join("/", folder, u.Name)
		// What is attached there may well be this image.
		if s, err := l.host.lstat(p); err == nil && s != nil && path.Base(folder) != "system.attached" {
			l.found("unit-exists", u.top(), "the host has a unit of this name: "+p, "rename one of them, or remove the other")
			return
		}
	}
}

// specifierKeys are settings besides Exec… in which specifiers are replaced.
var specifierKeys = []string{"Environment", "EnvironmentFile", "User", "Group", "WorkingDirectory", "StateDirectory", "CacheDirectory", "LogsDirectory",
	"ConfigurationDirectory", "RuntimeDirectory", "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem", "ListenStream", "PathExists", "PathChanged",
	"Requires", "Wants", "After", "Before", "BindsTo", "PartOf", "Sockets", "Unit", "Service", "WantedBy", "RequiredBy", "Also"}

// checkValues looks for percent signs that begin nothing, and quotes that end
// nowhere. In a command, either keeps the unit from being loaded, unless it may fail.
func (l *lint) checkValues(u *lintUnit) {
	for _, s := range u.file.settings {
		exec := slices.Contains(execKeys, s.key) || strings.HasPrefix(s.key, "ExecSt")
		severity, effect := Warning, "the setting is not used"
		if (exec || s.key == "User" || s.key == "Group") && !parseCommand(s.value).optional {
			severity, effect = Error, "the unit is not loaded"
		}
		if !exec && !slices.Contains(specifierKeys, s.key) {
			continue
		}
		for _, c := range expand(s.value, u.Name).strange {
			l.foundAs(severity, "specifier", u.at(s), fmt.Sprintf("%s= has %%%c, which is no specifier, and so %s", s.key, c, effect), "write %% for a percent sign")
		}
		if _, err := splitWords(s.value); err != nil && (exec || s.key == "Environment") {
			l.foundAs(severity, "value-syntax", u.at(s), fmt.Sprintf("%s=: %v, and so %s", s.key, err, effect), "see the section on quoting in systemd.syntax(7)")
		}
	}
}
