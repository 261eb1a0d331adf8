//go:build vm

package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// console is a command at a terminal of its own, to answer its prompts.
type console struct {
	t    testing.TB
	cmd  *exec.Cmd
	term *os.File
	done chan struct{} // closed when the command has ended and all output is read

	mu   sync.Mutex
	text string // all that was printed
	seen int    // up to where expect has matched
}

// startConsole starts a command with a new terminal as its controlling one.
// The test's end kills it when it still runs.
func startConsole(t testing.TB, argv ...string) *console {
	t.Helper()
	term, side, err := openTerminal()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = side, side, side
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	side.Close()
	c := &console{t: t, cmd: cmd, term: term, done: make(chan struct{})}
	go c.read()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-c.done
		term.Close()
	})
	return c
}

// openTerminal makes a pseudo terminal and returns our end and the command's.
func openTerminal() (ours, theirs *os.File, err error) {
	ours, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(err, ours.Close())
	}
	return ours, theirs, nil
}

// read collects the output; a terminal whose other end is closed reads as an error.
func (c *console) read() {
	buf := make([]byte, 4096)
	for {
		n, err := c.term.Read(buf)
		c.mu.Lock()
		c.text += string(buf[:n])
		c.mu.Unlock()
		if err != nil {
			break
		}
	}
	_ = c.cmd.Wait()
	close(c.done)
}

// expect waits until the command has printed want after what the last expect
// found, and returns all that it printed so far.
func (c *console) expect(want string) string {
	c.t.Helper()
	for end := time.Now().Add(bound); ; time.Sleep(20 * time.Millisecond) {
		ended := c.ended()
		c.mu.Lock()
		text := c.text
		at := strings.Index(text[c.seen:], want)
		if at >= 0 {
			c.seen += at + len(want)
		}
		c.mu.Unlock()
		switch {
		case at >= 0:
			return text
		case ended:
			c.t.Fatalf("%v ended and never printed %q, but:\n%s", c.cmd.Args, want, text)
		case time.Now().After(end):
			c.t.Fatalf("%v did not print %q in %v, but:\n%s", c.cmd.Args, want, bound, text)
		}
	}
}

// ended tells whether the command is over and all its output read.
func (c *console) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// send types text; end it with "\n" for the Enter key.
func (c *console) send(text string) {
	c.t.Helper()
	if _, err := c.term.WriteString(text); err != nil {
		c.t.Fatal(err)
	}
}

// wait waits for the command's end and returns its exit code and all output.
func (c *console) wait() (code int, text string) {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(bound):
		c.t.Fatalf("%v not done after %v, printed:\n%s", c.cmd.Args, bound, c.text)
	}
	return c.cmd.ProcessState.ExitCode(), c.text
}
