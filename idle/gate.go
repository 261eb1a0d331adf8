package idle

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// pausable is a listener whose accept can be interrupted and go on later. A
// deadline does that in this process only; the socket, which the manager holds
// too, knows nothing of it.
type pausable interface {
	net.Listener
	SetDeadline(time.Time) error
}

// gate stands between the listeners and whoever serves them. Under one lock it
// knows how many calls of accept are under way and which connections have come
// out of them, so that both can be seen to be none at the same moment.
type gate struct {
	mu        sync.Mutex
	turn      sync.Cond // Accept waits here while paused, pause for accepting to become 0
	listeners []*listener
	accepting int // calls of accept(2) that may still bring a connection
	paused    bool
	sealed    bool // for ever paused: the process is about to exit
	open      map[*ticket]struct{}
	holds     int
	since     time.Time     // when nothing was open any more
	changed   chan struct{} // holds a token after each change that someone may wait for
}

func newGate() *gate {
	g := &gate{open: map[*ticket]struct{}{}, since: time.Now(), changed: make(chan struct{}, 1)}
	g.turn.L = &g.mu
	return g
}

// ticket is an accepted connection that is not closed yet.
type ticket struct {
	gate  *gate
	conn  net.Conn
	begun bool // the first request on it has reached its handler
}

// listener is one of a gate's listeners, as those see it who serve it. Its
// deadlines are the gate's own.
type listener struct {
	socket pausable
	gate   *gate
	closed bool
}

// Addr is the address of the socket.
func (l *listener) Addr() net.Addr { return l.socket.Addr() }

// guard puts a listener behind the gate.
func (g *gate) guard(l net.Listener) (*listener, error) {
	p, ok := l.(pausable)
	if !ok {
		return nil, fmt.Errorf("listening on %s: a %T has no deadlines", l.Addr(), l)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	guarded := &listener{socket: p, gate: g}
	g.listeners = append(g.listeners, guarded)
	return guarded, nil
}

// Accept returns the next connection. While the gate is paused it waits, and when
// the process is about to exit it returns net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	for {
		if err := l.enter(); err != nil {
			return nil, err
		}
		c, err := l.socket.Accept()
		c = l.leave(c, err)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
	}
}

// enter waits until accept may be called, and says that it will be.
func (l *listener) enter() error {
	g := l.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.paused && !g.sealed && !l.closed {
		g.turn.Wait()
	}
	if g.sealed || l.closed {
		return &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: net.ErrClosed}
	}
	g.accepting++
	return nil
}

// leave says that accept has returned. The connection counts from the same moment.
func (l *listener) leave(c net.Conn, err error) net.Conn {
	g := l.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.accepting--
	g.signal()
	if err != nil {
		return nil
	}
	t := &ticket{gate: g, conn: c}
	g.open[t] = struct{}{}
	return t.wrap()
}

// Close makes Accept return net.ErrClosed, now and later. The socket itself stays
// open until the server is done, for connections may wait in it.
func (l *listener) Close() error {
	g := l.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	l.closed = true
	g.signal()
	return l.interrupt()
}

// interrupt makes a call of accept return. Needs the lock.
func (l *listener) interrupt() error {
	return l.socket.SetDeadline(time.Unix(1, 0))
}

// signal wakes all who wait for a change. Needs the lock.
func (g *gate) signal() {
	g.turn.Broadcast()
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// finish takes a connection off the list, once.
func (g *gate) finish(t *ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.open[t]; ok {
		delete(g.open, t)
		g.quieter()
	}
}

// quieter is for when something that was open is not any more. Needs the lock.
func (g *gate) quieter() {
	if !g.busy() {
		g.since = time.Now()
	}
	g.signal()
}

// begin notes that the first request of a connection has reached its handler.
func (g *gate) begin(t *ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !t.begun {
		t.begun = true
		g.signal()
	}
}

// hold counts something that is no connection, unless it is too late for that.
func (g *gate) hold() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sealed {
		return false
	}
	g.holds++
	return true
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holds--
	g.quieter()
}

// busy needs the lock.
func (g *gate) busy() bool { return len(g.open) > 0 || g.holds > 0 }

// quietIn is how long it takes until nothing has been open for the time given,
// if nothing comes in between. It is false while something is open.
func (g *gate) quietIn(timeout time.Duration) (time.Duration, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return timeout - time.Since(g.since), !g.busy()
}

// pause lets no call of accept begin and waits until none is under way. After
// that the list of open connections can't grow.
func (g *gate) pause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.paused = true
	for _, l := range g.listeners {
		if err := l.interrupt(); err != nil {
			return fmt.Errorf("pausing %s: %w", l.Addr(), err)
		}
	}
	for g.accepting > 0 {
		g.turn.Wait()
	}
	return nil
}

// resume undoes pause. Needs the lock.
func (g *gate) resume() error {
	for _, l := range g.listeners {
		if l.closed {
			continue
		}
		if err := l.socket.SetDeadline(time.Time{}); err != nil {
			return fmt.Errorf("resuming %s: %w", l.Addr(), err)
		}
	}
	g.paused = false
	g.signal()
	return nil
}

// sealIfIdle closes the gate for good, if nothing has been open for the time
// given. Otherwise all goes on as if nothing had happened.
func (g *gate) sealIfIdle(timeout time.Duration) (bool, error) {
	if err := g.pause(); err != nil {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy() || time.Since(g.since) < timeout {
		return false, g.resume()
	}
	g.sealed = true
	g.signal()
	return true, nil
}

// seal closes the gate for good, whatever is open.
func (g *gate) seal() error {
	err := g.pause()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sealed = true
	g.signal()
	return err
}

// await waits until a condition on the gate, which is looked at under the lock,
// is met, or until the context ends.
func (g *gate) await(ctx context.Context, met func() bool) error {
	for {
		g.mu.Lock()
		ok := met()
		g.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.changed:
		}
	}
}

// fresh tells whether the first request of a connection has yet to reach its
// handler. Needs the lock.
func (g *gate) fresh() bool {
	for t := range g.open {
		if !t.begun {
			return true
		}
	}
	return false
}

// cut closes what is open and returns how many connections that were.
func (g *gate) cut() int {
	g.mu.Lock()
	var all []*ticket
	for t := range g.open {
		all = append(all, t)
	}
	g.mu.Unlock()
	for _, t := range all {
		t.close() // it is gone either way
	}
	return len(all)
}

// closeListeners closes the sockets themselves, for this process.
func (g *gate) closeListeners() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, l := range g.listeners {
		errs = append(errs, l.socket.Close())
	}
	return errors.Join(errs...)
}
