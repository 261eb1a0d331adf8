package portable

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lockport/lockport/image"
)

// Service is what can be done with portable services. Where several references
// are given, all of it is one change: it is complete, or nothing has changed.
// Reloading the service manager, enabling and starting units is up to the caller.
type Service interface {
	Changer
	Keeper
	// List returns the images that are found by name, sorted by it.
	List(ctx context.Context) ([]Status, error)
	// State tells how far an image is in use, as root image or as an extension,
	// or with extensions, whether exactly these are in use together.
	State(ctx context.Context, ref Ref) (State, error)
	// Inspect reads what images hold.
	Inspect(ctx context.Context, ref Ref) (*Metadata, error)
	// Profiles returns the names of the sandboxes there are, sorted.
	Profiles(ctx context.Context) ([]string, error)
}

// Changer is the part of Service that changes what is attached.
type Changer interface {
	// Attach attaches images that are not attached yet.
	Attach(ctx context.Context, refs []Ref, o AttachOptions) (*Outcome, error)
	// Detach removes what was attached of exactly these images.
	Detach(ctx context.Context, refs []Ref, o DetachOptions) (*Outcome, error)
	// Reattach attaches images in place of what is attached of them, of
	// whatever version, running or not.
	Reattach(ctx context.Context, refs []Ref, o AttachOptions) (*Outcome, error)
}

// Keeper is the part of Service that changes the images themselves. Images are
// given by name or by an absolute path.
type Keeper interface {
	// Remove deletes an image that is not attached, and what belongs to it, for
	// good. It returns the paths that are gone.
	Remove(ctx context.Context, image string) ([]string, error)
	// MarkReadOnly forbids or allows to change an image.
	MarkReadOnly(ctx context.Context, image string, on bool) error
	// SetLimit bounds how large an image may grow, in bytes; image.NoLimit allows
	// anything. Without an image, it is where images are kept as a whole.
	SetLimit(ctx context.Context, image string, limit uint64) error
}

// Outcome says what an operation did, or would do.
type Outcome struct {
	Changes  []Change // in their order
	Removed  []Change // those of a reattachment that take something away for good
	Kept     []string // directories of drop-ins that stay, as they hold files of others
	Prefixes []string // that chose the units of an attachment
	Units    []string // that were attached or detached, sorted
	Links    []string // that still enable units that were detached
	Undone   []string // paths of an earlier, interrupted change that were put back
}

// UnitFiles returns the paths of units among changes of some types.
func UnitFiles(changes []Change, types ...ChangeType) []string {
	var list []string
	for _, c := range changes {
		name := path.Base(c.Path)
		dir := path.Dir(c.Path)
		if slices.Contains(types, c.Type) && unitType(name) != "" && (dir == Persistent.attached() || dir == Runtime.attached()) {
			list = append(list, c.Path)
		}
	}
	return list
}

// Local is the service of a tree of files, carried out by this process. Its
// methods may be called concurrently.
type Local struct {
	Root    string                             // directory
	Images  []image.Option                     // how images are opened
	Manager Manager                            // of the system in it; nil if it is not running
	Record  func(ctx context.Context, e Event) // is told of each change; may be nil
}

var _ Service = (*Local)(nil)

// open opens the tree. The caller closes it.
func (l *Local) open() (*Host, error) {
	h, err := OpenHost(l.Root, l.Images...)
	if err != nil {
		return nil, fmt.Errorf("opening the tree: %w", err)
	}
	return h, nil
}

// Attach meets Service.
func (l *Local) Attach(ctx context.Context, refs []Ref, o AttachOptions) (*Outcome, error) {
	running := l.askRunning(ctx, o.Force)
	defer running.end()
	return l.change(ctx, o.DryRun, attached, func(h *Host) (*Plan, error) {
		p, err := h.PlanAttach(ctx, refs, o)
		if err == nil {
			err = running.checkIdle(p.Units)
		}
		return p, err
	})
}

// Detach meets Service.
func (l *Local) Detach(ctx context.Context, refs []Ref, o DetachOptions) (*Outcome, error) {
	running := l.askRunning(ctx, o.Force)
	defer running.end()
	return l.change(ctx, o.DryRun, detached, func(h *Host) (*Plan, error) {
		p, err := h.PlanDetach(ctx, refs, o)
		if err == nil {
			err = running.checkIdle(p.Units)
		}
		return p, err
	})
}

// Reattach meets Service.
func (l *Local) Reattach(ctx context.Context, refs []Ref, o AttachOptions) (*Outcome, error) {
	return l.change(ctx, o.DryRun, attached, func(h *Host) (*Plan, error) { return h.PlanReattach(ctx, refs, o) })
}

// running is the answer to which units run, while that is still on its way: the
// manager takes as long as it takes to plan.
type running struct {
	done   chan struct{} // nil where nobody asks
	cancel context.CancelFunc
	units  []string
	err    error
}

