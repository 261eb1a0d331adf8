package ask

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/volume"
)

// patience bounds every wait of the tests.
const patience = 20 * time.Second

// screen is a pseudo terminal with somebody in front of it.
type screen struct {
	t      *testing.T
	master *os.File
	node   string
	before unix.Termios

	mu    sync.Mutex
	seen  strings.Builder
	news  chan struct{}
	ended chan struct{}
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	master, keep := hangable(t)
	s := &screen{t: t, master: master, node: keep.Name(), news: make(chan struct{}, 1), ended: make(chan struct{})}
	mode := s.mode()
	mode.Iflag |= unix.IUTF8
	s.setMode(mode)
	s.before = mode
	go s.watch()
	t.Cleanup(func() {
		// The last slave ends the reader, and with it the master is free.
		_ = keep.Close()
		select {
		case <-s.ended:
		case <-time.After(patience):
			t.Error("somebody keeps the terminal open")
		}
		_ = master.Close()
	})
	return s
}

func (s *screen) open() *os.File {
	s.t.Helper()
	tty, err := os.OpenFile(s.node, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return tty
}

func (s *screen) mode() unix.Termios {
	s.t.Helper()
	tty := s.open()
	defer func() { _ = tty.Close() }()
	mode, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return *mode
}

func (s *screen) setMode(mode unix.Termios) {
	s.t.Helper()
	tty := s.open()
	defer func() { _ = tty.Close() }()
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, &mode); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) watch() {
	defer close(s.ended)
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(int(s.master.Fd()), buf)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		s.mu.Lock()
		s.seen.Write(buf[:n])
		s.mu.Unlock()
		select {
		case s.news <- struct{}{}:
		default:
		}
	}
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.seen.String(), "\r\n", "\n")
}

// expect waits until the text has been shown n times in all.
func (s *screen) expect(text string, n int) {
	s.t.Helper()
	limit := time.After(patience)
	for strings.Count(s.text(), text) < n {
		select {
		case <-s.news:
		case <-limit:
			s.t.Fatalf("never saw %q %d times in %q", text, n, s.text())
		}
	}
}

func (s *screen) press(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// mustBeRestored compares the terminal's mode with the one before.
func (s *screen) mustBeRestored() {
	s.t.Helper()
	if got := s.mode(); got != s.before {
		s.t.Errorf("terminal mode is %+v, was %+v", got, s.before)
	}
}

func (s *screen) config() Config {
	return Config{Terminal: func() (*os.File, error) { return s.open(), nil }}
}

type outcome struct {
	answer volume.Answer
	err    error
}

// asking asks in the background.
func asking(ctx context.Context, c Config, q volume.Question) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		answer, err := New(c).Ask(ctx, q)
		done <- outcome{answer, err}
	}()
	return done
}

func wait(t *testing.T, done <-chan outcome) outcome {
	t.Helper()
	select {
	case o := <-done:
		t.Cleanup(o.answer.Wipe)
		return o
	case <-time.After(patience):
		t.Fatal("no answer and no error")
		return outcome{}
	}
}

// answers returns what is in an answer, which it wipes.
func answers(a volume.Answer) []string {
	defer a.Wipe()
	var list []string
	for _, s := range a.Secrets {
		list = append(list, string(s.Reveal()))
	}
	return list
}
