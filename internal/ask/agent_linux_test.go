package ask

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// agentDirectory returns one that is not there yet, with a short path, as the
// name of a socket has little room.
func agentDirectory(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("", "ask")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, _ := filepath.Glob(filepath.Join(parent, "ask-password", "*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		_ = os.RemoveAll(parent)
	})
	return filepath.Join(parent, "ask-password")
}

// question is what an agent reads.
type question map[string]string

// nextQuestion waits for a question that is not in seen, and adds it there.
func nextQuestion(t *testing.T, directory string, seen map[string]bool) question {
	t.Helper()
	limit := time.After(patience)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		files, _ := filepath.Glob(filepath.Join(directory, "ask.*"))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil || seen[file] {
				continue
			}
			seen[file] = true
			q := question{"": file}
			for line := range strings.Lines(string(text)) {
				if name, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "="); found {
					q[name] = value
				}
			}
			return q
		}
		select {
		case <-look.C:
		case <-limit:
			t.Fatal("no question")
		}
	}
}

// reply sends a datagram, as another user where control says so.
func (q question) reply(t *testing.T, datagram string, control []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Sendmsg(fd, []byte(datagram), control, &unix.SockaddrUnix{Name: q["Socket"]}, 0); err != nil {
		t.Fatal(err)
	}
}

func TestAgents(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reply string
		want  []string
	}{
		"one":       {"+swordfish\x00", []string{"swordfish"}},
		"several":   {"+one\x00two", []string{"one", "two"}},
		"empty":     {"+", []string{""}},
		"cancelled": {"-", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory := agentDirectory(t)
			told := make(chan string, 1)
			done := asking(t.Context(), Config{Agents: directory, Waiting: func(q string) { told <- q }}, volume.Question{
				Message: "Please enter\nit", ID: "cryptsetup:/dev/sda2", Timeout: time.Hour, Echo: volume.EchoNone, Attempt: 1, Cache: "k",
			})
			q := nextQuestion(t, directory, map[string]bool{})
			checkQuestion(t, directory, q)
			if message := <-told; message != "Please enter\nit" {
				t.Errorf("told of %q", message)
			}
			q.reply(t, test.reply, nil)
			o := wait(t, done)
			if test.want == nil {
				if !errors.Is(o.err, volume.ErrNoAnswer) || errors.Is(o.err, context.Canceled) {
					t.Errorf("got %v", o.err)
				}
				return
			}
			if diff := cmp.Diff(test.want, answers(o.answer)); o.err != nil || diff != "" || o.answer.From != volume.FromPerson {
				t.Errorf("%v, -want +got:\n%s", o.err, diff)
			}
		})
	}
}

