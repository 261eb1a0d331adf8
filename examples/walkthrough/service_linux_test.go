package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// tree is the image tree that the script builds, made once for all tests.
var tree = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "walkthrough-")
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "tree")
	out, err := exec.Command("./build", dir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	code := m.Run()
	if dir, err := tree(); err == nil {
		os.RemoveAll(filepath.Dir(dir))
	}
	os.Exit(code)
}

func mustTree(t *testing.T) string {
	t.Helper()
	dir, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// service is the program from the tree and the socket that it is started for.
type service struct {
	t       *testing.T
	program string
	state   string
	socket  net.Listener
	file    *os.File
}

func newService(t *testing.T, state string) *service {
	t.Helper()
	s := &service{t: t, program: filepath.Join(mustTree(t), "usr/bin/walkthrough-go"), state: state}
	var err error
	if s.socket, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.socket.Close() })
	if s.file, err = s.socket.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.file.Close() })
	return s
}

// start starts the service as a manager does, with what the unit sets. A shell
// knows the process ID that the program will have.
func (s *service) start(args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, s.program}, args...)...)
	cmd.Env = []string{"LISTEN_FDS=1", "STATE_DIRECTORY=" + s.state, "GOMAXPROCS=1"}
	cmd.ExtraFiles = []*os.File{s.file}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cmd.Process.Kill() })
	return cmd
}

// visit is one visitor, who waits for an answer as long as it takes.
func (s *service) visit() (uint64, error) {
	c, err := net.Dial("tcp", s.socket.Addr().String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %q, %w", r.Status, b, err)
	}
	var n uint64
	_, err = fmt.Sscanf(string(b), "Hello! You are visitor #%d!\n", &n)
	return n, err
}

func (s *service) mustVisit(want uint64) {
	s.t.Helper()
	if n, err := s.visit(); n != want || err != nil {
		s.t.Errorf("visitor %d, %v, not %d", n, err, want)
	}
}

// The story: asked twice, gone when idle, back with the next visitor, who came while
// nobody was there.
func TestComesAndGoes(t *testing.T) {
	t.Parallel()
	s := newService(t, t.TempDir())
	for n := uint64(1); n < 7; n += 2 {
		cmd := s.start("--idle-timeout=50ms")
		s.mustVisit(n)
		s.mustVisit(n + 1)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("exit on idle: %v", err)
		}
	}
	early := make(chan uint64)
	go func() {
		n, err := s.visit()
		if err != nil {
			t.Error(err)
		}
		early <- n
	}()
	cmd := s.start("--idle-timeout=50ms")
	if n := <-early; n != 7 {
		t.Errorf("visitor %d, not 7", n)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// However often it is killed, the count never goes back and no number comes twice.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newService(t, t.TempDir())
	rounds := 40
	if os.Getenv("CI") != "" {
		rounds = 300
	}
	var over atomic.Bool
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			last := uint64(0)
			for !over.Load() {
				n, err := s.visit()
				if err != nil {
					continue // it was killed during this visit
				}
				mu.Lock()
				if n <= last || seen[n] {
					t.Errorf("visitor %d after %d, seen before: %v", n, last, seen[n])
				}
				seen[n] = true
				mu.Unlock()
				last = n
			}
		})
	}
	for range rounds {
		cmd := s.start("--idle-timeout=0")
		time.Sleep(rand.N(30 * time.Millisecond)) // at any moment, also while it starts
		cmd.Process.Kill()
		cmd.Wait()
	}
	over.Store(true)
	cmd := s.start("--idle-timeout=50ms") // for those who wait in the queue
	all.Wait()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	last := uint64(0)
	for n := range seen {
		last = max(last, n)
	}
	c := mustOpen(t, filepath.Join(s.state, "visitors"))
	defer c.close()
	if n, err := c.next(); n <= last || err != nil {
		t.Errorf("visitor %d, %v after %d", n, err, last)
	}
	t.Logf("%d visitors, up to number %d, over %d deaths", len(seen), last, rounds)
	if len(seen) < rounds {
		t.Error("too few visitors to prove anything")
	}
}

// On a full disk it goes on counting; a count that can't be begun is refused and
// begins when there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("lockport-test", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mounting a small disk needs root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	fill := func() {
		err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling the disk: %v", err)
		}
	}
	path := filepath.Join(dir, "visitors")
	fill()
	if _, err := openCounter(path); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a new count on a full disk: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("half a count was left")
	}
	os.Remove(filepath.Join(dir, "filler"))
	c := mustOpen(t, path)
	mustNext(t, c, 1)
	fill()
	mustNext(t, c, 2)
	mustNext(t, c, 3)
	c.close()
	c = mustOpen(t, path)
	mustNext(t, c, 4)
	c.close()
}

