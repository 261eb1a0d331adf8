package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/lockport/lockport/portable"
)

const (
	// maxMessage bounds one message of the other side. What a manager with a
	// hundred thousand units answers is a tenth of it.
	maxMessage = 64 << 20
	// loginTime is how long it may take until messages are exchanged.
	loginTime = 30 * time.Second
)

// A connection is one to the service manager. It may be used concurrently.
type connection struct {
	bus     *dbus.Conn
	socket  *bounded
	manager dbus.BusObject
	jobs    *jobs
	direct  bool // to the manager itself, without a bus daemon
}

// connect tries the manager's own socket, then the bus.
func connect(ctx context.Context, c Config) (*connection, error) {
	if c.Private != "" {
		conn, err := open(ctx, c.Private, true)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
	}
	list, err := sockets(c.address())
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, socket := range list {
		conn, err := open(ctx, socket, false)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// open connects to a socket and logs in.
func open(ctx context.Context, path string, direct bool) (*connection, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			err = fmt.Errorf("%w: %w", portable.ErrNoManager, err)
		}
		return nil, fmt.Errorf("connecting to the service manager: %w", err)
	}
	socket := &bounded{Conn: raw}
	socket.refill()
	c := &connection{socket: socket, jobs: newJobs(), direct: direct}
	if c.bus, err = dbus.NewConn(socket, dbus.WithSignalHandler(c.jobs),
		dbus.WithIncomingInterceptor(func(*dbus.Message) { socket.refill() })); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	c.manager = c.bus.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	if err := c.login(ctx); err != nil {
		_ = c.bus.Close()
		return nil, fmt.Errorf("connecting to the service manager at %s: %w", path, cancelled(ctx, err))
	}
	return c, nil
}

// login says who we are. The library's calls for that know no context, so the
// socket's deadline ends them.
func (c *connection) login(ctx context.Context) error {
	if err := c.socket.SetDeadline(time.Now().Add(loginTime)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.socket.SetDeadline(time.Unix(1, 0)) })
	err := c.bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil && c.direct {
		err = c.greet()
	} else if err == nil {
		err = c.bus.Hello()
	}
	if !stop() {
		return ctx.Err() // the deadline is for good
	}
	if err != nil {
		return err
	}
	return c.socket.SetDeadline(time.Time{})
}

// greetTime is how long the manager may take for its first answer until it is asked
// again; it is given twice as long each time.
const greetTime = time.Millisecond

// greet makes sure that the manager listens. It may take our first message in
// together with the end of the login, and then looks at it only when something else
// comes: a call that waits for its answer would wait for ever. So it gets more to
// look at until it answers.
//
// Source: systemd, src/libsystemd/sd-bus/bus-socket.c, which reads ahead while it logs
// a client in.
func (c *connection) greet() error {
	answer := make(chan *dbus.Call, 64)
	for wait := greetTime; ; wait = min(2*wait, time.Second) {
		c.manager.Go("org.freedesktop.DBus.Peer.Ping", 0, answer)
		select {
		case call := <-answer:
			if refusal := (dbus.Error{}); errors.As(call.Err, &refusal) {
				return nil // an answer, too
			}
			return call.Err
		case <-time.After(wait):
		}
	}
}

// cancelled is why a call failed: the context, if that has ended.
func cancelled(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// explain says in our words why a call failed.
func (c *connection) explain(ctx context.Context, err error) error {
	var refusal dbus.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &refusal):
		return explainRefusal(refusal)
	case c.socket.exceeded.Load():
		return fmt.Errorf("%w: a message of more than %d bytes", ErrLost, maxMessage)
	case !c.bus.Connected():
		return ErrLost
	}
	return err
}

// refusals are errors that the caller decides by.
var refusals = map[string]error{
	"org.freedesktop.DBus.Error.AccessDenied":                     fs.ErrPermission,
	"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": fs.ErrPermission,
	"org.freedesktop.DBus.Error.ServiceUnknown":                   portable.ErrNoManager,
	"org.freedesktop.DBus.Error.NameHasNoOwner":                   portable.ErrNoManager,
}

// refused is an error that the other side answered with.
type refused struct{ name, text string }

func (r *refused) Error() string { return r.text }

func explainRefusal(e dbus.Error) error {
	err := &refused{e.Name, e.Error()}
	if known := refusals[e.Name]; known != nil {
		return fmt.Errorf("%w: %w", known, err)
	}
	return err
}

// bounded is a socket from which one message can't read without end.
type bounded struct {
	net.Conn
	left     atomic.Int64
	exceeded atomic.Bool
}

// refill is called when a message has come to its end.
func (b *bounded) refill() { b.left.Store(maxMessage) }

func (b *bounded) Read(p []byte) (int, error) {
	left := b.left.Load()
	if left <= 0 {
		b.exceeded.Store(true)
		return 0, errors.New("the message is too large")
	}
	n, err := b.Conn.Read(p[:min(int64(len(p)), left)])
	b.left.Add(-int64(n))
	return n, err
}
