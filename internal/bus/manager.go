package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/lockport/lockport/portable"
)

// Config says where the service manager is reached.
type Config struct {
	Private string // the manager's own socket; "" for none
	Address string // of the system bus, as in $DBUS_SYSTEM_BUS_ADDRESS; "" for the default
}

func (c Config) address() string {
	if c.Address == "" {
		return DefaultAddress
	}
	return c.Address
}

// Manager is systemd's manager of the system. It connects when it is first asked
// for something, and again if that connection is gone. Its methods may be called
// concurrently, and return when their context ends.
type Manager struct {
	config Config
	mu     sync.Mutex
	conn   *connection
}

var _ portable.Manager = (*Manager)(nil)

// New returns a manager that is not connected yet. The caller closes it.
func New(c Config) *Manager { return &Manager{config: c} }

// Close ends the connection, if there is one. Calls under way fail.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == nil {
		return nil
	}
	err := m.conn.bus.Close()
	m.conn = nil
	if errors.Is(err, net.ErrClosed) {
		return nil // it was lost before
	}
	return err
}

func (m *Manager) connection(ctx context.Context) (*connection, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.bus.Connected() {
		return m.conn, nil
	}
	c, err := connect(ctx, m.config)
	if err != nil {
		return nil, err
	}
	m.conn = c
	return c, nil
}

// answerTime is how long the manager may take for an answer. Reloading takes
// longest; jobs are not part of it.
const answerTime = 3 * time.Minute

var errNoAnswer = errors.New("it does not answer")

// send begins a call of the manager's. Should the context end while the manager
// does not even read, the connection ends with it.
func (c *connection) send(ctx context.Context, method string, args ...any) *dbus.Call {
	stop := context.AfterFunc(ctx, func() { _ = c.socket.Close() })
	defer stop()
	return c.manager.GoWithContext(ctx, "org.freedesktop.systemd1.Manager."+method, 0, make(chan *dbus.Call, 1), args...)
}

// wait ends a call and stores what it returned.
func (c *connection) wait(ctx context.Context, call *dbus.Call, results ...any) error {
	done := <-call.Done
	if done.Err != nil {
		return c.explain(ctx, done.Err)
	}
	if err := done.Store(results...); err != nil {
		return fmt.Errorf("an unexpected answer of the service manager: %w", err)
	}
	return nil
}

// ask connects and limits the time for answers.
func (m *Manager) ask(ctx context.Context) (context.Context, context.CancelFunc, *connection, error) {
	c, err := m.connection(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, errNoAnswer)
	return ctx, cancel, c, nil
}

// Reload lets the manager read its units anew.
func (m *Manager) Reload(ctx context.Context) error {
	ctx, cancel, c, err := m.ask(ctx)
	if err == nil {
		defer cancel()
		err = c.wait(ctx, c.send(ctx, "Reload"))
	}
	if err != nil {
		return fmt.Errorf("reloading the service manager: %w", err)
	}
	return nil
}

// loaded is a line of ListUnitsByPatterns and of ListUnitsFiltered.
type loaded struct {
	Name, Description, Load, Active, Sub, Following string
	Object                                          dbus.ObjectPath
	Job                                             uint32
	JobType                                         string
	JobObject                                       dbus.ObjectPath
}

// States returns what the manager knows of units, in one round trip.
func (m *Manager) States(ctx context.Context, units []string) ([]portable.UnitState, error) {
	if len(units) == 0 {
		return nil, nil // for the manager, no pattern stands for all units
	}
	ctx, cancel, c, err := m.ask(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	running := c.send(ctx, "ListUnitsByPatterns", []string{}, patterns(units, true))
	onDisk := c.send(ctx, "ListUnitFilesByPatterns", []string{}, patterns(units, false))
	var active []loaded
	var files []struct{ Path, State string }
	err = errors.Join(c.wait(ctx, running, &active), c.wait(ctx, onDisk, &files))
	if err != nil {
		return nil, fmt.Errorf("asking the service manager for the states of units: %w", err)
	}
	var list []portable.UnitState
	at := map[string]int{}
	for _, u := range active {
		at[u.Name] = len(list)
		list = append(list, portable.UnitState{Name: u.Name, Active: u.Active})
	}
	for _, f := range files {
		name := f.Path[strings.LastIndexByte(f.Path, '/')+1:]
		i, ok := at[name]
		if !ok {
			i, at[name] = len(list), len(list)
			list = append(list, portable.UnitState{Name: name})
		}
		list[i].File = f.State
	}
	return list, nil
}

// Running asks for the units that run, whatever they are called.
func (m *Manager) Running(ctx context.Context) ([]string, error) {
	ctx, cancel, c, err := m.ask(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	var active []loaded
	if err := c.wait(ctx, c.send(ctx, "ListUnitsFiltered", portable.ActiveStates()), &active); err != nil {
		return nil, fmt.Errorf("asking the service manager which units run: %w", err)
	}
	list := make([]string, 0, len(active))
	for _, u := range active {
		list = append(list, u.Name)
	}
	return list, nil
}

// patterns is what the manager matches names with. Of templates, it is the
// instances that are loaded. A backslash would be one to some versions and an
// escape to others.
func patterns(units []string, instances bool) []string {
	list := make([]string, 0, len(units))
	for _, u := range units {
		if instances {
			u = strings.Replace(u, "@.", "@*.", 1)
		}
		list = append(list, strings.ReplaceAll(u, `\`, "?"))
	}
	return list
}

// Flags of EnableUnitFilesWithFlags and its opposite.
const (
	flagRuntime  uint64 = 1 << 0
	flagPortable uint64 = 1 << 2 // links go into system.attached
)

// Enable makes the links that start units at boot, or removes them. Units that
// fail do not keep others from it.
func (m *Manager) Enable(ctx context.Context, units []string, on bool, s portable.Scope) ([]portable.Change, error) {
	ctx, cancel, c, err := m.ask(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	method, doing := "DisableUnitFilesWithFlags", "disabling"
	if on {
		method, doing = "EnableUnitFilesWithFlags", "enabling"
	}
	flags := flagPortable
	if s == portable.Runtime {
		flags |= flagRuntime
	}
	var all []portable.Change
	var failed []error
	for _, unit := range units {
		call := c.send(ctx, method, []string{unit}, flags)
		var changes []struct{ Type, Path, Source string }
		var installable bool
		results := []any{&changes}
		if on {
			results = []any{&installable, &changes}
		}
		if err := c.wait(ctx, call, results...); err != nil {
			failed = append(failed, fmt.Errorf("%s %s: %w", doing, unit, err))
		}
		for _, ch := range changes {
			all = append(all, portable.Change{Type: portable.ChangeType(ch.Type), Path: ch.Path, Source: ch.Source})
		}
	}
	return all, errors.Join(failed...)
}
