package ask

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

const hinted = "Secret: " + hintSilent

// shown is what stands on the screen behind the prompt once the hint is gone.
func shown(text string) string {
	return hinted + strings.Repeat("\b \b", len(hintSilent)) + text + "\n"
}

func TestTyping(t *testing.T) {
	t.Parallel()
	rub := "\b \b"
	tests := map[string]struct {
		keys, answer, screen string
		echo                 volume.Echo
	}{
		"plain word":          {keys: "abc\r", answer: "abc", screen: shown("•••")},
		"empty":               {keys: "\n", answer: "", screen: shown("")},
		"utf-8":               {keys: "aß€\n", answer: "aß€", screen: shown("•••")},
		"broken utf-8":        {keys: "\xe2\x82a\xff\n", answer: "\xe2\x82a\xff", screen: shown("••••")},
		"backspace":           {keys: "ab\x7fc\n", answer: "ac", screen: shown("••" + rub + "•")},
		"backspace, utf-8":    {keys: "a€\b\x7fb\n", answer: "b", screen: shown("••" + rub + rub + "•")},
		"backspace, half":     {keys: "a\xe2\x82\x7fb\n", answer: "ab", screen: shown("••")},
		"backspace, too many": {keys: "a\x7f\x7fb\n", answer: "b", screen: shown("•" + rub + bell + "•")},
		"backspace first":     {keys: "\x7fabc\x7f\n", answer: "ab", screen: shown(saySilent)},
		"ctrl-u":              {keys: "abc\x15de\n", answer: "de", screen: shown("•••" + rub + rub + rub + "••")},
		"ctrl-w":              {keys: "ab cd \x17e\n", answer: "ab e", screen: shown("••••••" + rub + rub + rub + "•")},
		"tab":                 {keys: "ab\tc\n", answer: "abc", screen: shown("••" + rub + rub + saySilent)},
		"tab in silence":      {keys: "\tc\t\n", answer: "c\t", screen: shown(saySilent)},
		"escape sequence":     {keys: "\x1b[A\n", answer: "\x1b[A", screen: shown("•••")},
		"no echo":             {keys: "ab\x7fc\x15d\x7f\x7fe\n", answer: "e", echo: volume.EchoNone, screen: "Secret: " + bell + "\n"},
		"echo":                {keys: "aß\x1b\x7f\n", answer: "aß", echo: volume.EchoPlain, screen: "Secret: aß?" + rub + "\n"},
		"longest":             {keys: strings.Repeat("x", maxTyped) + "\n", answer: strings.Repeat("x", maxTyped), screen: shown(strings.Repeat("•", maxTyped))},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScreen(t)
			done := asking(t.Context(), s.config(), volume.Question{Message: "Secret", Echo: test.echo})
			s.expect("Secret: ", 1)
			s.press(test.keys)
			o := wait(t, done)
			if o.err != nil {
				t.Fatal(o.err)
			}
			if diff := cmp.Diff([]string{test.answer}, answers(o.answer)); diff != "" || o.answer.From != volume.FromPerson {
				t.Errorf("from %v, -want +got:\n%s", o.answer.From, diff)
			}
			s.expect("\n", 1)
			if diff := cmp.Diff(test.screen, s.text()); diff != "" {
				t.Errorf("screen: -want +got:\n%s", diff)
			}
			s.mustBeRestored()
		})
	}
}

func TestNotTyping(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		keys string
		want error
	}{
		"ctrl-c":           {"ab\x03", context.Canceled},
		"ctrl-backslash":   {"\x1c", context.Canceled},
		"ctrl-d":           {"\x04", volume.ErrNoAnswer},
		"ctrl-d after all": {"ab\x04", volume.ErrNoAnswer},
		"too long":         {strings.Repeat("x", maxTyped+1) + "\n", secret.ErrTooLong},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScreen(t)
			done := asking(t.Context(), s.config(), volume.Question{Message: "Secret:"})
			s.expect(hinted, 1)
			s.press(test.keys)
			if o := wait(t, done); !errors.Is(o.err, test.want) || o.answer.Secrets != nil {
				t.Errorf("got %v, want %v", o.err, test.want)
			}
			s.expect("\n", 1)
			s.mustBeRestored()
		})
	}
}

// TestTooLongThenErased has a person who notices in time.
func TestTooLongThenErased(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	done := asking(t.Context(), s.config(), volume.Question{Message: "Secret"})
	s.expect(hinted, 1)
	s.press(strings.Repeat("x", maxTyped+1))
	s.expect(bell, 1)
	s.press("\x15ok\n")
	if o := wait(t, done); o.err != nil || answers(o.answer)[0] != "ok" {
		t.Errorf("got %v", o.err)
	}
}

