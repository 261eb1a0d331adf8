package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

func ctx() context.Context { return context.Background() }

// typist runs a command at a terminal of its own and types there: typist
// [-1] [-2] [-0] DIALOGUE COMMAND…
//
// The steps of the dialogue are lines: "? REGEXP" waits until the terminal shows
// that, "TEXT" after "> " is typed with the enter key, "^C" is that key, and
// "! COMMAND…" is run meanwhile. What the terminal showed is left in the file
// tty. With -1 and -2 standard output and error are the terminal too, and with
// -0 standard input.
func typist() {
	terminal := map[string]bool{}
	args := os.Args[1:]
	for strings.HasPrefix(args[0], "-") {
		terminal[args[0]] = true
		args = args[1:]
	}
	steps, err := os.Open(args[0])
	mustWork(err)
	master, slave := openPTY()
	ctx, cancel := context.WithTimeout(ctx(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[1], args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if terminal["-0"] {
		cmd.Stdin = slave
	}
	if terminal["-1"] {
		cmd.Stdout = slave
	}
	if terminal["-2"] {
		cmd.Stderr = slave
	}
	cmd.ExtraFiles = []*os.File{slave}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	mustWork(cmd.Start())
	mustWork(slave.Close())
	s := newScreen(master)
	failed := s.play(ctx, bufio.NewScanner(steps))
	if failed != nil {
		_ = cmd.Process.Kill()
	}
	_ = cmd.Wait()
	<-s.ended
	mustWork(os.WriteFile("tty", []byte(printable(s.text)), 0o600))
	if failed != nil {
		fmt.Fprintf(os.Stderr, "%sthe dialogue went wrong: %v\n", printable(s.text), failed)
		os.Exit(98)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

func openPTY() (master, slave *os.File) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	mustWork(err)
	var number, unlock uint32
	for request, arg := range map[uintptr]*uint32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &unlock} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			mustWork(errno)
		}
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	mustWork(err)
	return master, slave
}

// A screen is what a terminal has shown.
type screen struct {
	master *os.File
	ended  chan struct{}
	mu     sync.Mutex
	text   []byte
	seen   int // bytes that earlier steps have waited for
	more   chan struct{}
}

func newScreen(master *os.File) *screen {
	s := &screen{master: master, ended: make(chan struct{}), more: make(chan struct{}, 1)}
	go func() {
		defer close(s.ended)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.text = append(s.text, buf[:n]...)
			s.mu.Unlock()
			select {
			case s.more <- struct{}{}:
			default:
			}
			if err != nil { // EIO: the last process has left the terminal
				return
			}
		}
	}()
	return s
}

func (s *screen) play(ctx context.Context, steps *bufio.Scanner) error {
	for steps.Scan() {
		line := steps.Text()
		kind, rest, _ := strings.Cut(line, " ")
		var err error
		switch kind {
		case "?":
			err = s.await(ctx, rest)
		case ">":
			_, err = s.master.WriteString(rest + "\r")
		case "!":
			var out []byte
			words := strings.Fields(rest)
			out, err = exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
			out = bytes.TrimSpace(out)
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
		default:
			if len(line) != 2 || line[0] != '^' {
				return fmt.Errorf("no such step: %q", line)
			}
			_, err = s.master.Write([]byte{line[1] - '@'})
		}
		if err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
	}
	return steps.Err()
}

func (s *screen) await(ctx context.Context, text string) error {
	pattern, err := regexp.Compile(text)
	if err != nil {
		return err
	}
	for ended := false; ; {
		s.mu.Lock()
		at := pattern.FindIndex(s.text[s.seen:])
		if at != nil {
			s.seen += at[1]
		}
		s.mu.Unlock()
		switch {
		case at != nil:
			return nil
		case ended:
			return fmt.Errorf("was never shown")
		case ctx.Err() != nil:
			return ctx.Err()
		}
		select {
		case <-s.more:
		case <-s.ended:
			ended = true
		case <-ctx.Done():
		}
	}
}
