package idle

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"
)

// firstRequest is how long a connection that was accepted before a stop has to
// send its first request. net/http closes such a connection after the same time.
const firstRequest = 5 * time.Second

// RunHTTP is Run for an HTTP server, with TLS if it has a TLSConfig. It takes the
// server over: its Handler and ConnContext are wrapped, and it can't be used for
// anything else.
//
// A kept-alive connection is open until the server's IdleTimeout closes it, and
// one that has not sent a request until the ReadHeaderTimeout does: set both.
//
// At a stop each request that is under way is answered, also one that is still
// on its way in a connection accepted before, if it arrives within 5 seconds.
// Then the functions registered with RegisterOnShutdown are called; those must end
// hijacked connections, which are waited for too.
func (s *Server) RunHTTP(ctx context.Context, srv *http.Server, listeners ...net.Listener) error {
	secure := srv.TLSConfig != nil // Serve sets it too
	serve := func(l net.Listener) (err error) {
		if secure {
			err = srv.ServeTLS(l, "", "")
		} else {
			err = srv.Serve(l)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil // someone called Shutdown, which is a stop
		}
		return err
	}
	watchRequests(srv)
	return s.run(ctx, serve, func(ctx context.Context) { s.hurryHTTP(ctx, srv) }, listeners)
}

// hurryHTTP brings the connections of an HTTP server to an end, once accept has
// stopped for good. Shutdown alone would throw away a request that has arrived, but
// not reached its handler yet; so before it each connection gets its first answer.
func (s *Server) hurryHTTP(ctx context.Context, srv *http.Server) {
	srv.SetKeepAlivesEnabled(false)
	first, cancel := context.WithTimeout(ctx, firstRequest)
	defer cancel()
	if s.gate.await(first, func() bool { return !s.gate.fresh() }) != nil && ctx.Err() != nil {
		return
	}
	srv.Shutdown(ctx) // what it leaves open is waited for and reported by the gate
}

type ticketKey struct{}

// watchRequests has each connection's ticket know when its first request reaches
// the handler.
func watchRequests(srv *http.Server) {
	handler, connContext := srv.Handler, srv.ConnContext
	if handler == nil {
		handler = http.DefaultServeMux
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t, ok := r.Context().Value(ticketKey{}).(*ticket); ok {
			t.gate.begin(t)
		}
		handler.ServeHTTP(w, r)
	})
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, c)
		}
		if secure, ok := c.(*tls.Conn); ok {
			c = secure.NetConn()
		}
		if t, ok := c.(ticketed); ok {
			ctx = context.WithValue(ctx, ticketKey{}, t.ticketOf())
		}
		return ctx
	}
}
