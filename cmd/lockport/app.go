package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

// app is what all commands share: where they print and whom they ask.
type app struct {
	name     string // as called
	original bool   // called as one of systemd's programs
	quiet    bool
	out      io.Writer // data
	err      io.Writer // everything else
	now      func() time.Time
	limits   luks2.Limits // of attach
	host     host         // of portable services
	keys     fido2.Port   // where security keys are plugged in
}

func newApp(name string) *app {
	return &app{name: name, out: os.Stdout, err: os.Stderr, now: time.Now, keys: fido2.Hidraw{Root: "/"}}
}

// say tells what was done.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.err, "%s: warning: %s\n", a.name, fmt.Sprintf(format, args...))
}

// log returns a logger for libraries, whose warnings look like ours.
func (a *app) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, attr slog.Attr) slog.Attr {
			if attr.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return attr
		},
	}))
}

// fail prints an error and what can be done about it.
func (a *app) fail(err error) {
	fmt.Fprintf(a.err, "%s: %s\n", a.name, message(err))
	if h := hint(err, a.now()); h != "" {
		fmt.Fprintf(a.err, "hint: %s\n", h)
	}
}

// isTerminal tells whether a stream is watched by a person.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// openHeader opens a volume or a header on its own. The caller closes the file.
func (a *app) openHeader(ctx context.Context, path string, readOnly bool, options ...luks2.Option) (*luks2.File, *luks2.Header, error) {
	f, err := openDevice(path, readOnly)
	if err != nil {
		return nil, nil, err
	}
	h, err := luks2.Open(ctx, f, options...)
	if err != nil {
		return nil, nil, errors.Join(onDevice(path, sayWhatItIs(f, err)), f.Close())
	}
	if damage := h.Damage(); damage != nil {
		a.warn("%s: %v", path, damage)
		if readOnly {
			fmt.Fprintf(a.err, "hint: the other copy is good; '%s' mends this one\n", "lockport header repair "+path)
		}
	}
	return f, h, nil
}

// openDevice opens a device or a file. The caller closes it.
func openDevice(path string, readOnly bool) (*luks2.File, error) {
	f, err := luks2.OpenFile(path, readOnly)
	if err = onDevice(path, err); errors.Is(err, fs.ErrNotExist) {
		err = marked{err, errNoVolume}
	}
	return f, err
}

// sayWhatItIs adds what a device holds instead of a LUKS2 volume, if it can be
// told.
func sayWhatItIs(f *luks2.File, err error) error {
	if !errors.Is(err, luks2.ErrNotLUKS2) {
		return err
	}
	what, failed := luks2.Probe(f)
	switch {
	case failed != nil || what == "":
		return err
	case what == "a LUKS1 volume":
		return errLUKS1
	}
	return fmt.Errorf("%w but %s", luks2.ErrNotLUKS2, what)
}

// unlock gets the volume key by the given methods.
func (a *app) unlock(ctx context.Context, h *luks2.Header, methods []volume.Method, ask volume.Asker, o volume.UnlockOptions) (volume.Key, error) {
	o.Failed = func(_ string, err error) { a.warn("%v", err) }
	return volume.Unlock(ctx, h, methods, ask, o)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
