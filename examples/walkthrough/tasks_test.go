package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestTasksAllowed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		self, group, limit string
		want               int
	}{
		{"0::/system.slice/walkthrough-go.service\n", "system.slice/walkthrough-go.service", "4\n", 4},
		{"12:pids:/old\n0::/new\n", "new", "4915\n", 4915},
		{"0::/new", "new", "max\n", math.MaxInt},
		{"0::/\n", "", "7\n", 7},
		{"0::/new\n", "other", "7\n", 0},
		{"12:pids:/old\n", "old", "7\n", 0},
		{"", "", "7\n", 0},
		{"0::/new\n", "new", "many\n", 0},
		{"0::/new\n", "new", "99999999999999999999\n", 0},
	} {
		dir := t.TempDir()
		self, groups := filepath.Join(dir, "cgroup"), filepath.Join(dir, "groups")
		if err := os.MkdirAll(filepath.Join(groups, c.group), 0o700); err != nil {
			t.Fatal(err)
		}
		for path, text := range map[string]string{self: c.self, filepath.Join(groups, c.group, "pids.max"): c.limit} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := tasksAllowed(self, groups); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if got := tasksAllowed("/nonexistent", "/"); got != 0 {
		t.Errorf("%d from nothing", got)
	}
}
