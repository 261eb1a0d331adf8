package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Dial starts a module and returns the pipe to it. Closing it ends the module, also
// while somebody reads or writes; it may be called only once.
type Dial func(ctx context.Context, m Module) (io.ReadWriteCloser, error)

// Remote returns what starts modules with `p11-kit remote`, which is looked for in
// PATH, in an environment of its own: what modules may know of ours is for the
// caller to say. The error wraps [ErrNoP11Kit] where there is none.
func Remote(environment []string) (Dial, error) {
	program, err := exec.LookPath("p11-kit")
	if errors.Is(err, exec.ErrNotFound) {
		return nil, ErrNoP11Kit
	}
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, m Module) (io.ReadWriteCloser, error) {
		return startChild(program, m.Path, environment)
	}, nil
}

// A child is a process that we talk to through its standard input and output.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	stderr *complaint
}

// maxComplaint is how much of what a child complains about is kept, in bytes.
const maxComplaint = 1024

// A complaint keeps the beginning of what is written to it.
type complaint struct {
	mu   sync.Mutex
	text []byte
}

func (c *complaint) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, b[:min(len(b), maxComplaint-len(c.text))]...)
	return len(b), nil
}

// line is the first line, made safe to print.
func (c *complaint) line() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	line, _, _ := strings.Cut(strings.TrimSpace(string(c.text)), "\n")
	return printable(strings.TrimPrefix(line, "p11-kit: "))
}

func startChild(program, module string, environment []string) (*child, error) {
	c := &child{cmd: exec.Command(program, "remote", module), stderr: &complaint{}}
	c.cmd.Env = append([]string{}, environment...) // nil would be all of ours
	c.cmd.Stderr = c.stderr
	c.cmd.WaitDelay = time.Second // for whoever else holds its output open
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, errors.Join(err, c.in.Close())
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting p11-kit: %w", err)
	}
	return c, nil
}

// Read reads what the child answers; at the end of that it is asked why.
func (c *child) Read(b []byte) (int, error) {
	n, err := c.out.Read(b)
	if errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Write writes to the child. One that is gone is found out by reading.
func (c *child) Write(b []byte) (int, error) {
	n, err := c.in.Write(b)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// Close kills the child and waits for it. What had to be said before was said.
func (c *child) Close() error {
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait() // it was killed
	return nil
}

// complained is what the child wrote about itself, "" for nothing.
func (c *child) complained() string { return c.stderr.line() }
