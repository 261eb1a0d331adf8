//go:build vm

package bus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/portable"
)

// install gives the machine's manager some units, until the test ends.
func install(t *testing.T) {
	t.Helper()
	const folder = "/run/systemd/system"
	for name, text := range map[string]string{
		"bus-web.service":    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nRuntimeDirectory=bus-web\n[Install]\nWantedBy=multi-user.target\n",
		"bus-web@.service":   "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
		"bus-fail.service":   "[Service]\nType=oneshot\nExecStart=/bin/false\n",
		"bus-needy.service":  "[Unit]\nRequires=bus-fail.service\nAfter=bus-fail.service\n[Service]\nType=oneshot\nExecStart=/bin/true\n",
		`bus\x2dodd.service`: "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
		"bus-long.service":   "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n",
	} {
		p := filepath.Join(folder, name)
		must(t, os.WriteFile(p, []byte(text), 0o644))
		t.Cleanup(func() { must(t, os.Remove(p)) })
	}
}

// The real thing agrees with what the fake does, over both ways to it.
func TestWithSystemd(t *testing.T) {
	install(t)
	for name, config := range map[string]Config{
		"private": {Private: DefaultPrivate, Address: "unix:path=/nonexistent"},
		"bus":     {},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			m := New(config)
			defer m.Close()
			withSystemd(ctx, t, m)
		})
	}
}

func withSystemd(ctx context.Context, t *testing.T, m *Manager) {
	must(t, m.Reload(ctx))
	started := []string{"bus-web.service", "bus-web@1.service", `bus\x2dodd.service`}
	err := m.Run(ctx, portable.Start, append(started, "bus-needy.service", "bus-missing.service"), true)
	for _, want := range []string{
		"starting bus-needy.service: a unit that it needs failed", "starting bus-missing.service: Unit bus-missing.service not found.",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if err := m.Run(ctx, portable.Start, []string{"bus-fail.service"}, true); err == nil || err.Error() != "starting bus-fail.service: it failed" {
		t.Error(err)
	}
	states, err := m.States(ctx, []string{"bus-web.service", "bus-web@.service", `bus\x2dodd.service`, "bus-fail.service", "bus-missing.service"})
	must(t, err)
	slices.SortFunc(states, func(a, b portable.UnitState) int { return strings.Compare(a.Name, b.Name) })
	if diff := cmp.Diff([]portable.UnitState{
		{Name: "bus-fail.service", Active: "failed", File: "static"}, {Name: "bus-web.service", Active: "active", File: "disabled"},
		{Name: "bus-web@.service", File: "static"}, {Name: "bus-web@1.service", Active: "active"},
		{Name: `bus\x2dodd.service`, Active: "active", File: "static"},
	}, states); diff != "" {
		t.Error(diff)
	}
	const link = "/run/systemd/system.attached/multi-user.target.wants/bus-web.service"
	changes, err := m.Enable(ctx, []string{"/run/systemd/system/bus-web.service"}, true, portable.Runtime)
	if err != nil || len(changes) != 1 || changes[0].Type != portable.Symlink || changes[0].Path != link {
		t.Errorf("%+v, %v", changes, err)
	}
	changes, err = m.Enable(ctx, []string{"bus-web.service"}, false, portable.Runtime)
	if err != nil || len(changes) != 1 || changes[0].Type != portable.Unlink || changes[0].Path != link {
		t.Errorf("%+v, %v", changes, err)
	}
	must(t, m.Run(ctx, portable.Restart, []string{"bus-web.service"}, true))
	active, err := portable.Active(ctx, m, []string{"bus-web.service", "bus-web@.service"})
	if diff := cmp.Diff([]string{"bus-web.service", "bus-web@1.service"}, active); diff != "" || err != nil {
		t.Error(err, diff)
	}
	must(t, m.Run(ctx, portable.Stop, started, true))
	must(t, m.Run(ctx, portable.Clean, []string{"bus-web.service", `bus\x2dodd.service`, "basic.target"}, true))
	soon, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if err := m.Run(soon, portable.Start, []string{"bus-long.service"}, true); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	must(t, m.Run(ctx, portable.Stop, []string{"bus-long.service"}, true))
}
