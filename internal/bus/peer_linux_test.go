package bus

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/portable"
)

// realManager starts systemd as the manager of a user in a mount namespace of its
// own, with some units, and returns its private socket.
func realManager(t *testing.T) string {
	t.Helper()
	const systemd = "/usr/lib/systemd/systemd"
	_, err := os.Stat(systemd)
	if _, e := exec.LookPath("unshare"); err == nil {
		err = e
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give systemd a machine that looks booted")
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	units := filepath.Join(dir, "config/systemd/user")
	must(t, os.MkdirAll(units, 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "run"), 0o700))
	for name, text := range map[string]string{
		"web.service":       "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nRuntimeDirectory=web\n[Install]\nWantedBy=default.target\n",
		"web@.service":      "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
		"fail.service":      "[Service]\nType=oneshot\nExecStart=/bin/false\n",
		"needy.service":     "[Unit]\nRequires=fail.service\nAfter=fail.service\n[Service]\nType=oneshot\nExecStart=/bin/true\n",
		`odd\x2da.service`:  "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
		"forever.service":   "[Service]\nType=oneshot\nExecStart=/bin/sleep 1000\n",
		"unrelated.service": "[Service]\nExecStart=/bin/true\n",
	} {
		must(t, os.WriteFile(filepath.Join(units, name), []byte(text), 0o644))
	}
	const start = `mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec ` + systemd + ` --user`
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", start)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"), "XDG_DATA_HOME=" + dir, "SYSTEMD_LOG_TARGET=console"}
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.Signal(34 + 24)) // SIGRTMIN+24: exit at once
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	socket := filepath.Join(dir, "run/systemd/private")
	for {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		select {
		case err := <-ended:
			ended <- err
			t.Skipf("systemd does not run here: %v\n%s", err, log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// The real thing agrees with what the fake does.
func TestWithSystemd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := New(Config{Private: realManager(t), Address: "unix:path=/nonexistent"})
	defer m.Close()
	for started := false; !started; { // it does not answer to Reload before it has
		list, err := m.States(ctx, []string{"default.target"})
		must(t, err)
		started = len(list) > 0 && list[0].Active == "active"
	}
	must(t, m.Reload(ctx))
	err := m.Run(ctx, portable.Start, []string{"web.service", "web@1.service", `odd\x2da.service`, "needy.service", "missing.service"}, true)
	for _, want := range []string{"starting needy.service: a unit that it needs failed", "starting missing.service: Unit missing.service not found."} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if err := m.Run(ctx, portable.Start, []string{"fail.service"}, true); err == nil || err.Error() != "starting fail.service: it failed" {
		t.Error(err)
	}
	// Flags that mean system.attached are for the system's manager alone; the
	// call is a valid one nevertheless.
	if _, err := m.Enable(ctx, []string{"missing.service"}, true, portable.Runtime); err == nil {
		t.Error("a unit that is missing is enabled")
	}
	states := func() []portable.UnitState {
		list, err := m.States(ctx, []string{"web.service", "web@.service", `odd\x2da.service`, "fail.service", "missing.service"})
		must(t, err)
		slices.SortFunc(list, func(a, b portable.UnitState) int { return strings.Compare(a.Name, b.Name) })
		return list
	}
	if diff := cmp.Diff([]portable.UnitState{
		{Name: "fail.service", Active: "failed", File: "static"}, {Name: `odd\x2da.service`, Active: "active", File: "static"},
		{Name: "web.service", Active: "active", File: "disabled"}, {Name: "web@.service", File: "static"}, {Name: "web@1.service", Active: "active"},
	}, states()); diff != "" {
		t.Error(diff)
	}
	must(t, m.Run(ctx, portable.Restart, []string{"web.service"}, true))
	active, err := portable.Active(ctx, m, []string{"web.service", "web@.service"})
	if diff := cmp.Diff([]string{"web.service", "web@1.service"}, active); diff != "" || err != nil {
		t.Error(err, diff)
	}
	must(t, m.Run(ctx, portable.Stop, active, true))
	must(t, m.Run(ctx, portable.Stop, []string{`odd\x2da.service`}, true))
	must(t, m.Run(ctx, portable.Clean, []string{"web.service", `odd\x2da.service`, "bluetooth.target"}, true))
	waitCtx, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	if err := m.Run(waitCtx, portable.Start, []string{"forever.service"}, true); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	must(t, m.Run(ctx, portable.Start, []string{"web.service"}, false))
	must(t, m.Run(ctx, portable.Stop, []string{"forever.service"}, true))
}
