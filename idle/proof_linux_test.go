package idle_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lockport/lockport/idle"
)

// The tests start this binary again as a server, in the role of the service
// manager.
func TestMain(m *testing.M) {
	if kind := os.Getenv("IDLE_TEST_SERVER"); kind != "" {
		if err := serveVisitors(kind, os.Getenv("IDLE_TEST_COUNT")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const proofTimeout = 4 * time.Millisecond

// serveVisitors is the server of the proof: it answers each request with the
// next number, which goes on in the next process.
func serveVisitors(kind, path string) error {
	if kind != "describe" {
		// The manager can't know the process ID before the process is there.
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	m, err := idle.FromManager()
	if err != nil {
		return err
	}
	if kind == "describe" {
		for i, l := range m.Listeners {
			fmt.Println(m.Names[i], l.Addr().Network(), l.Addr())
		}
		return nil
	}
	next, err := openNumbers(path)
	if err != nil {
		return err
	}
	s := &idle.Server{Timeout: proofTimeout, Manager: m}
	if kind == "conns" {
		return s.RunConns(context.Background(), func(_ context.Context, c net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d", next())
			}
		}, m.Listeners...)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, next()) })}
	srv.SetKeepAlivesEnabled(false)
	return s.RunHTTP(context.Background(), srv, m.Listeners...)
}

// openNumbers returns a function that counts on from what is in the file, and
// keeps it there.
func openNumbers(path string) (func() uint64, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 8)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(b)
	var mu sync.Mutex
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		n++
		binary.LittleEndian.PutUint64(b, n)
		if _, err := f.WriteAt(b, 0); err != nil {
			panic(err)
		}
		return n
	}, nil
}

// standIn does what a service manager does for a socket unit with Accept=no: it
// starts the service when a socket is readable, does not look while the service
// runs, and never accepts.
type standIn struct {
	kind, count string
	sockets     []*os.File
	notify      string // NOTIFY_SOCKET of the service
	exits       atomic.Int64
}

// run starts the service again and again until the context ends and no client is
// waiting any more.
func (m *standIn) run(ctx context.Context) error {
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer syscall.Close(poll)
	for _, f := range m.sockets {
		fd := int(f.Fd())
		if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}); err != nil {
			return err
		}
	}
	for {
		n, err := syscall.EpollWait(poll, make([]syscall.EpollEvent, 1), 20)
		if err != nil && err != syscall.EINTR {
			return err
		}
		if n <= 0 {
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		if err := m.start(); err != nil {
			return fmt.Errorf("run %d of the service: %w", m.exits.Load(), err)
		}
		m.exits.Add(1)
	}
}

// start runs the service until it exits.
func (m *standIn) start() error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "IDLE_TEST_SERVER="+m.kind, "IDLE_TEST_COUNT="+m.count,
		"LISTEN_FDS="+strconv.Itoa(len(m.sockets)),
		"NOTIFY_SOCKET="+m.notify,
		"GORACE=atexit_sleep_ms=0") // the race detector sleeps a second at exit otherwise
	cmd.ExtraFiles = m.sockets
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// listen opens the sockets of the stand-in: where clients find them, and themselves.
func listen(t *testing.T) ([]net.Addr, []*os.File) {
	t.Helper()
	var addrs []net.Addr
	var files []*os.File
	for _, where := range [][2]string{{"tcp", "127.0.0.1:0"}, {"tcp", "127.0.0.1:0"}, {"unix", filepath.Join(t.TempDir(), "s")}} {
		l, err := net.Listen(where[0], where[1])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		addrs, files = append(addrs, l.Addr()), append(files, f)
	}
	return addrs, files
}

// visit makes one request on a connection of its own and returns its number.
func visit(a net.Addr) (uint64, error) {
	c, err := net.DialTimeout(a.Network(), a.String(), 30*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: visitor\r\n\r\n"); err != nil {
		return 0, err
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return 0, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0) // all has been said; no port is kept
	}
	_, body, ok := strings.Cut(string(answer), "\r\n\r\n")
	if !ok {
		return 0, fmt.Errorf("an answer of %d bytes: %w", len(answer), io.ErrUnexpectedEOF)
	}
	return strconv.ParseUint(body, 10, 64)
}

// crowd is a number of clients who come together, in rounds.
type crowd struct {
	addrs   []net.Addr
	clients int
	each    int // requests of a client in a round

	mu   sync.Mutex
	seen map[uint64]int
	lost []error
}

// round has every client make its requests after a pause, some a little earlier
// than others.
func (c *crowd) round(pause time.Duration) {
	var all sync.WaitGroup
	began := time.Now()
	for i := range c.clients {
		all.Go(func() {
			time.Sleep(time.Until(began.Add(pause + rand.N(200*time.Microsecond))))
			for j := range c.each {
				c.note(visit(c.addrs[(i+j)%len(c.addrs)]))
			}
		})
	}
	all.Wait()
}

func (c *crowd) note(n uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.lost = append(c.lost, err)
		return
	}
	c.seen[n]++
}

func (c *crowd) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen) + len(c.lost)
}

// Clients come just when the server is about to exit, and none is lost: not one
// request fails, and each number from 1 on is handed out exactly once. Where CI is
// set it is the full proof.
func TestNobodyIsLost(t *testing.T) {
	requests, exits := 1000, 20
	if os.Getenv("CI") != "" {
		if raced {
			proveWithoutDetector(t)
			return
		}
		requests, exits = 55_000, 270
	}
	for _, kind := range []string{"http", "conns"} {
		t.Run(kind, func(t *testing.T) { prove(t, kind, requests, exits) })
	}
}

// proveWithoutDetector runs the full proof in a binary without the race detector,
// which makes processes start so slowly that few would exit.
func proveWithoutDetector(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run", "^TestNobodyIsLost$", ".").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

func prove(t *testing.T, kind string, requests, exits int) {
	addrs, files := listen(t)
	m := &standIn{kind: kind, count: filepath.Join(t.TempDir(), "count"), sockets: files}
	ctx, stop := context.WithCancel(context.Background())
	managed := make(chan error, 1)
	go func() { managed <- m.run(ctx) }()

	const clients = 12
	c := &crowd{addrs: addrs, clients: clients, each: max(1, requests/exits/clients), seen: map[uint64]int{}}
	began := time.Now()
	// The pause finds the deadline by itself: longer after a round that came too
	// early for an exit, shorter after one that came too late.
	pause := proofTimeout
	for c.requests() < requests || m.exits.Load() < int64(exits) {
		before := m.exits.Load()
		c.round(pause)
		if m.exits.Load() == before {
			pause += 200 * time.Microsecond
		} else {
			pause -= 100 * time.Microsecond
		}
		if len(c.lost) > 0 || time.Since(began) > 3*time.Minute {
			t.Errorf("after %v:", time.Since(began))
			break
		}
	}
	stop()
	if err := <-managed; err != nil {
		t.Error(err)
	}
	t.Logf("%d requests over %d exits in %v", c.requests(), m.exits.Load(), time.Since(began).Round(time.Millisecond))
	c.check(t)
}

func (c *crowd) check(t *testing.T) {
	t.Helper()
	for i, err := range c.lost {
		if i == 10 {
			t.Errorf("and %d more", len(c.lost)-i)
			break
		}
		t.Errorf("lost: %v", err)
	}
	for n := uint64(1); n <= uint64(len(c.seen)); n++ {
		if c.seen[n] != 1 {
			t.Errorf("number %d was handed out %d times", n, c.seen[n])
		}
	}
}