// checkQuestion holds the files against the specification of password agents.
func checkQuestion(t *testing.T, directory string, q question) {
	t.Helper()
	for name, want := range map[string]string{
		"PID": fmt.Sprint(os.Getpid()), "AcceptCached": "0", "Echo": "0", "Silent": "1",
		"Message": "Please enter?it:", "Icon": "drive-harddisk", "Id": "cryptsetup:/dev/sda2",
	} {
		if q[name] != want {
			t.Errorf("%s=%q, want %q", name, q[name], want)
		}
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	var end int64
	if _, err := fmt.Sscan(q["NotAfter"], &end); err != nil {
		t.Errorf("NotAfter=%q", q["NotAfter"])
	}
	if left := time.Duration(end)*time.Microsecond - time.Duration(now.Nano()); left > time.Hour || left < time.Hour-patience {
		t.Errorf("question ends in %v, want an hour", left)
	}
	var stat unix.Stat_t
	for path, want := range map[string]uint32{q["Socket"]: unix.S_IFSOCK | 0o600, q[""]: unix.S_IFREG | 0o644, directory: unix.S_IFDIR | 0o755} {
		if err := unix.Stat(path, &stat); err != nil || stat.Mode != want {
			t.Errorf("%s has mode %o, want %o, %v", path, stat.Mode, want, err)
		}
	}
	if !strings.HasPrefix(q["Socket"], directory+"/sck.") {
		t.Errorf("Socket=%q", q["Socket"])
	}
}

// TestAgentNoise sends what must be passed over before the answer.
func TestAgentNoise(t *testing.T) {
	t.Parallel()
	directory := agentDirectory(t)
	done := asking(t.Context(), Config{Agents: directory}, volume.Question{Message: "m"})
	q := nextQuestion(t, directory, map[string]bool{})
	if q["NotAfter"] != "0" || q["AcceptCached"] != "0" || q["Silent"] != "0" {
		t.Errorf("question %v", q)
	}
	q.reply(t, "", nil)
	q.reply(t, "what?", nil)
	q.reply(t, "+"+strings.Repeat("x", maxReply), nil)
	q.reply(t, "+"+manyAnswers(maxAnswers+1), nil)
	if os.Getuid() == 0 {
		// The kernel lets root speak for others, as it says who speaks.
		q.reply(t, "+forged", unix.UnixCredentials(&unix.Ucred{Pid: int32(os.Getpid()), Uid: 12345, Gid: 12345}))
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	q.reply(t, "?", unix.UnixRights(int(writer.Fd())))
	_ = writer.Close()
	q.reply(t, "+answer", nil)
	if o := wait(t, done); o.err != nil || answers(o.answer)[0] != "answer" {
		t.Errorf("got %v", o.err)
	}
	if err := reader.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a file that was sent along is still open: %v", err)
	}
}

func TestAgentEnds(t *testing.T) {
	t.Parallel()
	directory := agentDirectory(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := asking(ctx, Config{Agents: directory}, volume.Question{Message: "m"})
	nextQuestion(t, directory, map[string]bool{})
	cancel()
	if o := wait(t, done); !errors.Is(o.err, context.Canceled) {
		t.Errorf("got %v", o.err)
	}
	done = asking(t.Context(), Config{Agents: directory}, volume.Question{Message: "m", Timeout: 50 * time.Millisecond})
	if o := wait(t, done); !errors.Is(o.err, volume.ErrNoAnswer) || errors.Is(o.err, context.DeadlineExceeded) {
		t.Errorf("got %v", o.err)
	}
}

func TestAgentConfirm(t *testing.T) {
	t.Parallel()
	directory := agentDirectory(t)
	done := asking(t.Context(), Config{Agents: directory}, volume.Question{Message: "New", Confirm: "Again", ID: "cryptsetup:x"})
	seen := map[string]bool{}
	for _, step := range []struct{ message, id, reply string }{
		{"New:", "cryptsetup:x", "+one"},
		{"Again:", "cryptsetup-verification:x", "+two"},
		{"The two answers differ, please try again. New:", "cryptsetup:x", "+three\x00more"},
		{"Again:", "cryptsetup-verification:x", "+three"},
	} {
		q := nextQuestion(t, directory, seen)
		if q["Message"] != step.message || q["Id"] != step.id {
			t.Errorf("got %v, want %v", q, step)
		}
		q.reply(t, step.reply, nil)
	}
	o := wait(t, done)
	if diff := cmp.Diff([]string{"three"}, answers(o.answer)); o.err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", o.err, diff)
	}
}

// TestCacheWhileWaiting has another volume's prompt answered meanwhile.
func TestCacheWhileWaiting(t *testing.T) {
	t.Parallel()
	newCache := func() (Cache, func(string)) {
		var mu sync.Mutex
		values := map[string]string{}
		plain := cacheOf(values)
		locked := Cache{Get: func(name string) (*secret.Bytes, error) {
			mu.Lock()
			defer mu.Unlock()
			return plain.Get(name)
		}}
		return locked, func(value string) {
			mu.Lock()
			defer mu.Unlock()
			values["k"] = value
		}
	}
	touch := func(directory string) {
		now := time.Now()
		if err := os.Chtimes(directory, now, now); err != nil {
			t.Error(err)
		}
	}
	check := func(t *testing.T, o outcome) {
		t.Helper()
		if o.err != nil || o.answer.From != volume.FromCache || answers(o.answer)[0] != "typed elsewhere" {
			t.Errorf("from %v, %v", o.answer.From, o.err)
		}
	}
	t.Run("agents", func(t *testing.T) {
		t.Parallel()
		directory := agentDirectory(t)
		cache, put := newCache()
		done := asking(t.Context(), Config{Agents: directory, Cache: cache}, volume.Question{Message: "m", Cache: "k"})
		q := nextQuestion(t, directory, map[string]bool{})
		if q["AcceptCached"] != "1" {
			t.Errorf("question %v", q)
		}
		touch(directory) // in vain
		put("typed elsewhere")
		touch(directory)
		check(t, wait(t, done))
	})
	t.Run("terminal", func(t *testing.T) {
		t.Parallel()
		s := newScreen(t)
		directory := agentDirectory(t)
		if err := os.Mkdir(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		cache, put := newCache()
		c := s.config()
		c.Agents, c.Cache = directory, cache
		done := asking(t.Context(), c, volume.Question{Message: "Secret", Cache: "k"})
		s.expect(hinted, 1)
		s.press("half")
		s.expect("••••", 1)
		put("typed elsewhere")
		touch(directory)
		check(t, wait(t, done))
		s.mustBeRestored()
	})
}

// TestCacheAfterWaiting has the answer arrive while another prompt holds the
// terminal.
func TestCacheAfterWaiting(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	c := s.config()
	looked := 0
	c.Cache.Get = func(string) (*secret.Bytes, error) {
		if looked++; looked == 1 {
			return nil, errors.New("no such key")
		}
		return secret.From([]byte("typed elsewhere")), nil
	}
	o := wait(t, asking(t.Context(), c, volume.Question{Message: "Secret", Cache: "k"}))
	if o.err != nil || o.answer.From != volume.FromCache || answers(o.answer)[0] != "typed elsewhere" {
		t.Errorf("from %v, %v", o.answer.From, o.err)
	}
	if text := s.text(); text != "" {
		t.Errorf("a needless prompt: %q", text)
	}
	s.mustBeRestored()
}

// TestAgentsAbsent has nowhere to leave a question.
func TestAgentsAbsent(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, directory := range []string{"", filepath.Join(t.TempDir(), "none", "ask-password"), filepath.Join(file, "ask-password")} {
		_, err := New(Config{Agents: directory}).Ask(t.Context(), volume.Question{Message: "m"})
		if !errors.Is(err, volume.ErrNoAnswer) {
			t.Errorf("%q: %v", directory, err)
		}
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	_, err := New(Config{Agents: long}).Ask(t.Context(), volume.Question{Message: "m"})
	if err == nil || errors.Is(err, volume.ErrNoAnswer) || !strings.Contains(err.Error(), "password agents") {
		t.Errorf("a path too long for a socket: %v", err)
	}
}

// TestShareTouches wants those who wait to be told.
func TestShareTouches(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(directory, old, old); err != nil {
		t.Fatal(err)
	}
	answer := volume.Answer{Secrets: []*secret.Bytes{secret.From([]byte("x"))}}
	defer answer.Wipe()
	New(Config{Agents: directory, Cache: cacheOf(map[string]string{})}).share(volume.Question{Cache: "k"}, answer)
	info, err := os.Stat(directory)
	if err != nil || time.Since(info.ModTime()) > 30*time.Minute {
		t.Errorf("not touched: %v", err)
	}
}
