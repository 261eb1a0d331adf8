package portable

import "strings"

// checkComplete wants what the service manager refuses to load a unit without.
// A target needs nothing.
func (l *lint) checkComplete(u *lintUnit) {
	incomplete := func(text, fix string) { l.found("unit-incomplete", u.top(), text, fix) }
	switch u.typ {
	case "service":
		l.checkCommands(u, incomplete)
	case "socket":
		if !u.sets("Socket", "Listen") {
			incomplete("the socket listens nowhere", "add ListenStream= or the like")
		}
	case "timer":
		if !u.sets("Timer", "On") {
			incomplete("the timer never elapses", "add OnCalendar= or the like")
		}
	case "path":
		if !u.sets("Path", "Path") && !u.sets("Path", "DirectoryNotEmpty") {
			incomplete("no path is watched", "add PathExists= or the like")
		}
	}
}

// checkCommands follows the rules for ExecStart= of systemd.service(5).
func (l *lint) checkCommands(u *lintUnit, incomplete func(text, fix string)) {
	start, stop := u.set.all("Service", "ExecStart"), u.set.all("Service", "ExecStop")
	kind := serviceType(u.set)
	oneshot := kind == "oneshot"
	action, ends := u.set.last("Unit", "SuccessAction")
	ends = ends && action.value != "none"
	switch {
	case len(start) == 0 && !oneshot:
		incomplete("the service has no ExecStart=", "add one, or Type=oneshot and ExecStop=")
	case len(start) == 0 && !ends && (len(stop) == 0 || !u.set.isTrue("Service", "RemainAfterExit", false)):
		incomplete("the service has nothing to do", "add ExecStart=, or ExecStop= and RemainAfterExit=yes")
	case commandCount(start) > 1 && !oneshot:
		incomplete("several ExecStart= are for Type=oneshot only", "keep one of them")
	}
	if _, ok := u.set.last("Service", "BusName"); kind == "dbus" && !ok {
		incomplete("Type=dbus needs a BusName=", "add it, or take Type=notify")
	}
}

// serviceType is Type=, or what it is without.
func serviceType(set settings) string {
	kind, ok := set.last("Service", "Type")
	_, bus := set.last("Service", "BusName")
	switch {
	case ok:
		return kind.value
	case bus:
		return "dbus"
	case len(set.all("Service", "ExecStart")) == 0:
		return "oneshot"
	}
	return "simple"
}

func commandCount(list []setting) (n int) {
	for _, v := range list {
		commands, _ := commandsOf(v.value) // a wrong one is told of elsewhere
		n += len(commands)
	}
	return n
}

// sets tells whether a setting with such a name has a value.
func (u *lintUnit) sets(section, prefix string) bool {
	for _, s := range u.set {
		if s.section == section && strings.HasPrefix(s.key, prefix) && len(u.set.all(section, s.key)) > 0 {
			return true
		}
	}
	return false
}