func TestPromptEnds(t *testing.T) {
	t.Parallel()
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		s := newScreen(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := asking(ctx, s.config(), volume.Question{Message: "Secret", Timeout: time.Hour})
		s.expect(hinted, 1)
		s.press("half")
		s.expect("••••", 1)
		cancel()
		if o := wait(t, done); !errors.Is(o.err, context.Canceled) || errors.Is(o.err, volume.ErrNoAnswer) {
			t.Errorf("got %v", o.err)
		}
		s.mustBeRestored()
	})
	t.Run("timed out", func(t *testing.T) {
		t.Parallel()
		s := newScreen(t)
		done := asking(t.Context(), s.config(), volume.Question{Message: "Secret", Timeout: 50 * time.Millisecond})
		o := wait(t, done)
		if !errors.Is(o.err, volume.ErrNoAnswer) || !strings.Contains(o.err.Error(), "50ms") {
			t.Errorf("got %v", o.err)
		}
		s.mustBeRestored()
	})
	t.Run("hung up", func(t *testing.T) {
		t.Parallel()
		master, tty := hangable(t)
		opened := make(chan struct{})
		done := asking(t.Context(), Config{Terminal: func() (*os.File, error) {
			defer close(opened)
			return tty, nil
		}}, volume.Question{Message: "Secret"})
		<-opened
		_ = master.Close()
		if o := wait(t, done); !errors.Is(o.err, volume.ErrNoAnswer) {
			t.Errorf("got %v", o.err)
		}
	})
}

// hangable returns both ends of a pseudo terminal.
func hangable(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, tty
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	q := volume.Question{Message: "New", Confirm: "Again"}
	t.Run("alike", func(t *testing.T) {
		t.Parallel()
		s := newScreen(t)
		done := asking(t.Context(), s.config(), q)
		s.expect("New: ", 1)
		// Both at once, as a script would: the second is not dropped.
		s.press("one\none\n")
		if o := wait(t, done); o.err != nil || answers(o.answer)[0] != "one" {
			t.Errorf("got %v", o.err)
		}
		s.mustBeRestored()
	})
	t.Run("alike at last", func(t *testing.T) {
		t.Parallel()
		s := newScreen(t)
		done := asking(t.Context(), s.config(), q)
		s.expect("New: ", 1)
		s.press("one\ntwo\n")
		s.expect("differ, please try again.\nNew: ", 1)
		s.press("three\nthree\n")
		if o := wait(t, done); o.err != nil || answers(o.answer)[0] != "three" {
			t.Errorf("got %v", o.err)
		}
	})
	t.Run("never alike", func(t *testing.T) {
		t.Parallel()
		s := newScreen(t)
		done := asking(t.Context(), s.config(), q)
		for i := range rounds {
			s.expect("New: ", i+1)
			s.press("one\ntwo\n")
		}
		if o := wait(t, done); !errors.Is(o.err, volume.ErrNoAnswer) || !strings.Contains(o.err.Error(), "4 times") {
			t.Errorf("got %v", o.err)
		}
		if strings.Count(s.text(), "New: ") != rounds {
			t.Errorf("screen: %q", s.text())
		}
		s.mustBeRestored()
	})
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		s := newScreen(t)
		done := asking(t.Context(), s.config(), q)
		s.expect("New: ", 1)
		s.press("one\n\x03")
		if o := wait(t, done); !errors.Is(o.err, context.Canceled) {
			t.Errorf("got %v", o.err)
		}
		s.mustBeRestored()
	})
}

// TestTypedAhead types before there is a prompt.
func TestTypedAhead(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	s.press("early\n")
	s.expect("early", 1) // the terminal echoes it, so it has arrived
	done := asking(t.Context(), s.config(), volume.Question{Message: "Secret"})
	s.expect(hinted, 1)
	s.press("late\n")
	if o := wait(t, done); o.err != nil || answers(o.answer)[0] != "late" {
		t.Errorf("got %v", o.err)
	}
}

// TestPastedRest interrupts a paste: its rest must not reach a shell.
func TestPastedRest(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	tty := s.open()
	defer func() { _ = tty.Close() }()
	done := asking(t.Context(), s.config(), volume.Question{Message: "Secret"})
	s.expect(hinted, 1)
	s.press("\x03reboot\n")
	wait(t, done)
	if n, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCINQ); n != 0 || err != nil {
		t.Errorf("%d bytes are left, %v", n, err)
	}
}

func TestSuspend(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	c := s.config()
	stopped := make(chan struct{})
	goOn := make(chan struct{})
	c.Suspend = func() {
		stopped <- struct{}{}
		<-goOn
	}
	done := asking(t.Context(), c, volume.Question{Message: "Secret"})
	s.expect(hinted, 1)
	s.press("ab\x1a")
	<-stopped
	s.mustBeRestored()
	close(goOn)
	s.expect("Secret: ••", 1)
	s.press("c\n")
	if o := wait(t, done); o.err != nil || answers(o.answer)[0] != "abc" {
		t.Errorf("got %v", o.err)
	}
	s.mustBeRestored()
}

