package bus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/internal/bus/bustest"
	"github.com/lockport/lockport/portable"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// calls collects what a manager is asked.
type calls struct {
	mu   sync.Mutex
	list []string
}

func (c *calls) log(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, call)
}

func (c *calls) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}

// serve starts a manager and returns its socket.
func serve(t *testing.T, m *bustest.Manager) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	must(t, err)
	var done sync.WaitGroup
	done.Go(func() { m.Serve(l) })
	t.Cleanup(func() { l.Close(); done.Wait() })
	return socket
}

// private returns a client at the manager's own socket.
func private(t *testing.T, m *bustest.Manager) *Manager {
	t.Helper()
	c := New(Config{Private: serve(t, m), Address: "unix:path=/nonexistent"})
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

// The manager does not look at what came with the end of the login until something
// else comes.
func TestFirstMessageIsLeft(t *testing.T) {
	t.Parallel()
	m := private(t, &bustest.Manager{Late: "Ping"})
	must(t, m.Reload(t.Context()))
}

func units() map[string]bustest.Unit {
	return map[string]bustest.Unit{
		"web.service":    {Active: "active", File: "enabled"},
		"web.socket":     {File: "disabled"},
		"web@.service":   {File: "static"},
		"web@1.service":  {Active: "activating"},
		`w\x2d.service`:  {Active: "failed", File: "linked"},
		"other.service":  {Active: "active", File: "enabled"},
		"broken.service": {Active: "inactive", File: "disabled", Result: "failed"},
		"needy.service":  {Active: "inactive", File: "disabled", Result: "dependency"},
		"idle.service":   {Active: "inactive", File: "disabled", Result: "skipped"},
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	var log calls
	m := private(t, &bustest.Manager{Units: units(), Log: log.log})
	states, err := m.States(t.Context(), nil)
	if err != nil || states != nil || log.take() != nil {
		t.Fatal("no units were asked for:", states, err)
	}
	states, err = m.States(t.Context(), []string{"web.service", "web.socket", "web@.service", `w\x2d.service`, "none.path"})
	must(t, err)
	slices.SortFunc(states, func(a, b portable.UnitState) int { return strings.Compare(a.Name, b.Name) })
	want := []portable.UnitState{
		{Name: `w\x2d.service`, Active: "failed", File: "linked"}, {Name: "web.service", Active: "active", File: "enabled"},
		{Name: "web.socket", File: "disabled"}, {Name: "web@.service", File: "static"}, {Name: "web@1.service", Active: "activating"},
	}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Error(diff)
	}
	if n := len(log.take()); n != 2 {
		t.Errorf("%d calls", n)
	}
}

// Both calls of States are under way before either is answered.
func TestStatesTakeOneRoundTrip(t *testing.T) {
	t.Parallel()
	m := private(t, &bustest.Manager{Units: units(), Late: "ListUnitsByPatterns"})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	states, err := m.States(ctx, []string{"web.service"})
	if err != nil || len(states) != 1 {
		t.Error(states, err)
	}
}

func TestEnable(t *testing.T) {
	t.Parallel()
	var log calls
	m := private(t, &bustest.Manager{Units: units(), Log: log.log})
	const at = "/etc/systemd/system.attached/"
	changes, err := m.Enable(t.Context(), []string{at + "none.service", at + "web.socket"}, true, portable.Runtime)
	if err == nil || err.Error() != "enabling "+at+"none.service: Unit none.service does not exist" {
		t.Error(err)
	}
	want := []portable.Change{{Type: portable.Symlink, Path: at + "multi-user.target.wants/web.socket", Source: at + "web.socket"}}
	if len(changes) != 1 || changes[0].Path != want[0].Path || changes[0].Type != want[0].Type || changes[0].Source != want[0].Source {
		t.Errorf("%+v", changes)
	}
	changes, err = m.Enable(t.Context(), []string{"web.socket"}, false, portable.Persistent)
	must(t, err)
	if len(changes) != 1 || changes[0].Type != portable.Unlink {
		t.Errorf("%+v", changes)
	}
	if diff := cmp.Diff([]string{
		"EnableUnitFilesWithFlags [" + at + "none.service] 5", "EnableUnitFilesWithFlags [" + at + "web.socket] 5",
		"DisableUnitFilesWithFlags [web.socket] 4",
	}, log.take()); diff != "" {
		t.Error(diff)
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprint("early ", early), func(t *testing.T) {
			t.Parallel()
			var log calls
			m := private(t, &bustest.Manager{Units: units(), Log: log.log, Early: early})
			err := m.Run(t.Context(), portable.Start, []string{"web.socket", "broken.service", "none.service", "needy.service", "idle.service"}, true)
			text := strings.Split(fmt.Sprint(err), "\n")
			slices.Sort(text)
			if diff := cmp.Diff([]string{
				"starting broken.service: it failed", "starting needy.service: a unit that it needs failed",
				"starting none.service: Unit none.service not found.",
			}, text); diff != "" {
				t.Error(diff)
			}
			var job *portable.JobError
			if !errors.As(err, &job) {
				t.Error("no JobError in it")
			}
			if first := log.take()[0]; first != "Subscribe" {
				t.Errorf("%s was called before anything was subscribed to", first)
			}
			must(t, m.Run(t.Context(), portable.Stop, []string{"web.service"}, true))
			must(t, m.Run(t.Context(), portable.Restart, []string{"web.service"}, true))
			must(t, m.Run(t.Context(), portable.Start, []string{"broken.service"}, false)) // nobody waits
			must(t, m.Run(t.Context(), portable.Clean, []string{"web.service"}, true))
			must(t, m.Run(t.Context(), portable.Start, nil, true))
			if diff := cmp.Diff([]string{"StopUnit web.service replace", "RestartUnit web.service replace",
				"StartUnit broken.service replace", "CleanUnit web.service [all fdstore]"}, log.take()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A bus greets, and passes on only the signals that were asked for.
func TestOverTheBus(t *testing.T) {
	t.Parallel()
	var log calls
	socket := serve(t, &bustest.Manager{Units: units(), Log: log.log})
	m := New(Config{Private: filepath.Join(t.TempDir(), "none"), Address: "tcp:host=x,port=1;unix:path=" + socket})
	defer m.Close()
	must(t, m.Run(t.Context(), portable.Start, []string{"web.socket"}, true))
	must(t, m.Reload(t.Context()))
	want := []string{
		"Hello", "AddMatch type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1'," +
			"interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
		"Subscribe", "StartUnit web.socket replace", "Reload",
	}
	if diff := cmp.Diff(want, log.take()); diff != "" {
		t.Error(diff)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := New(Config{Private: filepath.Join(dir, "a"), Address: "unix:path=" + filepath.Join(dir, "b")})
	defer m.Close()
	if err := m.Reload(t.Context()); !errors.Is(err, portable.ErrNoManager) {
		t.Error(err)
	}
	if _, err := m.States(t.Context(), []string{"a.service"}); !errors.Is(err, portable.ErrNoManager) {
		t.Error(err)
	}
	m = New(Config{Address: "tcp:host=x"})
	if err := m.Reload(t.Context()); !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string][]string{
		"unix:path=/run/x":                              {"/run/x"},
		"unix:path=/a%20b,guid=12;unix:abstract=c":      {"/a b", "@c"},
		"unix:guid=1,path=/x;tcp:host=localhost,port=1": {"/x"},
		"tcp:host=x":     nil,
		"":               nil,
		"unix:":          nil,
		"unix:path=":     nil,
		"unix:path=%zz":  nil,
		"unix:tmpdir=/x": nil,
	} {
		have, err := sockets(address)
		if diff := cmp.Diff(want, have); diff != "" || (err == nil) != (want != nil) {
			t.Errorf("%q: %v\n%s", address, err, diff)
		}
	}
}

// Refusals that the caller decides by.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{
		"org.freedesktop.DBus.Error.AccessDenied":                     fs.ErrPermission,
		"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": fs.ErrPermission,
		"org.freedesktop.DBus.Error.ServiceUnknown":                   portable.ErrNoManager,
	} {
		fake := &bustest.Manager{Units: units(), Refuse: name}
		if err := private(t, fake).Reload(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// operations are calls that have to end when their context does.
var operations = map[string]func(context.Context, *Manager) error{
	"Reload": func(ctx context.Context, m *Manager) error { return m.Reload(ctx) },
	"ListUnitFilesByPatterns": func(ctx context.Context, m *Manager) error {
		_, err := m.States(ctx, []string{"web.service"})
		return err
	},
	"Subscribe": func(ctx context.Context, m *Manager) error {
		return m.Run(ctx, portable.Start, []string{"web.socket"}, true)
	},
	"StartUnit": func(ctx context.Context, m *Manager) error {
		return m.Run(ctx, portable.Start, []string{"web.socket"}, true)
	},
	"CleanUnit": func(ctx context.Context, m *Manager) error {
		return m.Run(ctx, portable.Clean, []string{"web.socket"}, true)
	},
	"EnableUnitFilesWithFlags": func(ctx context.Context, m *Manager) error {
		_, err := m.Enable(ctx, []string{"web.socket"}, true, portable.Persistent)
		return err
	},
}

// A manager that never answers is waited for until the context ends.
func TestCancel(t *testing.T) {
	t.Parallel()
	for member, call := range operations {
		t.Run(member, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			m := private(t, &bustest.Manager{Units: units(), Hook: func(have string, _ net.Conn) bool {
				if have == member {
					cancel()
				}
				return have == member
			}})
			if err := call(ctx, m); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

// A job that never ends is waited for until the context ends, and so is a server
// that does not even let us log in.
func TestCancelWaiting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	m := private(t, &bustest.Manager{Units: units(), Forever: cancel})
	if err := m.Run(ctx, portable.Start, []string{"web.socket"}, true); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	must(t, err)
	defer l.Close()
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		if conn, err := l.Accept(); err == nil {
			cancel()
			_, _ = conn.Read(make([]byte, 1<<10))
		}
	}()
	silent := New(Config{Private: l.Addr().String()})
	if err := silent.Reload(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A connection that ends is an error, and the next call connects anew.
func TestDisconnect(t *testing.T) {
	t.Parallel()
	for member, call := range operations {
		t.Run(member, func(t *testing.T) {
			t.Parallel()
			var once atomic.Bool
			m := private(t, &bustest.Manager{Units: units(), Hook: func(have string, conn net.Conn) bool {
				if have != member || !once.CompareAndSwap(false, true) {
					return false
				}
				_ = conn.Close()
				return true
			}})
			if err := call(t.Context(), m); !errors.Is(err, ErrLost) {
				t.Error(err)
			}
			must(t, call(t.Context(), m))
		})
	}
	// While a job is waited for.
	var fake *bustest.Manager
	drop := make(chan net.Conn, 8)
	fake = &bustest.Manager{Units: units(), Forever: func() { (<-drop).Close() }, Hook: func(member string, conn net.Conn) bool {
		if member == "StartUnit" {
			drop <- conn
		}
		return false
	}}
	if err := private(t, fake).Run(t.Context(), portable.Start, []string{"web.socket"}, true); !errors.Is(err, ErrLost) {
		t.Error(err)
	}
}

// A message without end is cut off, and one that makes no sense is an error.
func TestHugeAndSenseless(t *testing.T) {
	t.Parallel()
	huge := private(t, &bustest.Manager{Hook: func(_ string, conn net.Conn) bool {
		head := []byte{'l', 2, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 5, 1, 'u', 0, 1, 0, 0, 0}
		binary.LittleEndian.PutUint32(head[4:], 1<<27-64)
		_, err := conn.Write(head)
		for junk := bytes.Repeat([]byte{1}, 1<<20); err == nil; {
			_, err = conn.Write(junk)
		}
		return true
	}})
	if err := huge.Reload(t.Context()); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "bytes") {
		t.Error(err)
	}
	senseless := private(t, &bustest.Manager{Hook: func(_ string, conn net.Conn) bool {
		_, _ = conn.Write(bytes.Repeat([]byte("junk"), 100))
		_ = conn.Close()
		return true
	}})
	if err := senseless.Reload(t.Context()); err == nil {
		t.Error("junk is taken for an answer")
	}
	// An answer of another form than it should have.
	odd := private(t, &bustest.Manager{Units: units(), Odd: true})
	if _, err := odd.States(t.Context(), []string{"web.service"}); err == nil || !strings.Contains(err.Error(), "unexpected answer") {
		t.Error(err)
	}
}

// Several may use one connection at a time.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	m := private(t, &bustest.Manager{Units: units()})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := m.Run(t.Context(), portable.Restart, []string{"web.service", "web.socket"}, true); err != nil {
				t.Error(err)
			}
			if _, err := m.States(t.Context(), []string{"web.service"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
