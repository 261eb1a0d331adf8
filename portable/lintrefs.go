package portable

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// reference is a setting that names other units.
type reference struct {
	section, key string
	severity     Severity // of naming one that does not exist
	starts       bool     // the unit that is named is started or enabled by this
}

// references are all but the triggers, which are looked at apart.
var references = []reference{
	{"Unit", "Requires", Error, true}, {"Unit", "Requisite", Error, false}, {"Unit", "BindsTo", Error, true}, {"Service", "Sockets", Error, true},
	{"Unit", "Wants", Warning, true}, {"Unit", "Upholds", Warning, true}, {"Unit", "OnFailure", Warning, true}, {"Unit", "OnSuccess", Warning, true},
	{"Install", "Also", Warning, true}, {"Install", "WantedBy", Warning, false}, {"Install", "RequiredBy", Warning, false}, {"Install", "UpheldBy", Warning, false},
	{"Unit", "After", Note, false}, {"Unit", "Before", Note, false}, {"Unit", "PartOf", Note, false}, {"Unit", "Conflicts", Note, false},
	{"Unit", "PropagatesReloadTo", Note, false}, {"Unit", "ReloadPropagatedFrom", Note, false}, {"Unit", "PropagatesStopTo", Note, false},
	{"Unit", "StopPropagatedFrom", Note, false}, {"Unit", "JoinsNamespaceOf", Note, false},
}

// triggerTypes are units that start another.
var triggerTypes = map[string]string{"socket": "Service", "timer": "Unit", "path": "Unit"}

// checkReferences looks for the units that others speak of.
func (l *lint) checkReferences() error {
	for _, u := range l.units {
		for _, r := range references {
			for _, v := range u.set.all(r.section, r.key) {
				for _, name := range namesIn(u, v) {
					l.checkReference(u, v, name, r.severity)
				}
			}
		}
		if _, ok := triggerTypes[u.typ]; ok {
			l.checkTrigger(u)
		}
		_, byBus := u.set.last("Service", "BusName")
		if u.typ != "target" && !byBus && !installs(u) && !l.started[u.Name] {
			l.found("install-missing", u.top(), "nothing starts the unit, and it can't be enabled", "add a section [Install] with WantedBy=multi-user.target or the like")
		}
	}
	return l.ctx.Err()
}

// namesIn are the units that a setting names. What is only known when the unit
// starts may be in the instance's name only.
func namesIn(u *lintUnit, v setting) (list []string) {
	words, _ := splitWords(v.value)
	for _, w := range words {
		e := expand(w, u.Name)
		_, instance, _ := strings.Cut(w, "@")
		if e.known || strings.Contains(instance, "%") {
			list = append(list, e.text)
		}
	}
	return list
}

func (l *lint) checkReference(u *lintUnit, v setting, name string, severity Severity) {
	at, inImage := l.inImage(name)
	switch {
	case l.known(name) || !l.may():
	case inImage:
		if severity == Note {
			return // the order among units that are not all there
		}
		l.foundAs(severity, "reference-not-attached", u.at(v), fmt.Sprintf("%s= names %s, which is not attached: it does not begin with %s", v.key, name, strings.Join(l.prefixes, " or ")),
			"rename "+path.Base(at.file)+", or attach it, too, by a prefix of its own")
	default:
		l.foundAs(severity, "reference-missing", u.at(v), fmt.Sprintf("%s= names %s, which neither the image nor the host has", v.key, shorten(name)), "correct the name, or install the unit on the host")
	}
}

// inImage tells where a unit is that is not attached.
func (l *lint) inImage(name string) (place, bool) {
	at, ok := l.others[name]
	if !ok {
		at, ok = l.others[templateOf(name)]
	}
	return at, ok
}

// templateOf is the template that an instance is made from, or the name itself.
func templateOf(name string) string {
	stem, _, ok := strings.Cut(name, "@")
	if !ok {
		return name
	}
	return stem + "@" + path.Ext(name)
}

// known tells whether a unit is attached, or one that the host has or makes.
func (l *lint) known(name string) bool {
	if unitType(name) == "" {
		// Not a name, which has been told of, or a type that comes from elsewhere: mounts, slices.
		return slices.Contains(otherTypes, path.Ext(name))
	}
	known, asked := l.names[name]
	if !asked {
		known = l.byName[name] != nil || l.byName[templateOf(name)] != nil || wellKnown(name) || l.onHost(name) || l.onHost(templateOf(name))
		l.names[name] = known
	}
	return known
}

