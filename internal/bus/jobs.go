package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/lockport/lockport/portable"
)

// verbs are the manager's methods for what is to be done, and what it is called
// while it is.
var verbs = map[portable.Action]struct{ method, doing string }{
	portable.Start:   {"StartUnit", "starting"},
	portable.Stop:    {"StopUnit", "stopping"},
	portable.Restart: {"RestartUnit", "restarting"},
	portable.Clean:   {"CleanUnit", "cleaning up after"},
}

// Run does something to units. With wait it returns when all of it is done,
// otherwise when it is queued. Units that fail do not keep others from it.
func (m *Manager) Run(ctx context.Context, action portable.Action, units []string, wait bool) error {
	if len(units) == 0 {
		return nil
	}
	c, err := m.connection(ctx)
	if err != nil {
		return err
	}
	if action == portable.Clean {
		return c.clean(ctx, units)
	}
	if wait {
		// Before there is a job, so that no end of one is missed.
		if err := c.subscribe(ctx); err != nil {
			return fmt.Errorf("waiting for jobs of the service manager: %w", err)
		}
		defer c.jobs.watch()()
	}
	verb := verbs[action]
	calls := make([]*dbus.Call, 0, len(units))
	for _, unit := range units {
		calls = append(calls, c.send(ctx, verb.method, unit, "replace"))
	}
	var failed []error
	queued := map[dbus.ObjectPath]string{}
	for i, call := range calls {
		var job dbus.ObjectPath
		if err := c.wait(ctx, call, &job); err != nil {
			failed = append(failed, fmt.Errorf("%s %s: %w", verb.doing, units[i], err))
			continue
		}
		queued[job] = units[i]
	}
	if wait {
		failed = append(failed, c.await(ctx, verb.doing, queued)...)
	}
	return errors.Join(failed...)
}

// nothingToClean are the refusals that mean that it is clean already: nothing is
// configured for the unit, or for any of its type.
var nothingToClean = map[string]bool{
	"org.freedesktop.systemd1.NothingToClean": true, "org.freedesktop.DBus.Error.NotSupported": true,
}

// clean removes what units have left: state, caches, logs, stored descriptors.
func (c *connection) clean(ctx context.Context, units []string) error {
	var failed []error
	for _, unit := range units {
		err := c.wait(ctx, c.send(ctx, "CleanUnit", unit, []string{"all", "fdstore"}))
		var r *refused
		if errors.As(err, &r) && r.name == "org.freedesktop.DBus.Error.InvalidArgs" {
			// Before 254 there are no stored descriptors to clean.
			err = c.wait(ctx, c.send(ctx, "CleanUnit", unit, []string{"all"}))
		}
		if err != nil && !(errors.As(err, &r) && nothingToClean[r.name]) {
			failed = append(failed, fmt.Errorf("%s %s: %w", verbs[portable.Clean].doing, unit, err))
		}
	}
	return errors.Join(failed...)
}

// subscribe asks for signals, once a connection.
func (c *connection) subscribe(ctx context.Context) error {
	c.jobs.mu.Lock()
	done := c.jobs.subscribed
	c.jobs.mu.Unlock()
	if done {
		return nil
	}
	if !c.direct {
		err := c.bus.AddMatchSignalContext(ctx, dbus.WithMatchSender("org.freedesktop.systemd1"),
			dbus.WithMatchObjectPath("/org/freedesktop/systemd1"),
			dbus.WithMatchInterface("org.freedesktop.systemd1.Manager"), dbus.WithMatchMember("JobRemoved"))
		if err != nil {
			return c.explain(ctx, err)
		}
	}
	err := c.wait(ctx, c.send(ctx, "Subscribe"))
	var r *refused
	if err != nil && !(errors.As(err, &r) && r.name == "org.freedesktop.systemd1.AlreadySubscribed") { // by another call at the same time
		return err
	}
	c.jobs.mu.Lock()
	c.jobs.subscribed = true
	c.jobs.mu.Unlock()
	return nil
}

// await returns the errors of jobs when all have ended.
func (c *connection) await(ctx context.Context, doing string, queued map[dbus.ObjectPath]string) []error {
	var failed []error
	for job, unit := range queued {
		result, err := c.jobs.result(ctx, c.bus.Context(), job)
		switch {
		case err != nil:
			return append(failed, fmt.Errorf("%s %s: %w", doing, unit, c.explain(ctx, err)))
		case result != "done" && result != "skipped": // skipped: nothing was to be done
			failed = append(failed, &portable.JobError{Doing: doing, Unit: unit, Result: result})
		}
	}
	return failed
}

// jobs remembers how jobs of the manager ended, while someone waits for some. It
// is called for every signal, in their order.
type jobs struct {
	mu         sync.Mutex
	subscribed bool
	watching   int
	ended      map[dbus.ObjectPath]string
	overflow   bool          // some were not remembered
	changed    chan struct{} // closed when ended has grown
}

// maxEnded bounds what is remembered. A job that nobody waits for is kept, too:
// its number may come with an answer that is still to be read.
const maxEnded = 1 << 16

var errTooMany = errors.New("too many jobs end")

func newJobs() *jobs {
	return &jobs{ended: map[dbus.ObjectPath]string{}, changed: make(chan struct{})}
}

// watch begins to remember; the function that it returns ends that.
func (j *jobs) watch() (end func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.watching++
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.watching--; j.watching == 0 {
			clear(j.ended)
			j.overflow = false
		}
	}
}

// DeliverSignal is called by the library. Signature of JobRemoved: number, object,
// unit, result.
func (j *jobs) DeliverSignal(iface, name string, s *dbus.Signal) {
	if iface != "org.freedesktop.systemd1.Manager" || name != "JobRemoved" || len(s.Body) != 4 {
		return
	}
	job, ok := s.Body[1].(dbus.ObjectPath)
	result, also := s.Body[3].(string)
	j.mu.Lock()
	defer j.mu.Unlock()
	if !ok || !also || j.watching == 0 {
		return
	}
	if len(j.ended) < maxEnded {
		j.ended[job] = result
	} else {
		j.overflow = true
	}
	close(j.changed)
	j.changed = make(chan struct{})
}

// result waits for the end of a job, of the context or of the connection.
func (j *jobs) result(ctx, connected context.Context, job dbus.ObjectPath) (string, error) {
	for {
		j.mu.Lock()
		result, ok := j.ended[job]
		changed, overflow := j.changed, j.overflow
		j.mu.Unlock()
		switch {
		case ok:
			return result, nil
		case overflow:
			return "", errTooMany
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		case <-connected.Done():
			return "", ErrLost
		}
	}
}
