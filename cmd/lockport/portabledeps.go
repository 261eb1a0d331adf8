package main

import (
	"context"
	"os"

	"github.com/lockport/lockport/internal/bus"
	"github.com/lockport/lockport/internal/journal"
	"github.com/lockport/lockport/portable"
)

// host is the running system that portable services are attached to. Its zero
// value is the real one.
type host struct {
	dir     string // "" for /
	manager portable.Manager
	record  func(context.Context, portable.Event)
}

func (h *host) root() string {
	if h.dir == "" {
		return "/"
	}
	return h.dir
}

// serviceManager is connected to when it is first asked for something. It lives
// as long as the process.
func (h *host) serviceManager() portable.Manager {
	if h.manager == nil {
		c := bus.Config{Address: os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")}
		if os.Geteuid() == 0 {
			c.Private = bus.DefaultPrivate
		}
		h.manager = bus.New(c)
	}
	return h.manager
}

// recordEvent writes to the system's journal; where there is none, nothing is
// lost that a person would miss.
func (h *host) recordEvent() func(context.Context, portable.Event) {
	if h.record != nil {
		return h.record
	}
	return func(ctx context.Context, e portable.Event) { _ = journal.Send(ctx, journal.Socket, e.Fields()) }
}
