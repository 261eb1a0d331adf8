//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// tailLines is how much of a log a failure prints; the whole is kept in a file.
const tailLines = 60

// follow copies the tests' output to standard output as it grows, until the
// machine is off. It calls cancel when the guest does not start the tests in time.
func (m *machine) follow(off <-chan struct{}, cancel context.CancelCauseFunc) {
	boot := time.Now()
	started, offered := false, false
	out, err := os.Open(m.share.output())
	if err != nil {
		cancel(err)
		return
	}
	defer out.Close()
	if _, err := out.Seek(m.printed, io.SeekStart); err != nil {
		cancel(err)
		return
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-off:
			running = false // one last copy below
		case <-tick.C:
		}
		n, err := io.Copy(os.Stdout, out)
		m.printed += n
		if err != nil {
			cancel(fmt.Errorf("printing the tests' output: %w", err))
			return
		}
		switch waited := time.Since(boot).Round(time.Second); {
		case !started && m.share.started():
			started = true
			say("up after %v, tests started", waited)
		case !started && waited > bootBound:
			cancel(fmt.Errorf("not up after %v", bootBound))
		case m.keep && !offered:
			offered = m.offerShell()
		}
	}
}

// offerShell says, once the tests are done, how to reach the kept machine.
func (m *machine) offerShell() bool {
	code, err := m.share.exitCode()
	if again, _ := m.share.again(); err != nil || len(again) > 0 {
		return false
	}
	say("the tests ended with exit code %d; the machine stays up until it powers off or Ctrl-C here", code)
	say("for a shell in it: go run ./test/vm/run -shell %s", m.shell())
	return true
}

// printTail prints the end of a log file.
func printTail(what, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		say("%s: %v", what, err)
		return
	}
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	if skip := len(lines) - tailLines; skip > 0 {
		lines = lines[skip:]
	}
	say("%s ends with:", what)
	for _, l := range lines {
		fmt.Fprintf(os.Stderr, "  | %s\n", bytes.TrimRight(l, "\r"))
	}
}
