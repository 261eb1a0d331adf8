package portable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	// ErrNoManager: no service manager can be reached.
	ErrNoManager = errors.New("no service manager is running")
	// ErrUnitActive: a unit of the image is running.
	ErrUnitActive = errors.New("the unit is active")
)

// Manager is the service manager of the host. Its methods return when their
// context ends, and their errors name the units. Where several units are meant,
// one that fails keeps no other from it, and the error unwraps to those of all.
type Manager interface {
	// States returns what is known of units, and of loaded instances of those
	// that are templates. What nothing is known of is left out.
	States(ctx context.Context, units []string) ([]UnitState, error)
	// Running returns the names of all units that run, or are about to or about to
	// end. It takes no longer for many units than for one.
	Running(ctx context.Context) ([]string, error)
	// Reload makes the manager read its units anew.
	Reload(ctx context.Context) error
	// Enable makes or removes the links that start units at boot, and says
	// which. Units are named, or given by their absolute paths.
	Enable(ctx context.Context, units []string, on bool, s Scope) ([]Change, error)
	// Run does something to units, and with wait, returns when it is done. A
	// job that ends otherwise is a *JobError.
	Run(ctx context.Context, a Action, units []string, wait bool) error
}

// Action is something that a service manager does to a unit.
type Action string

// The actions. Clean removes what a stopped unit has left: its state, caches,
// logs and stored file descriptors. It is always waited for.
const (
	Start   Action = "start"
	Stop    Action = "stop"
	Restart Action = "restart"
	Clean   Action = "clean"
)

// UnitState is what a service manager knows of a unit, in systemd's words.
type UnitState struct {
	Name   string
	Active string // "" if it is not loaded
	File   string // whether it is enabled; "" for instances
}

// ActiveStates are those of a unit that runs, or is about to or about to end.
func ActiveStates() []string {
	return []string{"activating", "active", "reloading", "deactivating"}
}

// active tells whether it runs, or is about to or about to end.
func (u UnitState) active() bool { return slices.Contains(ActiveStates(), u.Active) }

// enabled tells whether something starts it, as the original sees it: a file that
// is only there, or linked to, is not.
func (u UnitState) enabled() bool {
	return !slices.Contains([]string{"", "static", "disabled", "linked", "linked-runtime"}, u.File)
}

// JobError is a job that did not end as it should.
type JobError struct {
	Doing  string // starting, stopping or restarting
	Unit   string
	Result string // systemd's word
}

func (e *JobError) Error() string {
	why := "the job ended as " + e.Result
	switch e.Result {
	case "failed":
		why = "it failed"
	case "dependency":
		why = "a unit that it needs failed"
	case "timeout":
		why = "it took too long"
	case "canceled":
		why = "something else was asked for meanwhile"
	}
	return fmt.Sprintf("%s %s: %s", e.Doing, e.Unit, why)
}

// isTemplate tells whether a unit only runs as an instance.
func isTemplate(unit string) bool { return strings.Contains(unit, "@.") }

// templateFor is the template of an instance; other names are their own.
func templateFor(unit string) string {
	at, dot := strings.IndexByte(unit, '@'), strings.LastIndexByte(unit, '.')
	if at < 0 || dot < at {
		return unit
	}
	return unit[:at+1] + unit[dot:]
}

// isOf tells whether name is the unit, or an instance of it.
func isOf(name, unit string) bool { return name == unit || templateFor(name) == unit }

// Active returns those of the units that run, and the instances that do of those
// that are templates.
func Active(ctx context.Context, m Manager, units []string) ([]string, error) {
	if len(units) == 0 {
		return nil, nil
	}
	running, err := m.Running(ctx)
	if err != nil {
		return nil, err
	}
	return among(running, units), nil
}

// among returns those that run which are of the units, sorted.
func among(running, units []string) []string {
	wanted := make(map[string]bool, len(units))
	for _, u := range units {
		wanted[u] = true
	}
	var list []string
	for _, name := range running {
		if wanted[name] || wanted[templateFor(name)] {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// Startable returns the units without templates, of which there is no telling what
// to start.
func Startable(units []string) []string {
	return slices.DeleteFunc(slices.Clone(units), isTemplate)
}
