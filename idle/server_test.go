package idle_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockport/lockport/idle"
)

// pipes is a listener in memory. It works in a synctest bubble.
type pipes struct {
	queue   chan net.Conn
	onPause func() // called when a deadline in the past is set, if not nil

	mu     sync.Mutex
	passed chan struct{} // closed while the deadline has passed
}

func newPipes() *pipes {
	return &pipes{queue: make(chan net.Conn, 100), passed: make(chan struct{})}
}

// connect queues a connection and returns the client's end.
func (p *pipes) connect() net.Conn {
	client, server := net.Pipe()
	p.queue <- server
	return client
}

func (p *pipes) Accept() (net.Conn, error) {
	p.mu.Lock()
	passed := p.passed
	p.mu.Unlock()
	select {
	case <-passed:
		return nil, os.ErrDeadlineExceeded
	default:
	}
	select {
	case c := <-p.queue:
		return c, nil
	case <-passed:
	}
	// accept(2) may have had one already when the deadline passed.
	select {
	case c := <-p.queue:
		return c, nil
	default:
		return nil, os.ErrDeadlineExceeded
	}
}

func (p *pipes) SetDeadline(t time.Time) error {
	if !t.IsZero() && p.onPause != nil {
		p.onPause()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.IsZero() {
		p.passed = make(chan struct{})
		return nil
	}
	select {
	case <-p.passed:
	default:
		close(p.passed)
	}
	return nil
}

func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// echo answers with what it reads, until the client closes.
func echo(_ context.Context, c net.Conn) { io.Copy(c, c) }

// say sends a line over an echoing connection and wants it back.
func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	go io.WriteString(c, text)
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Errorf("said %q, got back %q, %v", text, b, err)
	}
}

func TestIdleFromTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := &idle.Server{Timeout: 30 * time.Second}
		if err := s.RunConns(t.Context(), echo, newPipes(), newPipes()); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d != 30*time.Second {
			t.Errorf("exits after %v", d)
		}
	})
}

// The time counts from when the last connection was closed, however long it was
// open, and in whichever listener.
func TestOpenConnectionsAreNotIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := newPipes(), newPipes()
		s := &idle.Server{Timeout: 10 * time.Second}
		done := make(chan error)
		began := time.Now()
		go func() { done <- s.RunConns(t.Context(), echo, one, two) }()
		time.Sleep(9 * time.Second)
		a := one.connect()
		say(t, a, "a")
		time.Sleep(time.Hour)
		b := two.connect()
		say(t, b, "b")
		a.Close()
		time.Sleep(time.Minute)
		say(t, b, "still b")
		b.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d, want := time.Since(began), time.Hour+time.Minute+19*time.Second; d != want {
			t.Errorf("exits after %v, not %v", d, want)
		}
	})
}

// At 0 the server is never idle.
func TestNoTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 1000*time.Hour)
		defer stop()
		began := time.Now()
		if err := new(idle.Server).RunConns(ctx, echo, newPipes()); err != nil || time.Since(began) != 1000*time.Hour {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// A connection that comes out of accept after the decision to pause is served, and
// the server goes on. That one is the race the package is for.
func TestConnectionSlipsIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := &idle.Server{Timeout: 10 * time.Second}
		slipped := make(chan net.Conn, 1)
		pauses := 0
		p.onPause = func() {
			if pauses++; pauses == 1 {
				slipped <- p.connect()
			}
		}
		done := make(chan error, 1)
		began := time.Now()
		go func() { done <- s.RunConns(t.Context(), echo, p) }()
		time.Sleep(15 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("exits with a client at the door: %v", err)
		default:
		}
		client := <-slipped
		say(t, client, "hello")
		later := p.connect()
		say(t, later, "accept goes on")
		client.Close()
		later.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d != 25*time.Second {
			t.Errorf("exits after %v", d)
		}
	})
}

// The same for one that was also served and closed before the second look: it was
// not idle for the time asked for.
func TestShortVisitDuringThePause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		pauses := 0
		p.onPause = func() {
			if pauses++; pauses == 1 {
				p.connect().Close()
			}
		}
		began := time.Now()
		s := &idle.Server{Timeout: 10 * time.Second}
		if err := s.RunConns(t.Context(), echo, p); err != nil || time.Since(began) != 20*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// After Run has returned nothing is accepted: what comes now is for the next process.
func TestQueueIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := &idle.Server{Timeout: time.Second}
		var kept net.Listener
		err := s.Run(t.Context(), func(l net.Listener) error {
			kept = l
			_, err := l.Accept()
			return err
		}, p)
		if err != nil {
			t.Error(err)
		}
		p.connect()
		if _, err := kept.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after the end: %v", err)
		}
		if len(p.queue) != 1 {
			t.Error("the connection was taken out of the queue")
		}
	})
}

func TestHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &idle.Server{Timeout: time.Second}
		began := time.Now()
		release, ok := s.Hold()
		if !ok {
			t.Fatal("can't hold a server that has not begun")
		}
		time.AfterFunc(time.Hour, release)
		if err := s.RunConns(t.Context(), echo, newPipes()); err != nil || time.Since(began) != time.Hour+time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, ok := s.Hold(); ok {
			t.Error("work may begin when the server is about to exit")
		}
	})
}

func TestStopWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		s := &idle.Server{Timeout: time.Second, Drain: time.Minute}
		done := make(chan error, 1)
		go func() { done <- s.RunConns(ctx, echo, p) }()
		c := p.connect()
		say(t, c, "before")
		stop()
		synctest.Wait()
		say(t, c, "after")
		p.connect()
		time.Sleep(50 * time.Second)
		c.Close()
		began := time.Now()
		if err := <-done; err != nil || time.Since(began) != 0 {
			t.Errorf("%v after the last connection: %v", time.Since(began), err)
		}
		if len(p.queue) != 1 {
			t.Error("a connection was accepted after the stop")
		}
	})
}

func TestStopCutsOff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		drain, want time.Duration
		hold        bool
		text        string
	}{
		{time.Minute, time.Minute, false, "1 connections still open 1m0s after the stop"},
		{0, idle.DefaultDrain, false, "1 connections still open 30s after the stop"},
		{time.Minute, time.Minute, true, "work still going on 1m0s after the stop"},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPipes()
			ctx, stop := context.WithCancel(t.Context())
			s := &idle.Server{Drain: c.drain}
			done := make(chan error, 1)
			go func() { done <- s.RunConns(ctx, echo, p) }()
			if c.hold {
				s.Hold()
			} else {
				say(t, p.connect(), "here to stay")
			}
			stop()
			began := time.Now()
			err := <-done
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, not %q", err, c.text)
			}
			if d := time.Since(began); d != c.want {
				t.Errorf("waits %v, not %v", d, c.want)
			}
		})
	}
}

// A handler of long connections ends them when its context does.
func TestHandlerSeesTheStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- new(idle.Server).RunConns(ctx, func(ctx context.Context, c net.Conn) {
				<-ctx.Done()
				io.WriteString(c, "bye")
			}, p)
		}()
		c := p.connect()
		synctest.Wait()
		stop()
		if b, err := io.ReadAll(c); string(b) != "bye" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// When one listener can't be served any more, the others are drained.
func TestServeFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good, bad := newPipes(), newPipes()
		broken := errors.New("broken")
		fail := make(chan struct{})
		s := &idle.Server{Timeout: time.Hour}
		done := make(chan error, 1)
		go func() {
			done <- s.Run(t.Context(), func(l net.Listener) error {
				if l.Addr() == nil {
					t.Error("no address")
				}
				c, err := l.Accept()
				if err != nil {
					return err
				}
				defer c.Close()
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					return err
				}
				<-fail
				return broken
			}, good, bad)
		}()
		io.WriteString(bad.connect(), "x")
		close(fail)
		if err := <-done; !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
	})
}

// deadlineless is a listener that can't be paused.
type deadlineless struct{ net.Listener }

func TestUnusableListeners(t *testing.T) {
	t.Parallel()
	for name, ls := range map[string][]net.Listener{
		"no listeners":     nil,
		"has no deadlines": {newPipes(), deadlineless{newPipes()}},
	} {
		err := new(idle.Server).RunConns(t.Context(), echo, ls...)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, not %q", err, name)
		}
	}
}

// tired is a listener whose first calls of accept fail, as when no file
// descriptors are left.
type tired struct {
	*pipes
	left int
}

func (l *tired) Accept() (net.Conn, error) {
	if l.left--; l.left >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.pipes.Accept()
}

func TestAcceptFailsForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &tired{newPipes(), 20}
		s := &idle.Server{Timeout: time.Minute}
		done := make(chan error, 1)
		began := time.Now()
		go func() { done <- s.RunConns(t.Context(), echo, l) }()
		c := l.connect()
		say(t, c, "at last")
		if d := time.Since(began); d < 10*time.Second || d > 20*time.Second {
			t.Errorf("served after %v", d)
		}
		c.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Real sockets: what a server may want of a connection, and what is left of the
// sockets afterwards.
func TestSockets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	for _, where := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", path}} {
		l, err := net.Listen(where[0], where[1])
		if err != nil {
			t.Fatal(err)
		}
		s := &idle.Server{Timeout: 20 * time.Millisecond}
		done := make(chan error, 1)
		go func() {
			done <- s.RunConns(t.Context(), func(_ context.Context, c net.Conn) {
				io.Copy(c, c)
				half, ok := c.(interface{ CloseWrite() error })
				if !ok {
					t.Errorf("%T can't be closed by half", c)
					return
				}
				if err := half.CloseWrite(); err != nil {
					t.Error(err)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				if err := c.Close(); !errors.Is(err, net.ErrClosed) { // counted once
					t.Errorf("second close: %v", err)
				}
			}, l)
		}()
		c, err := net.Dial(where[0], l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "all of it")
		c.(interface{ CloseWrite() error }).CloseWrite()
		if b, err := io.ReadAll(c); string(b) != "all of it" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := net.Dial(where[0], l.Addr().String()); err == nil {
			t.Error("the listener is still open")
		}
	}
}