// At SIGTERM whoever has been let in is still served, where there are threads for
// that. How many there may be is shown in a mount namespace of the service's own.
func TestStopped(t *testing.T) {
	t.Parallel()
	groups := t.TempDir()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, group, _ := strings.Cut("\n"+string(own), "\n0::/")
	group, _, _ = strings.Cut(group, "\n")
	if err := os.MkdirAll(filepath.Join(groups, group), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(groups, group, "pids.max"), []byte("100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newService(t, t.TempDir())
	cmd := exec.Command("/bin/sh", "-c", `mount --bind "$1" /sys/fs/cgroup && LISTEN_PID=$$ exec "$0"`, s.program, groups)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LISTEN_FDS=1", "STATE_DIRECTORY=" + s.state, "GOMAXPROCS=1"}
	cmd.ExtraFiles = []*os.File{s.file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		t.Skipf("a mount namespace needs root: %v", err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	s.mustVisit(1)
	c, err := net.Dial("tcp", s.socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.mustVisit(2) // c came before, so it has been let in too
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if b, err := io.ReadAll(c); !strings.HasSuffix(string(b), "visitor #3!\n") || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// The profile "strict" allows four tasks.
func TestFourThreads(t *testing.T) {
	s := newService(t, t.TempDir())
	// What a thread starts has its timer slack, as with TimerSlackNSec=100ms.
	const setTimerSlack, slack = 29, 100_000_000
	runtime.LockOSThread()
	syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, slack, 0)
	cmd := s.start("--idle-timeout=1s")
	syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 0, 0) // back to the default
	runtime.UnlockOSThread()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 60 {
				if _, err := s.visit(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	// A Go program's threads stay, so these are the most it has had.
	status, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nThreads:")
	line, _, _ := strings.Cut(rest, "\n")
	if n, err := strconv.Atoi(strings.TrimSpace(line)); n < 1 || n > 4 || err != nil {
		t.Errorf("%q threads, %v", line, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
}

func TestWithoutManager(t *testing.T) {
	t.Parallel()
	program := filepath.Join(mustTree(t), "usr/bin/walkthrough-go")
	for _, c := range []struct {
		env  []string
		args []string
		want string // "" if it serves, and exits
	}{
		{nil, []string{"--listen=127.0.0.1:0"}, "$STATE_DIRECTORY"},
		{[]string{"STATE_DIRECTORY=" + t.TempDir()}, nil, "--listen=ADDR"},
		{[]string{"STATE_DIRECTORY=/nonexistent"}, []string{"--listen=127.0.0.1:0"}, "making the counter"},
		{[]string{"STATE_DIRECTORY=" + t.TempDir()}, []string{"--listen=127.0.0.1:x"}, "unknown port"},
		{[]string{"STATE_DIRECTORY=" + t.TempDir() + ":/other"}, []string{"--listen=127.0.0.1:0", "--idle-timeout=1ms"}, ""},
	} {
		cmd := exec.CommandContext(t.Context(), program, c.args...)
		cmd.Env = append(c.env, "LISTEN_PID=1", "LISTEN_FDS=1") // someone else's
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) {
			t.Errorf("%v %v: %v: %q, not %q", c.env, c.args, err, out, c.want)
		}
	}
}

// The tree has what a read-only image needs, and the program needs no library.
func TestTree(t *testing.T) {
	t.Parallel()
	dir := mustTree(t)
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "var/tmp", "var/lib/walkthrough-go"} {
		if s, err := os.Stat(filepath.Join(dir, d)); err != nil || !s.IsDir() {
			t.Errorf("%s: %v", d, err)
		}
	}
	for _, f := range []string{"etc/machine-id", "etc/resolv.conf"} {
		if s, err := os.Lstat(filepath.Join(dir, f)); err != nil || !s.Mode().IsRegular() || s.Size() != 0 {
			t.Errorf("%s: %v", f, err)
		}
	}
	program, err := os.ReadFile(filepath.Join(dir, "usr/bin/walkthrough-go"))
	if err != nil || bytes.Contains(program, []byte("ld-linux")) {
		t.Errorf("the program is not static, or not there: %v", err)
	}
}

// systemd finds nothing wrong with the units.
func TestUnits(t *testing.T) {
	t.Parallel()
	const hosts = "/usr/lib/systemd/system" // sysinit.target and the like
	analyze, err := exec.LookPath("systemd-analyze")
	if err == nil {
		_, err = os.Stat(hosts)
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	root := t.TempDir()
	for _, from := range []string{mustTree(t), hosts} {
		to := root
		if from == hosts {
			to = filepath.Join(root, hosts)
		}
		if out, err := exec.CommandContext(t.Context(), "cp", "-rT", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", "--root="+root, "walkthrough-go.socket", "walkthrough-go.service")
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "walkthrough") {
		t.Errorf("%v: %s", err, out)
	}
}
