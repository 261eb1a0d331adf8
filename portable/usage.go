package portable

import (
	"context"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/lockport/lockport/image"
)

// Status is an image and how far it is in use.
type Status struct {
	image.Info
	State State
}

// State is how far an image is in use.
type State string

// The states, in the words of the original. Each of those after Detached has one
// for units that are attached until the next boot.
const (
	Detached        State = "detached"
	AttachedState   State = "attached"
	AttachedRuntime State = "attached-runtime"
	Enabled         State = "enabled"
	EnabledRuntime  State = "enabled-runtime"
	Running         State = "running"
	RunningRuntime  State = "running-runtime"
)

// usage is what is attached, by scope.
type usage struct {
	attached map[Scope][]Attachment
	states   map[string]State // of units; without a manager none is known
}

// usage looks at both scopes.
func (h *Host) usage(ctx context.Context) (*usage, error) {
	u := &usage{attached: map[Scope][]Attachment{}}
	for _, s := range scopes {
		list, err := h.Attached(ctx, s)
		if err != nil {
			return nil, err
		}
		u.attached[s] = list
	}
	return u, nil
}

// keep forgets what is attached of other images.
func (u *usage) keep(is func(Marker) bool) {
	for s, list := range u.attached {
		u.attached[s] = slices.DeleteFunc(list, func(a Attachment) bool { return !a.meant(is) })
	}
}

// units are all that are attached, each once.
func (u *usage) units() []string {
	var list []string
	for _, s := range scopes {
		for _, a := range u.attached[s] {
			list = append(list, a.Unit)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// ranks orders the states within a scope.
var ranks = map[State]int{AttachedState: 1, Enabled: 2, Running: 3}

// learn takes what a manager knows. A template is what its instances are.
func (u *usage) learn(list []UnitState) {
	u.states = map[string]State{}
	for _, s := range list {
		state := AttachedState
		switch {
		case s.active():
			state = Running
		case s.enabled():
			state = Enabled
		}
		for _, name := range []string{s.Name, templateFor(s.Name)} {
			if ranks[state] > ranks[u.states[name]] {
				u.states[name] = state
			}
		}
	}
}

// inUse is a list of images that units are attached from, and how far.
type inUse struct {
	Attachment // one of those that are
	state      State
}

// markers returns the images in use in a scope, each list of them once.
func (u *usage) markers(s Scope) map[string]inUse {
	all := map[string]inUse{}
	for _, a := range u.attached[s] {
		state, key := u.states[a.Unit], a.Marker.String()
		if state == "" {
			state = AttachedState
		}
		if ranks[state] > ranks[all[key].state] {
			all[key] = inUse{a, state}
		}
	}
	return all
}

// summary returns a function that tells the state of those images whose markers
// are meant. The first scope in which there is one counts.
func (u *usage) summary() func(is func(Marker) bool) State {
	all := map[Scope]map[string]inUse{}
	for _, s := range scopes {
		all[s] = u.markers(s)
	}
	return func(is func(Marker) bool) State {
		for _, s := range scopes {
			var best State
			for _, used := range all[s] {
				if ranks[used.state] > ranks[best] && used.meant(is) {
					best = used.state
				}
			}
			switch {
			case best == "":
			case s == Runtime:
				return best + "-runtime"
			default:
				return best
			}
		}
		return Detached
	}
}

// linkFolders are where units are enabled, by links to them in directories of
// other units, or by links of other names.
var linkFolders = []string{
	"/etc/systemd/system.attached", "/run/systemd/system.attached", "/etc/systemd/system", "/run/systemd/system",
}

// enablementLinks returns the links that enable some of the units.
func (h *Host) enablementLinks(units []string) ([]string, error) {
	if len(units) == 0 {
		return nil, nil
	}
	var list []string
	for _, folder := range linkFolders {
		entries, err := h.readDir(folder)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			p := path.Join(folder, e.Name())
			switch suffix := path.Ext(e.Name()); {
			case e.Type() == fs.ModeSymlink && h.isAlias(p, units):
				list = append(list, p)
			case e.IsDir() && slices.Contains([]string{".wants", ".requires", ".upholds"}, suffix):
				inside, err := h.readDir(p)
				if err != nil {
					return nil, err
				}
				for _, l := range inside {
					if l.Type() == fs.ModeSymlink && isOneOf(l.Name(), units) {
						list = append(list, path.Join(p, l.Name()))
					}
				}
			}
		}
	}
	return list, nil
}

// isAlias tells whether a link gives one of the units another name.
func (h *Host) isAlias(p string, units []string) bool {
	target, err := h.tree.ReadLink(strings.TrimPrefix(p, "/"))
	if err != nil || path.Base(p) == path.Base(target) || !slices.Contains(units, path.Base(target)) {
		return false
	}
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(p), target)
	}
	return slices.Contains([]string{Persistent.attached(), Runtime.attached()}, path.Dir(target))
}

func isOneOf(name string, units []string) bool {
	return slices.ContainsFunc(units, func(u string) bool { return isOf(name, u) })
}
