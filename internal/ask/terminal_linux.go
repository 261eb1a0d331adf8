package ask

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// OpenTerminal returns an opener of the terminal that controls this process or,
// without one, of stdin when that is a terminal, as on a serial console at boot.
func OpenTerminal(stdin *os.File) func() (*os.File, error) {
	return func() (*os.File, error) {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
		if err == nil || stdin == nil {
			return tty, err
		}
		if _, err := unix.IoctlGetTermios(int(stdin.Fd()), unix.TCGETS); err != nil {
			return nil, fmt.Errorf("standard input is no terminal: %w", err)
		}
		fd, err := unix.FcntlInt(stdin.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), stdin.Name()), nil
	}
}

// terminal prompts on a terminal that it holds alone.
type terminal struct {
	tty     *os.File
	lock    *os.File // nil when the terminal's own node could not be found
	saved   unix.Termios
	mark    string
	keys    keys
	echo    volume.Echo
	watch   *cacheWatch
	suspend func()
}

// openTerminal waits until no other prompt is on the terminal, and then puts it
// into the mode for typing secrets. What was typed before is dropped. The error
// is errNone when there is no terminal.
func (a *Asker) openTerminal(ctx context.Context, q volume.Question) (channel, error) {
	if a.config.Terminal == nil {
		return nil, errNone
	}
	tty, err := a.config.Terminal()
	if err != nil || tty == nil {
		return nil, errNone
	}
	t := &terminal{tty: tty, echo: q.Echo, suspend: a.config.Suspend}
	if t.suspend == nil {
		t.suspend = stopGroup
	}
	if t.lock, err = lockTerminal(ctx, int(tty.Fd())); err != nil {
		_ = tty.Close()
		return nil, err
	}
	if err := t.begin(); err != nil {
		t.release()
		return nil, errNone
	}
	t.watch = a.watchCache(q)
	return t, nil
}

// begin fails when the file is no terminal, or one that has hung up.
func (t *terminal) begin() error {
	saved, err := unix.IoctlGetTermios(int(t.tty.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.saved = *saved
	t.mark, t.keys = describe(saved)
	return t.setMode(unix.TCSETSF, typing(t.saved))
}

// describe returns the mark for hidden characters, a bullet when the terminal
// says that it takes UTF-8, and the control characters in force.
func describe(mode *unix.Termios) (mark string, k keys) {
	mark = "*"
	if mode.Iflag&unix.IUTF8 != 0 {
		mark = "•"
	}
	return mark, keys{
		interrupt: mode.Cc[unix.VINTR], quit: mode.Cc[unix.VQUIT], suspend: mode.Cc[unix.VSUSP], eof: mode.Cc[unix.VEOF],
		erase: mode.Cc[unix.VERASE], kill: mode.Cc[unix.VKILL], word: mode.Cc[unix.VWERASE],
	}
}

// typing returns mode changed so that every byte arrives as it is typed, unseen,
// and no key sends a signal: the prompt must undo this mode before it obeys one.
func typing(mode unix.Termios) unix.Termios {
	mode.Lflag &^= unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHONL | unix.ISIG | unix.IEXTEN
	mode.Iflag &^= unix.INLCR | unix.IGNCR
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	return mode
}

func (t *terminal) setMode(how uint, mode unix.Termios) error {
	for {
		err := unix.IoctlSetTermios(int(t.tty.Fd()), how, &mode)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// close gives the terminal back as it was.
func (t *terminal) close() {
	_ = t.setMode(unix.TCSETSW, t.saved)
	t.watch.close()
	t.release()
}

func (t *terminal) release() {
	_ = t.lock.Close()
	_ = t.tty.Close()
}

func (t *terminal) say(text string) { _, _ = t.tty.WriteString(clean(text) + "\n") }

// ask reads one line. Whatever ends it, the cursor is on a new line afterwards.
func (t *terminal) ask(ctx context.Context, message, _ string) (volume.Answer, error) {
	wake, err := newWaker(ctx)
	if err != nil {
		return volume.Answer{}, fmt.Errorf("reading from the terminal: %w", err)
	}
	defer wake.close()
	e := newEditor(t.tty, prompt(message), t.echo, t.mark, t.keys)
	defer func() { e.line.Wipe() }()
	answer, err := t.read(ctx, wake, e)
	_, _ = t.tty.WriteString("\n")
	if err != nil {
		// What follows, such as the rest of a pasted text, must not end up in
		// a shell.
		_ = t.setMode(unix.TCSETSF, typing(t.saved))
	}
	return answer, err
}

func (t *terminal) read(ctx context.Context, wake *waker, e *editor) (volume.Answer, error) {
	for {
		ready, err := wake.wait(ctx, int(t.tty.Fd()), t.watch.fd())
		switch {
		case err != nil:
			return volume.Answer{}, err
		case ready == wokenUp:
			t.resume(e)
			continue
		case ready == 1:
			if answer, found := t.watch.answer(); found {
				return answer, nil
			}
			continue
		}
		n, err := unix.Read(int(t.tty.Fd()), e.slot())
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n == 0 {
			return volume.Answer{}, fmt.Errorf("the terminal is gone: %w", volume.ErrNoAnswer)
		}
		if done, answer, err := t.act(e, wake); done {
			return answer, err
		}
	}
}

// act does what the byte that was read means.
func (t *terminal) act(e *editor, wake *waker) (done bool, answer volume.Answer, err error) {
	switch e.press() {
	case enter:
		line, err := e.finish()
		if err != nil {
			return true, volume.Answer{}, err
		}
		return true, volume.Answer{Secrets: []*secret.Bytes{line}, From: volume.FromPerson}, nil
	case giveUp:
		return true, volume.Answer{}, fmt.Errorf("the prompt was skipped: %w", volume.ErrNoAnswer)
	case interrupt:
		return true, volume.Answer{}, fmt.Errorf("the prompt was interrupted: %w", context.Canceled)
	case suspend:
		_ = t.setMode(unix.TCSETSW, t.saved)
		_, _ = t.tty.WriteString("\n")
		wake.away(t.suspend)
	}
	return false, volume.Answer{}, nil
}

// resume goes on after the process was stopped: a shell has used the terminal
// meanwhile.
func (t *terminal) resume(e *editor) {
	_ = t.setMode(unix.TCSETSW, typing(t.saved))
	_, _ = t.tty.WriteString("\n")
	e.draw()
}

// stopGroup does what the terminal does when its suspend key is pressed.
func stopGroup() {
	resumed := make(chan os.Signal, 1)
	signal.Notify(resumed, unix.SIGCONT)
	defer signal.Stop(resumed)
	if unix.Kill(0, unix.SIGTSTP) != nil {
		return
	}
	// The signal may take a moment to stop us, and does not where nobody could
	// start us again.
	select {
	case <-resumed:
	case <-time.After(time.Second):
	}
}
