//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// share is the folder that host and guest both see: binaries and a script in,
// results out.
type share string

// guestReserve is what the guest's tests get less than the whole run, so that
// a hanging test is reported by its own stack and not by a dead machine.
const guestReserve = 3 * time.Minute

// makeShare makes a share at dir with the binaries, freshly built, and a
// folder for what tests leave to their next boot.
func makeShare(ctx context.Context, dir string, c config) (share, error) {
	s := share(dir)
	for _, dir := range []string{"bin", "keep"} {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			return "", err
		}
	}
	say("building lockport and the tests of %s", c.pkg)
	if err := goBuild(ctx, "build", "-trimpath", "-o", s.path("bin/lockport"), "./cmd/lockport"); err != nil {
		return "", err
	}
	if err := goBuild(ctx, "test", "-c", "-tags", "vm", "-o", s.path("bin/guest.test"), c.pkg); err != nil {
		return "", err
	}
	if err := goBuild(ctx, "build", "-trimpath", "-o", s.path("bin/softkey"), "./test/softkey"); err != nil {
		return "", err
	}
	// What the originals made.
	if err := os.CopyFS(s.path("vectors"), os.DirFS("testdata/vectors")); err != nil {
		return "", err
	}
	// The tree of the portable service that the tests pack and attach.
	if err := command(ctx, "examples/walkthrough/build", s.path("walkthrough")).Run(); err != nil {
		return "", fmt.Errorf("examples/walkthrough/build: %w", err)
	}
	// And the image of it as its specification has it: the machine has no compiler.
	build := command(ctx, s.path("bin/lockport"), "portable", "build", "--quiet", "--output="+s.path("walkthrough-go_1.raw"), "examples/walkthrough")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building the image of examples/walkthrough: %w", err)
	}
	return s, os.WriteFile(s.path("output"), nil, 0o644)
}

// prepare readies the share for a boot that has so much time: the script that
// the guest runs, and nothing left that says how the last boot went.
func (s share) prepare(c config, boot int, left time.Duration) error {
	for _, name := range []string{"started", "exit", "again"} {
		if err := os.RemoveAll(s.path(name)); err != nil {
			return err
		}
	}
	return os.WriteFile(s.path("main"), []byte(guestScript(c, boot, left)), 0o644)
}

// goBuild runs the go command without cgo, as the product is built.
func goBuild(ctx context.Context, args ...string) error {
	cmd := command(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// guestScript is what the guest runs from the share. The exit code is written
// last and in one step: whoever sees it can trust the other files.
func guestScript(c config, boot int, left time.Duration) string {
	end := "systemctl poweroff -ff"
	if c.keep {
		end = "[ ! -e /share/again ] || " + end + "\nsystemctl start serial-getty@hvc0.service"
	}
	env := "export LOCKPORT_BOOT=" + strconv.Itoa(boot) + "\n"
	if c.bench {
		env += "export LOCKPORT_BENCH=1\n"
	}
	return `: >/share/started
mkdir -p /opt/lockport
cp -r /share/bin /opt/lockport/
cd /opt/lockport
export PATH=/opt/lockport/bin:$PATH
` + env + "guest.test" + quote(testArgs(c, left)) + ` </dev/null >>/share/output 2>&1
code=$?
journalctl -b -o short-monotonic --no-pager >>/share/journal 2>&1
echo $code >/share/exit.new
mv /share/exit.new /share/exit
` + end + "\n"
}

// testArgs are the flags of the test binary; later ones win.
func testArgs(c config, left time.Duration) []string {
	args := []string{"-test.v", "-test.timeout=" + max(left-guestReserve, left/2).String()}
	run := c.run
	if c.bench && run == "" {
		run = "^TestBench"
	}
	if len(c.only) > 0 {
		run = "^(" + strings.Join(c.only, "|") + ")$"
	}
	if run != "" {
		args = append(args, "-test.run="+run)
	}
	if !c.bench {
		args = append(args, "-test.skip=^TestBench")
	}
	return append(args, c.args...)
}

// quote makes words of a shell command, each with a leading space.
func quote(words []string) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString(" '" + strings.ReplaceAll(w, "'", `'\''`) + "'")
	}
	return b.String()
}

func (s share) path(name string) string { return filepath.Join(string(s), name) }
func (s share) output() string          { return s.path("output") }
func (s share) journal() string         { return s.path("journal") }

// started tells whether the guest has reached the share's script.
func (s share) started() bool {
	_, err := os.Stat(s.path("started"))
	return err == nil
}

// exitCode is that of the test binary, or fs.ErrNotExist while there is none.
func (s share) exitCode() (int, error) {
	text, err := os.ReadFile(s.path("exit"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// again names the tests that have a part for the next boot.
func (s share) again() ([]string, error) {
	text, err := os.ReadFile(s.path("again"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(text)), err
}

// keepLogs copies what the guest said to a folder that outlives the run.
func keepLogs(dir string, s share, console string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for _, from := range []string{s.output(), s.journal(), console} {
		to := filepath.Join(dir, filepath.Base(from))
		text, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.RemoveAll(to) // not one of an earlier run
		} else if err == nil {
			err = os.WriteFile(to, text, 0o644)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
