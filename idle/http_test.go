package idle_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/idle"
)

// site is an HTTP server that runs until stop or until it is idle.
type site struct {
	addr string
	stop context.CancelFunc
	done chan error
}

func serveHTTP(t *testing.T, s *idle.Server, srv *http.Server) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	w := &site{l.Addr().String(), stop, make(chan error, 1)}
	go func() { w.done <- s.RunHTTP(ctx, srv, l) }()
	return w
}

// wait returns what RunHTTP returns.
func (w *site) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the server does not return")
		return nil
	}
}

func (w *site) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

const get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

// ask sends a request and returns the body of the answer.
func ask(t *testing.T, c net.Conn) string {
	t.Helper()
	if _, err := io.WriteString(c, get); err != nil {
		t.Fatal(err)
	}
	return answer(t, c)
}

func answer(t *testing.T, c net.Conn) string {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// accepted tells a test when connections have come out of accept.
func accepted(srv *http.Server) <-chan struct{} {
	c := make(chan struct{}, 10)
	srv.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		c <- struct{}{}
		return ctx
	}
	return c
}

func TestHTTPIdle(t *testing.T) {
	t.Parallel()
	srv := &http.Server{Handler: http.HandlerFunc(hello), IdleTimeout: 50 * time.Millisecond}
	w := serveHTTP(t, &idle.Server{Timeout: 30 * time.Millisecond}, srv)
	began := time.Now()
	for range 3 { // kept alive in between
		c := w.dial(t)
		if got := ask(t, c) + ask(t, c); got != "hellohello" {
			t.Errorf("got %q", got)
		}
	}
	if err := w.wait(t); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d < 80*time.Millisecond {
		t.Errorf("exits after %v, with a connection kept alive", d)
	}
}

// A hijacked connection is open until its new owner closes it.
func TestHTTPHijacked(t *testing.T) {
	t.Parallel()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			defer c.Close()
			io.Copy(c, buffered) // the first ping may be there already
		}()
	})}
	w := serveHTTP(t, &idle.Server{Timeout: time.Millisecond}, srv)
	c := w.dial(t)
	io.WriteString(c, get)
	for range 20 {
		say(t, c, "ping")
		select {
		case err := <-w.done:
			t.Fatalf("exits with a hijacked connection open: %v", err)
		case <-time.After(2 * time.Millisecond):
		}
	}
	c.Close()
	if err := w.wait(t); err != nil {
		t.Error(err)
	}
}

// A stop: the request under way is answered, so is the one that comes on a
// connection accepted before; a connection without a request is closed.
func TestHTTPStop(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			t.Parallel()
			entered, finish := make(chan struct{}), make(chan struct{})
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					close(entered)
					<-finish
				}
				hello(w, r)
			})}
			dial := (*site).dial
			if secure {
				dial = securely(t, srv)
			}
			came := accepted(srv)
			w := serveHTTP(t, new(idle.Server), srv)
			kept := dial(w, t)
			ask(t, kept)
			slow := dial(w, t)
			io.WriteString(slow, strings.Replace(get, "/", "/slow", 1))
			<-entered
			fresh := dial(w, t)
			for range 3 {
				<-came
			}
			w.stop()
			if b, err := io.ReadAll(kept); len(b) != 0 || err != nil {
				t.Errorf("kept-alive connection after the stop: %q, %v", b, err)
			}
			if got := ask(t, fresh); got != "hello" {
				t.Errorf("request after the stop on a connection from before: %q", got)
			}
			close(finish)
			if got := answer(t, slow); got != "hello" {
				t.Errorf("request under way: %q", got)
			}
			if err := w.wait(t); err != nil {
				t.Error(err)
			}
		})
	}
}

// securely gives the server a certificate and returns how clients connect.
func securely(t *testing.T, srv *http.Server) func(*site, *testing.T) net.Conn {
	t.Helper()
	made := httptest.NewTLSServer(nil)
	srv.TLSConfig = &tls.Config{Certificates: made.TLS.Certificates}
	made.Close()
	return func(w *site, t *testing.T) net.Conn {
		c := tls.Client(w.dial(t), &tls.Config{InsecureSkipVerify: true}) // a test's own certificate
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// Hijacked connections are told by RegisterOnShutdown, and waited for.
func TestHTTPStopHijacked(t *testing.T) {
	t.Parallel()
	ending := make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			defer c.Close()
			io.WriteString(c, "+")
			<-ending
			io.WriteString(c, "bye")
		}()
	})}
	srv.RegisterOnShutdown(func() { close(ending) })
	w := serveHTTP(t, new(idle.Server), srv)
	c := w.dial(t)
	io.WriteString(c, get)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if b, err := io.ReadAll(c); string(b) != "bye" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := w.wait(t); err != nil {
		t.Error(err)
	}
}

// A handler that never returns is cut off.
func TestHTTPStopCutsOff(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})}
	w := serveHTTP(t, &idle.Server{Drain: 50 * time.Millisecond}, srv)
	c := w.dial(t)
	io.WriteString(c, get)
	<-entered
	w.stop()
	if err := w.wait(t); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if b, err := io.ReadAll(c); len(b) != 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("%q, %v", b, err)
	}
}

// A server that its owner shuts down is a server that stops.
func TestHTTPShutDownByItsOwner(t *testing.T) {
	t.Parallel()
	srv := &http.Server{Handler: http.HandlerFunc(hello)}
	w := serveHTTP(t, new(idle.Server), srv)
	ask(t, w.dial(t))
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := w.wait(t); err != nil {
		t.Error(err)
	}
}
