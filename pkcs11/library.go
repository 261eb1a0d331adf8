package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockport/lockport/volume"
)

// pollEvery is how often it is looked whether a token was put in. Not every module
// can wait for that, and those that can do not all do it well.
const pollEvery = 300 * time.Millisecond

// restartEvery is after how many looks the modules are started anew: some learn only
// at their start what there is.
const restartEvery = 8

// roundTime is how long one module may take for all its tokens in one look.
const roundTime = time.Minute

// Library looks for tokens with some modules. It keeps no state between calls and
// is safe for concurrent use if Dial is.
type Library struct {
	Modules []Module // in the order in which they are preferred
	Dial    Dial

	machine, person time.Duration // how long a module may take; 0 is as usual
}

// A device is a token in a slot of a module that runs. Whoever holds it closes it.
type device struct {
	conn   *conn
	module Module
	slot   uint64
	info   slotInfo
	token  tokenInfo
	others func() // ends the other modules; nil for none
}

// uri names the token.
func (d *device) uri() URI { return tokenURI(d.token) }

// close lets the module put things in order, and ends it.
func (d *device) close(ctx context.Context) {
	if d.conn.broken == nil {
		// A module that does not end by itself is ended all the same.
		_ = d.conn.finalise(context.WithoutCancel(ctx))
	}
	_ = d.conn.close()
	if d.others != nil {
		d.others()
	}
}

// start starts a module.
func (l *Library) start(ctx context.Context, m Module) (*conn, error) {
	rw, err := l.Dial(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("PKCS#11 module %s: %w", m.title(), err)
	}
	c, err := newConn(ctx, rw)
	if errors.Is(err, ErrGone) {
		err = fmt.Errorf("p11-kit did not load it: %w", err)
	}
	if err == nil {
		if l.machine != 0 {
			c.machine, c.person = l.machine, l.person
		}
		if err = c.initialise(ctx, m.Reserved); err == nil {
			return c, nil
		}
		_ = c.close()
	}
	if p, ok := rw.(interface{ complained() string }); ok && errors.Is(err, ErrGone) && p.complained() != "" {
		err = fmt.Errorf("%w: %s", err, p.complained())
	}
	return nil, fmt.Errorf("PKCS#11 module %s: %w", m.title(), err)
}

// tokens lists the tokens that a module sees now. A slot that can't be read is
// passed over: another one may be all that is wanted.
func tokens(ctx context.Context, c *conn, m Module) ([]*device, error) {
	slots, err := c.slots(ctx)
	if err != nil {
		return nil, err
	}
	var list []*device
	for _, slot := range slots {
		d := &device{conn: c, module: m, slot: slot}
		if d.token, err = c.tokenInfo(ctx, slot); err == nil {
			d.info, err = c.slotInfo(ctx, slot)
		}
		if c.broken != nil {
			return nil, err
		}
		if err == nil && d.token.flags&tokenInitialised != 0 {
			list = append(list, d)
		}
	}
	return list, nil
}

// choose returns the first of the URIs that fits a token of a module.
func choose(ctx context.Context, c *conn, m Module, uris []URI) (int, *device, error) {
	list, err := tokens(ctx, c, m)
	if err != nil {
		return 0, nil, err
	}
	var info moduleInfo
	for i, u := range uris {
		if u.hasAny(moduleAttributes) && info == (moduleInfo{}) {
			if info, err = c.info(ctx); err != nil {
				return 0, nil, err
			}
		}
		for _, d := range list {
			if u.matches(d.slot, d.info, d.token) && u.matchesModule(info) {
				return i, d, nil
			}
		}
	}
	return 0, nil, nil
}

// A finding is what one module has to tell in one round.
type finding struct {
	module, uri int
	device      *device // nil for nothing
	err         error
}

// A search keeps modules running from one round to the next.
type search struct {
	*Library
	uris    []URI
	conns   []*conn
	running sync.WaitGroup
}

