//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/term"
)

// connect joins this terminal with the shell of a kept machine until either
// side ends. Ctrl-] leaves.
func connect(ctx context.Context, socket string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		say("Enter shows the prompt, Ctrl-] leaves, `poweroff` ends the machine")
		old, err := term.MakeRaw(fd)
		if err != nil {
			return fmt.Errorf("making the terminal raw: %w", err)
		}
		defer func() { _ = term.Restore(fd, old) }()
	}
	done := make(chan error, 2)
	go func() { _, err := io.Copy(conn, untilEscape{os.Stdin}); done <- err }()
	go func() { _, err := io.Copy(os.Stdout, conn); done <- err }()
	select {
	case err = <-done:
	case <-ctx.Done():
	}
	return err
}

// untilEscape reads until Ctrl-].
type untilEscape struct{ r io.Reader }

func (u untilEscape) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	for i, b := range p[:n] {
		if b == 0x1d {
			return i, io.EOF
		}
	}
	return n, err
}
