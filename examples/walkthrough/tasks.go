package main

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// signalTasks is from how many tasks on os/signal is safe: it takes three threads,
// and without it this program has up to four.
const signalTasks = 10

// tasksAllowed is the unit's TasksMax=, from the control group (cgroup v2) that the
// file names; both are where the kernel shows them. It is 0 if that can't be found out.
func tasksAllowed(self, groups string) int {
	b, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		group, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/")
		if !ok {
			continue
		}
		limit, err := os.ReadFile(filepath.Join(groups, group, "pids.max"))
		if err != nil {
			return 0
		}
		text := strings.TrimSpace(string(limit))
		if text == "max" {
			return math.MaxInt
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0
		}
		return n
	}
	return 0
}
