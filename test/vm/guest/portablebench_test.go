//go:build vm

package guest

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockport/lockport/test/bench"
)

// TestBenchPortable compares what is done with an image without the service
// manager's taking notice: a small one, and one of 1 GiB with 2,000 units.
func TestBenchPortable(t *testing.T) {
	t.Run("small", func(t *testing.T) {
		portableSpace(t)
		benchPortable(t, "a small image", formOf(t, "squashfs").path(), rounds)
	})
	t.Run("large", func(t *testing.T) {
		portableSpace(t)
		benchPortable(t, "1 GiB, 2,000 units", makeLarge(t), 3)
	})
}

func benchPortable(t *testing.T, what, image string, rounds int) {
	t.Helper()
	steps := func(p portabler) (list []func() time.Duration) {
		for _, args := range [][]string{{"inspect"}, {"attach", "--no-reload"}, {"detach", "--no-reload"}} {
			list = append(list, timed(t, patient, p.command(with(args, image)...)...))
		}
		return list
	}
	var work []string
	for _, verb := range []string{"inspect", "attach", "detach"} {
		work = append(work, fmt.Sprintf("portable %s, %s", verb, what))
	}
	rows := bench.CompareSteps(work, "≤ 0.3", rounds, steps(theirPortable), steps(ourPortable))
	t.Log("\n" + bench.Table(rows))
}

// patient lets portablectl wait for more than 25 seconds: 2,000 units take its
// service longer under emulation.
var patient = []string{"SYSTEMD_BUS_TIMEOUT=110"}

// makeLarge makes an image of 1 GiB with 2,000 units.
func makeLarge(t testing.TB) string {
	t.Helper()
	tree, out := filepath.Join(portableDir, "large"), filepath.Join(portableDir, "large_1.raw")
	makeFile(t, filepath.Join(tree, "usr/lib/os-release"), "ID=large\nVERSION_ID=1\n")
	for i := range 2000 {
		makeFile(t, filepath.Join(tree, "usr/lib/systemd/system", fmt.Sprintf("large-%04d.service", i)),
			fmt.Sprintf("[Unit]\nDescription=Number %d\n[Service]\nExecStart=/usr/bin/large %[1]d\n", i))
	}
	// Data that is written as it is, and made while it is packed: the disk has no room for it twice.
	run(t, "mksquashfs", tree, out, "-noappend", "-quiet", "-no-progress", "-all-root", "-no-duplicates", "-noD",
		"-p", `usr/data f 644 0 0 yes | head -c 1073741824`)
	t.Cleanup(func() { cleanup(t, "rm", "-rf", tree, out) })
	return out
}
