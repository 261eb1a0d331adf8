package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/lockport/lockport/internal/bus"
	"github.com/lockport/lockport/internal/bus/bustest"
	"github.com/lockport/lockport/portable"
)

// onHost is a command of scripts, "on-host ROOT COMMAND…". It runs a command as if
// the tree ROOT were the running system. The service manager of that knows the
// units in the file "units", a line for each: name, whether it is active, state of
// its file, and how its jobs end ("-" for nothing or the usual). A line in "calls"
// says what it was asked, one in "record" what would go to the journal.
func onHost() {
	a := newApp(os.Args[2])
	a.host.dir = os.Args[1]
	if _, err := os.Stat("units"); err == nil {
		end := a.host.serve()
		code := a.run(os.Args[3:])
		end()
		os.Exit(code)
	}
	a.host.manager = bus.New(bus.Config{Address: "unix:path=/nonexistent"})
	os.Exit(a.run(os.Args[3:]))
}

// serve starts the service manager; the function that it returns writes down what
// has become of the units.
func (h *host) serve() (end func()) {
	text, err := os.ReadFile("units")
	check(err)
	m := &bustest.Manager{Units: map[string]bustest.Unit{}}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(strings.ReplaceAll(line, " -", " ∅"))
		for i := range f {
			f[i] = strings.ReplaceAll(f[i], "∅", "")
		}
		m.Units[f[0]] = bustest.Unit{Active: f[1], File: f[2], Result: f[3]}
	}
	var mu sync.Mutex
	appendTo := func(file, line string) {
		mu.Lock()
		defer mu.Unlock()
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		check(err)
		_, err = fmt.Fprintln(f, line)
		check(err)
		check(f.Close())
	}
	m.Log = func(call string) { appendTo("calls", call) }
	dir, err := os.MkdirTemp("", "bus")
	check(err)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	check(err)
	go m.Serve(l)
	client := bus.New(bus.Config{Private: l.Addr().String()})
	h.manager = client
	h.record = func(_ context.Context, e portable.Event) { appendTo("record", e.Message) }
	return func() {
		check(client.Close())
		check(l.Close())
		check(os.RemoveAll(dir))
		var lines []string
		for name, u := range m.Units {
			line := name
			for _, word := range []string{u.Active, u.File, u.Result} {
				line += " " + or(word, "-")
			}
			lines = append(lines, line)
		}
		slices.Sort(lines)
		check(os.WriteFile("units", []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "on-host:", err)
		os.Exit(90)
	}
}
