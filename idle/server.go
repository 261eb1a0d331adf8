package idle

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// DefaultDrain is how long a stop waits for connections where Server.Drain is 0.
const DefaultDrain = 30 * time.Second

// Server serves listeners until it has been idle for some time or is told to
// stop. Set its fields before the first call of a method. It is used once: one of
// Run, RunHTTP and RunConns, one time.
type Server struct {
	// Timeout is how long nothing must have been open before Run returns. At 0 it
	// returns only when it is told to stop.
	Timeout time.Duration
	// Drain is how long connections may stay open after a stop; what is open then
	// is cut off. 0 means DefaultDrain. Keep it below the unit's TimeoutStopSec=.
	Drain time.Duration
	// Manager is told when the service is ready and when it stops; it may be nil.
	Manager *Manager

	once sync.Once
	gate *gate
}

func (s *Server) theGate() *gate {
	s.once.Do(func() { s.gate = newGate() })
	return s.gate
}

// Hold keeps the server from being idle until release is called, for work that
// belongs to no open connection. It is false, and release is nil, if the server
// has decided to exit: the work must not begin then. A stop waits for it too, as
// long as for connections. It is safe for concurrent use; release is for one call.
func (s *Server) Hold() (release func(), ok bool) {
	g := s.theGate()
	if !g.hold() {
		return nil, false
	}
	return g.release, true
}

// Run serves the listeners, each with one call of serve, which accepts and serves
// connections until Accept fails, as the Serve methods of most servers do.
//
// It returns nil when the server has been idle for the timeout: then every
// connection that was ever accepted is closed, and the process should exit without
// accepting any more. When the context ends, or when one of the serve calls returns, it
// stops accepting, waits until all connections are closed, and returns nil or
// what serve returned. A connection that had to be cut off is an error.
//
// Listeners must have deadlines, as those of package net have. Run closes them.
// The connections that serve gets have the methods of *net.TCPConn or
// *net.UnixConn, but are not of that type. Each must be closed by whoever serves
// it: what is not closed is not idle.
func (s *Server) Run(ctx context.Context, serve func(net.Listener) error, listeners ...net.Listener) error {
	return s.run(ctx, serve, func(context.Context) {}, listeners)
}

// run is Run with a function that tells the connections to come to an end.
func (s *Server) run(ctx context.Context, serve func(net.Listener) error, hurry func(context.Context), listeners []net.Listener) error {
	g := s.theGate()
	var guarded []*listener
	for _, l := range listeners {
		one, err := g.guard(l)
		if err != nil {
			return errors.Join(err, closeAll(listeners))
		}
		guarded = append(guarded, one)
	}
	if len(guarded) == 0 {
		return errors.New("no listeners to serve")
	}
	ended := make(chan error, len(guarded))
	for _, l := range guarded {
		go func() { ended <- serve(l) }()
	}
	running, err := s.untilDone(ctx, ended, len(guarded))
	// There is no way back from here. Nobody can act on a failure to say so.
	s.Manager.Notify("STOPPING=1")
	err = errors.Join(err, g.seal(), s.drain(hurry, ended, running))
	return errors.Join(err, g.closeListeners())
}

// untilDone returns when the server is idle and its gate sealed, or is to stop:
// how many serve calls have not returned, and why it stops if that is a failure.
func (s *Server) untilDone(ctx context.Context, ended <-chan error, running int) (int, error) {
	g := s.gate
	if err := s.Manager.Notify("READY=1"); err != nil {
		return running, err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		left, quiet := g.quietIn(s.Timeout)
		if quiet && s.Timeout > 0 {
			if left <= 0 {
				if done, err := g.sealIfIdle(s.Timeout); done || err != nil {
					return running, err
				}
				continue
			}
			timer.Reset(left)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return running, nil
		case err := <-ended:
			return running - 1, err
		case <-g.changed:
		case <-timer.C:
		}
	}
}

// drain waits until nothing is open and the serve calls have returned. What is
// open when the time is up is cut off.
func (s *Server) drain(hurry func(context.Context), ended <-chan error, running int) error {
	limit := s.Drain
	if limit == 0 {
		limit = DefaultDrain
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	hurry(ctx)
	g := s.gate
	if g.await(ctx, func() bool { return !g.busy() }) != nil {
		if n := g.cut(); n > 0 {
			return fmt.Errorf("%d connections still open %v after the stop: %w", n, limit, context.DeadlineExceeded)
		}
		return fmt.Errorf("work still going on %v after the stop: %w", limit, context.DeadlineExceeded)
	}
	// Their errors are those of a gate that is closed.
	for ; running > 0; running-- {
		select {
		case <-ended:
		case <-ctx.Done():
			return fmt.Errorf("a listener still served %v after the stop: %w", limit, ctx.Err())
		}
	}
	return nil
}

func closeAll(listeners []net.Listener) error {
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// RunConns is Run for a protocol without a server of its own: it calls handle for
// each connection, in a goroutine of its own, and closes the connection when that
// returns. The context that handle gets is the one given here: a connection that
// would stay open for long must end when it does.
func (s *Server) RunConns(ctx context.Context, handle func(context.Context, net.Conn), listeners ...net.Listener) error {
	return s.Run(ctx, func(l net.Listener) error {
		return acceptAll(l, func(c net.Conn) {
			defer c.Close()
			handle(ctx, c)
		})
	}, listeners...)
}

// acceptAll starts a goroutine for each connection. When there are no file
// descriptors left it tries again after a while, as net/http does.
func acceptAll(l net.Listener, handle func(net.Conn)) error {
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		c, err := l.Accept()
		if err == nil {
			pause = shortest
			go handle(c)
			continue
		}
		//lint:ignore SA1019 which errors of accept may pass, only this method says
		if t, ok := errors.AsType[net.Error](err); !ok || !t.Temporary() {
			return err
		}
		time.Sleep(pause)
		pause = min(2*pause, longest)
	}
}