// find returns the first token that fits one of the URIs, and which one. All
// modules are asked at once. Of several tokens that fit, that of the module counts
// which is preferred, unless the URI tells a serial number: there is but one of
// those, and nothing to wait for. Without a token it is waited for one, up to the
// given time or, if that is negative, for ever; waiting, which may be nil, is told
// of that, once.
//
// The error wraps [ErrNoToken] if there is none. The caller closes the device.
func (l *Library) find(ctx context.Context, uris []URI, wait time.Duration, waiting func()) (int, *device, error) {
	if len(l.Modules) == 0 {
		return 0, nil, ErrNoModules
	}
	s := &search{Library: l, uris: uris, conns: make([]*conn, len(l.Modules))}
	limit := ctx
	if wait > 0 {
		var cancel context.CancelFunc
		limit, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	for n := 1; ; n++ {
		f, err := s.round(limit)
		if f != nil {
			return f.uri, f.device, nil
		}
		if err = noToken(err); wait == 0 {
			return 0, nil, s.end(err)
		}
		if n == 1 && waiting != nil {
			waiting()
		}
		if n%restartEvery == 0 {
			s.without(-1)()
			clear(s.conns)
		}
		select {
		case <-time.After(pollEvery):
		case <-limit.Done():
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return 0, nil, s.end(err)
		}
	}
}

// round asks all modules and returns what counts, or else what went wrong with
// them. Once it has something to return, the other modules are on their end.
func (s *search) round(ctx context.Context) (*finding, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan finding, len(s.Modules))
	for i := range s.Modules {
		s.running.Go(func() { results <- s.ask(ctx, i) })
	}
	got := make([]*finding, len(s.Modules))
	var errs []error
	for range s.Modules {
		f := <-results
		got[f.module] = &f
		if f.err != nil {
			errs = append(errs, f.err)
		}
		if f := decide(got, s.uris); f != nil {
			f.device.others = s.without(f.module)
			return f, nil
		}
	}
	return nil, volume.Join(errs...)
}

// decide returns the finding that counts, nil as long as another one may.
func decide(got []*finding, uris []URI) *finding {
	open := false
	for _, f := range got {
		switch {
		case f == nil:
			open = true
		case f.device != nil && (!open || uris[f.uri].has("serial")):
			return f
		}
	}
	return nil
}

// ask asks one module, which it starts if it does not run.
func (s *search) ask(ctx context.Context, i int) finding {
	f := finding{module: i}
	m := s.Modules[i]
	// Each call has a limit, but there can be many.
	ctx, cancel := context.WithTimeoutCause(ctx, roundTime, errSlow)
	defer cancel()
	if s.conns[i] == nil || s.conns[i].broken != nil {
		if s.conns[i], f.err = s.start(ctx, m); f.err != nil {
			s.conns[i] = nil
			return f
		}
	}
	if f.uri, f.device, f.err = choose(ctx, s.conns[i], m, s.uris); f.err != nil {
		f.err = fmt.Errorf("PKCS#11 module %s: %w", m.title(), f.err)
	}
	return f
}

// without returns what ends all modules but one. Those that are still asked end
// with the context of their round.
func (s *search) without(module int) func() {
	return func() {
		s.running.Wait()
		for i, c := range s.conns {
			if i != module && c != nil {
				_ = c.close()
			}
		}
	}
}

func (s *search) end(err error) error {
	s.without(-1)()
	return err
}

// all lists the tokens of all modules, which keep running until the returned
// function is called. Modules that fail are in the error, which may come along with
// tokens.
func (l *Library) all(ctx context.Context) ([]*device, func(), error) {
	if len(l.Modules) == 0 {
		return nil, func() {}, ErrNoModules
	}
	s := &search{Library: l, conns: make([]*conn, len(l.Modules))}
	lists := make([][]*device, len(l.Modules))
	errs := make([]error, len(l.Modules))
	for i, m := range l.Modules {
		s.running.Go(func() {
			if s.conns[i], errs[i] = l.start(ctx, m); errs[i] != nil {
				s.conns[i] = nil
				return
			}
			lists[i], errs[i] = tokens(ctx, s.conns[i], m)
		})
	}
	s.running.Wait()
	return slices.Concat(lists...), s.without(-1), volume.Join(errs...)
}

// noToken is [ErrNoToken], and why modules could not tell.
func noToken(err error) error {
	if err == nil {
		return ErrNoToken
	}
	return fmt.Errorf("%w: %w", ErrNoToken, err)
}