// TestWokenOnce has a process that is told to go on while it is away.
func TestWokenOnce(t *testing.T) {
	k, err := newWaker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	k.away(func() {
		arrived := make(chan os.Signal, 1)
		signal.Notify(arrived, unix.SIGCONT)
		defer signal.Stop(arrived)
		if err := unix.Kill(unix.Getpid(), unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		<-arrived
	})
	if ready, err := k.wait(t.Context()); ready != wokenUp || err != nil {
		t.Errorf("got %d, %v", ready, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	context.AfterFunc(ctx, k.poke)
	if ready, err := k.wait(ctx); err == nil {
		t.Errorf("woken twice: %d", ready)
	}
}

// TestStoppedFromOutside has a shell use the terminal while the process is
// stopped by a signal that it can't see coming.
func TestStoppedFromOutside(t *testing.T) {
	s := newScreen(t)
	done := asking(t.Context(), s.config(), volume.Question{Message: "Secret"})
	s.expect(hinted, 1)
	s.press("ab")
	s.expect("••", 1)
	s.setMode(s.before)
	if err := unix.Kill(unix.Getpid(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.expect("Secret: ••", 1)
	if mode := s.mode(); mode.Lflag&unix.ECHO != 0 {
		t.Error("the terminal shows what is typed")
	}
	s.press("c\n")
	if o := wait(t, done); o.err != nil || answers(o.answer)[0] != "abc" {
		t.Errorf("got %v", o.err)
	}
}

// TestOnePromptAtATime holds the lock of another prompt.
func TestOnePromptAtATime(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	tty := s.open()
	defer func() { _ = tty.Close() }()
	lock, err := lockTerminal(t.Context(), int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if lock == nil {
		t.Skip("the terminal's node is not here")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	if o := wait(t, asking(ctx, s.config(), volume.Question{Message: "Secret"})); !errors.Is(o.err, context.DeadlineExceeded) {
		t.Errorf("got %v", o.err)
	}
	if text := s.text(); text != "" {
		t.Errorf("prompts interleave: %q", text)
	}
	done := asking(t.Context(), s.config(), volume.Question{Message: "Secret"})
	_ = lock.Close()
	s.expect(hinted, 1)
	s.press("x\n")
	if o := wait(t, done); o.err != nil || answers(o.answer)[0] != "x" {
		t.Errorf("got %v", o.err)
	}
}

// TestHostileMessage has a disk whose name is an escape sequence.
func TestHostileMessage(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := asking(ctx, s.config(), volume.Question{Message: "Disk \x1b]0;evil\a\u009b2J\n\u202ex\xff"})
	s.expect(hintSilent, 1)
	cancel()
	wait(t, done)
	if want := "Disk ?]0;evil??2J??x\ufffd: " + hintSilent; !strings.HasPrefix(s.text(), want) {
		t.Errorf("screen: %q, want %q", s.text(), want)
	}
}

// TestAsciiTerminal has a terminal that does not claim UTF-8.
func TestAsciiTerminal(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	mode := s.before
	mode.Iflag &^= unix.IUTF8
	s.setMode(mode)
	done := asking(t.Context(), s.config(), volume.Question{Message: "Secret"})
	s.expect(hinted, 1)
	s.press("ab\n")
	o := wait(t, done)
	s.expect("**", 1)
	if o.err != nil || answers(o.answer)[0] != "ab" {
		t.Errorf("got %v", o.err)
	}
}

func TestOpenTerminal(t *testing.T) {
	t.Parallel()
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		_ = tty.Close()
		t.Skip("the tests have a terminal of their own")
	}
	s := newScreen(t)
	stdin := s.open()
	defer func() { _ = stdin.Close() }()
	tty, err := OpenTerminal(stdin)()
	if err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	if _, err := unix.IoctlGetTermios(int(stdin.Fd()), unix.TCGETS); err != nil {
		t.Errorf("stdin was closed: %v", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	for _, stdin := range []*os.File{nil, null} {
		if tty, err := OpenTerminal(stdin)(); err == nil {
			_ = tty.Close()
			t.Error("found a terminal where there is none")
		}
	}
}

// TestNoTerminal has files that are no terminals.
func TestNoTerminal(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() (*os.File, error){
		"none":     nil,
		"nil":      func() (*os.File, error) { return nil, nil },
		"error":    func() (*os.File, error) { return nil, unix.ENXIO },
		"dev null": func() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_RDWR, 0) },
	} {
		_, err := New(Config{Terminal: open}).Ask(t.Context(), volume.Question{Message: "Secret"})
		if !errors.Is(err, volume.ErrNoAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
