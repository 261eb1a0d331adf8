//go:build linux

// Command run boots the test machine and runs the guest tests in it.
//
// It compiles the tests of one package and the lockport binary, hands both to
// a Debian machine under qemu through a shared folder, prints what the tests
// say as they say it, and exits as they did. All that it starts it ends, also
// when interrupted.
//
//	go run ./test/vm/run [flags] [-- flags of the test binary]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// config is what one call asks for.
type config struct {
	run     string        // which tests: a pattern as of -test.run
	pkg     string        // package whose tests run in the guest
	accel   string        // qemu accelerator
	logs    string        // folder that keeps the guest's logs
	timeout time.Duration // bound of the whole, from the build to the verdict
	keep    bool          // leave the machine up with a shell
	bench   bool          // run the benchmarks and nothing else
	args    []string      // more flags of the test binary
	only    []string      // tests that asked for this boot; none in the first
}

func main() {
	// The children ask to die with the thread that started them.
	runtime.LockOSThread()

	var c config
	flag.StringVar(&c.run, "run", "", "run only tests that match this `pattern`")
	flag.StringVar(&c.pkg, "pkg", "./test/vm/guest", "`package` whose tests run in the guest")
	flag.StringVar(&c.accel, "accel", "tcg,thread=multi", "qemu `accelerator`")
	flag.StringVar(&c.logs, "logs", "bin/vm-logs", "`folder` that keeps console, journal and output")
	flag.DurationVar(&c.timeout, "timeout", 45*time.Minute, "bound of the whole run")
	flag.BoolVar(&c.keep, "keep", false, "leave the machine up after the tests and offer a shell")
	flag.BoolVar(&c.bench, "bench", false, "run the benchmarks (TestBench...) and nothing else")
	shell := flag.String("shell", "", "connect to the shell of a kept machine at this `socket`")
	flag.Parse()
	c.args = flag.Args()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	do := func() error { return test(ctx, c) }
	if *shell != "" {
		do = func() error { return connect(ctx, *shell) }
	}
	if err := do(); err != nil {
		fmt.Fprintf(os.Stderr, "machine: %v\n", err)
		os.Exit(1)
	}
}

// say prints one line of progress; standard output belongs to the tests.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "machine: "+format+"\n", args...)
}

// test is the whole run: disk, binaries, machine, verdict.
func test(ctx context.Context, c config) error {
	start := time.Now()
	if err := checkTools(); err != nil {
		return err
	}
	disk, err := machineDisk(ctx)
	if err != nil {
		return err
	}
	// The first disk build takes its own time; the bound is for the rest.
	limit := c.timeout
	if c.keep {
		limit = 24 * time.Hour
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v, ended by force", limit))
	defer cancel()

	dir, err := os.MkdirTemp("", "vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	share, err := makeShare(ctx, filepath.Join(dir, "share"), c)
	if err != nil {
		return err
	}
	m := machine{disk: disk, dir: dir, share: share, accel: c.accel, keep: c.keep}
	err = boots(ctx, m, c)
	if kept := keepLogs(c.logs, share, m.console()); kept != nil {
		say("keeping the logs: %v", kept)
	}
	if err != nil {
		return fmt.Errorf("%w (whole logs in %s)", err, c.logs)
	}
	say("passed in %v", time.Since(start).Round(time.Second))
	return nil
}

// boots boots the machine, and again for the tests that asked for it. Other
// tests that fail do not keep those from going on.
func boots(ctx context.Context, m machine, c config) error {
	var errs []error
	for m.boot = 1; ; m.boot++ {
		if err := m.share.prepare(c, m.boot, min(c.timeout, timeLeft(ctx))); err != nil {
			return errors.Join(append(errs, err)...)
		}
		runErr := m.run(ctx)
		if err := verdict(ctx, m.share, m.console(), runErr); err != nil {
			errs = append(errs, fmt.Errorf("boot %d: %w", m.boot, err))
		}
		again, err := m.share.again()
		if err != nil {
			errs = append(errs, err)
		}
		// Without an exit code the machine went wrong, and may do so for ever.
		if _, noCode := m.share.exitCode(); len(again) == 0 || noCode != nil || ctx.Err() != nil {
			return errors.Join(errs...)
		}
		c.only = again
	}
}

// timeLeft is how long the run may still take.
func timeLeft(ctx context.Context) time.Duration {
	end, _ := ctx.Deadline()
	return time.Until(end).Round(time.Second)
}

// verdict says how one boot went, with the end of the right log when it failed.
func verdict(ctx context.Context, share share, console string, runErr error) error {
	code, err := share.exitCode()
	switch {
	case err == nil && code == 0:
		return nil
	case err == nil:
		printTail("the guest's journal", share.journal())
		return fmt.Errorf("the tests failed with exit code %d", code)
	case share.started():
		printTail("the guest's console", console)
		return fmt.Errorf("the tests started but never finished: %w", reason(ctx, runErr))
	default:
		printTail("the guest's console", console)
		return fmt.Errorf("the guest never started the tests: %w", reason(ctx, runErr))
	}
}

// reason names why a machine is gone: our own bound, its error, or by itself.
func reason(ctx context.Context, runErr error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if runErr != nil {
		return runErr
	}
	return errors.New("the machine powered off by itself")
}