func (l *lint) onHost(name string) bool {
	return l.may() && slices.ContainsFunc(unitFolders, func(folder string) bool {
		s, err := l.host.lstat("/" + path.Join(folder, name))
		return err == nil && s != nil
	})
}

// relate notes which units start which.
func (l *lint) relate() error {
	note := func(set map[string]bool, names ...string) {
		for _, n := range names {
			set[n], set[templateOf(n)] = true, true
		}
	}
	for _, u := range l.units {
		if _, ok := triggerTypes[u.typ]; ok {
			name, _ := triggers(u)
			note(l.trigger, name)
			note(l.started, name)
		}
		for _, r := range references {
			for _, v := range u.set.all(r.section, r.key) {
				if r.starts {
					note(l.started, slices.DeleteFunc(namesIn(u, v), func(n string) bool { return n == u.Name })...)
				}
			}
		}
	}
	return nil
}

// triggers is the unit that a socket, timer or path starts, by its name or by
// what it says.
func triggers(u *lintUnit) (name string, at place) {
	stem := strings.TrimSuffix(u.Name, "."+u.typ)
	if v, ok := u.set.last(strings.ToUpper(u.typ[:1])+u.typ[1:], triggerTypes[u.typ]); ok {
		if names := namesIn(u, v); len(names) == 1 {
			return names[0], u.at(v)
		}
		return "", place{}
	}
	if u.typ == "socket" && u.set.isTrue("Socket", "Accept", false) && !u.template() {
		stem += "@"
	}
	return stem + ".service", u.top()
}

func (l *lint) checkTrigger(u *lintUnit) {
	name, at := triggers(u)
	switch _, inImage := l.inImage(name); {
	case name == "" || l.known(name):
	case inImage:
		l.found("trigger-missing", at, fmt.Sprintf("it starts %s, which is not attached: it does not begin with %s", name, strings.Join(l.prefixes, " or ")), "rename that unit")
	default:
		l.found("trigger-missing", at, fmt.Sprintf("it starts %s, which neither the image nor the host has", shorten(name)), "add that unit, or name another")
	}
}

// installs tells whether the unit can be enabled.
func installs(u *lintUnit) bool {
	return slices.ContainsFunc([]string{"WantedBy", "RequiredBy", "UpheldBy", "Alias"}, func(key string) bool {
		return len(u.set.all("Install", key)) > 0
	})
}

// wellKnown tells whether a unit comes with systemd, see systemd.special(7), or
// with the bus that it needs.
func wellKnown(name string) bool {
	return strings.HasPrefix(name, "systemd-") || strings.HasPrefix(name, "initrd-") || strings.HasPrefix(name, "dbus") ||
		slices.Contains(specialUnits, name) || slices.Contains(specialUnits, templateOf(name))
}

var specialUnits = strings.Fields(`
	basic.target bluetooth.target boot-complete.target cryptsetup-pre.target cryptsetup.target ctrl-alt-del.target default.target
	emergency.target exit.target factory-reset.target final.target first-boot-complete.target getty-pre.target getty.target
	graphical.target halt.target hibernate.target hybrid-sleep.target initrd.target integritysetup-pre.target integritysetup.target
	kexec.target local-fs-pre.target local-fs.target machines.target multi-user.target network-online.target network-pre.target
	network.target nss-lookup.target nss-user-lookup.target paths.target poweroff.target printer.target reboot.target
	remote-cryptsetup.target remote-fs-pre.target remote-fs.target remote-veritysetup.target rescue.target rpcbind.target
	runlevel0.target runlevel1.target runlevel2.target runlevel3.target runlevel4.target runlevel5.target runlevel6.target
	shutdown.target sigpwr.target sleep.target slices.target smartcard.target sockets.target soft-reboot.target sound.target
	ssh-access.target storage-target-mode.target suspend-then-hibernate.target suspend.target swap.target sysinit.target
	system-update-pre.target system-update.target time-set.target time-sync.target timers.target tpm2.target umount.target
	usb-gadget.target veritysetup-pre.target veritysetup.target
	autovt@.service console-getty.service container-getty@.service debug-shell.service display-manager.service emergency.service
	getty@.service kmod-static-nodes.service ldconfig.service modprobe@.service proc-sys-fs-binfmt_misc.automount rc-local.service
	rescue.service serial-getty@.service syslog.service syslog.socket user-runtime-dir@.service user@.service`)