func (l *Local) askRunning(ctx context.Context, force bool) *running {
	r := &running{}
	if l.Manager == nil || force {
		return r
	}
	r.done = make(chan struct{})
	ctx, r.cancel = context.WithCancel(ctx)
	go func() {
		defer close(r.done)
		r.units, r.err = l.Manager.Running(ctx)
	}()
	return r
}

// end waits for the answer no longer.
func (r *running) end() {
	if r.done != nil {
		r.cancel()
		<-r.done
	}
}

// checkIdle wants that none of the units is active.
func (r *running) checkIdle(units []string) error {
	if r.done == nil || len(units) == 0 {
		return nil
	}
	<-r.done
	if r.err != nil {
		return r.err
	}
	if active := among(r.units, units); len(active) > 0 {
		return fmt.Errorf("%s: %w", strings.Join(active, ", "), ErrUnitActive)
	}
	return nil
}

// change plans, and unless that is all, applies and records.
func (l *Local) change(ctx context.Context, dryRun bool, what eventKind, plan func(*Host) (*Plan, error)) (*Outcome, error) {
	h, err := l.open()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	r := &Outcome{}
	if dryRun {
		err = h.Settled(ctx)
	} else {
		r.Undone, _, err = h.Recover(ctx, false)
	}
	if err != nil {
		return r, err
	}
	p, err := plan(h)
	if err != nil {
		return r, err
	}
	r.Changes, r.Removed, r.Kept, r.Prefixes, r.Units = p.Changes, p.Removed, p.Kept, p.Prefixes, p.Units
	if r.Links, err = h.enablementLinks(p.gone()); err != nil || dryRun {
		return r, err
	}
	if err := h.Apply(ctx, p); err != nil {
		return &Outcome{Undone: r.Undone}, err
	}
	if l.Record != nil {
		for _, m := range p.Markers {
			l.Record(ctx, what.event(m))
		}
	}
	return r, nil
}

// Inspect meets Service.
func (l *Local) Inspect(ctx context.Context, ref Ref) (*Metadata, error) {
	h, err := l.open()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.Inspect(ctx, ref)
}

// Profiles meets Service.
func (l *Local) Profiles(context.Context) ([]string, error) {
	h, err := l.open()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.Profiles()
}

// List meets Service.
func (l *Local) List(ctx context.Context) ([]Status, error) {
	h, err := l.open()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	images, err := image.List(ctx, l.Root)
	if err != nil {
		return nil, err
	}
	now, err := h.usage(ctx)
	if err == nil {
		err = l.askStates(ctx, now)
	}
	if err != nil {
		return nil, err
	}
	list, state := []Status{}, now.summary()
	for _, info := range images {
		list = append(list, Status{info, state(h.using(ctx, Ref{Image: info.Path}))})
	}
	return list, nil
}

// State meets Service.
func (l *Local) State(ctx context.Context, ref Ref) (State, error) {
	h, err := l.open()
	if err != nil {
		return "", err
	}
	defer h.Close()
	return l.state(ctx, h, ref)
}

func (l *Local) state(ctx context.Context, h *Host, ref Ref) (State, error) {
	now, err := h.usage(ctx)
	if err != nil {
		return "", err
	}
	is := h.using(ctx, ref)
	now.keep(is)
	if err := l.askStates(ctx, now); err != nil {
		return "", err
	}
	return now.summary()(is), nil
}

// askStates adds the states of all attached units, with one question. Where no
// manager runs, nothing does.
func (l *Local) askStates(ctx context.Context, u *usage) error {
	units := u.units()
	if l.Manager == nil || len(units) == 0 {
		return nil
	}
	states, err := l.Manager.States(ctx, units)
	if err != nil && !errors.Is(err, ErrNoManager) {
		return err
	}
	u.learn(states)
	return nil
}

// Remove meets Service.
func (l *Local) Remove(ctx context.Context, ref string) ([]string, error) {
	h, err := l.open()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	// Until it is gone, nobody attaches it.
	unlock, err := h.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// What an interrupted change has taken away may come back, and need the image.
	if err := h.settled(); err != nil {
		return nil, err
	}
	return image.Remove(ctx, l.Root, ref, func(info image.Info) error {
		now, err := h.usage(ctx)
		if err != nil {
			return err
		}
		if state := now.summary()(h.using(ctx, Ref{Image: info.Path})); state != Detached {
			return fmt.Errorf("%s: %w", info.Path, ErrAttached)
		}
		return nil
	})
}

// MarkReadOnly meets Service.
func (l *Local) MarkReadOnly(ctx context.Context, ref string, on bool) error {
	return image.MarkReadOnly(ctx, l.Root, ref, on)
}

// SetLimit meets Service.
func (l *Local) SetLimit(ctx context.Context, ref string, limit uint64) error {
	if ref == "" {
		return image.SetPoolLimit(ctx, l.Root, limit)
	}
	return image.SetLimit(ctx, l.Root, ref, limit)
}
