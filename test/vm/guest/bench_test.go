//go:build vm

package guest

import (
	"testing"
	"time"

	"github.com/lockport/lockport/test/bench"
)

// rounds is how often each side runs; the medians count.
const rounds = 7

// TestBenchTable is the machine part of `make bench`: ours beside systemd's in
// one boot, in turns.
func TestBenchTable(t *testing.T) {
	dev, key := formatDisk(t)
	attached(t, "bench")
	timed := func(env []string, argv ...string) func() time.Duration {
		return func() time.Duration {
			return bench.Timed(func() {
				if r := try(t, "", env, argv...); r.code != 0 {
					t.Fatalf("%v: exit code %d\n%s", argv, r.code, r.stderr)
				}
			})
		}
	}
	// Each measured step is undone by the same side before the other's turn.
	with := func(f, undo func() time.Duration) func() time.Duration {
		return func() time.Duration {
			d := f()
			undo()
			return d
		}
	}
	before := func(do, f func() time.Duration) func() time.Duration {
		return func() time.Duration {
			do()
			return f()
		}
	}
	theirAttach := timed(nil, systemdCryptsetup, "attach", "bench", dev, key)
	theirDetach := timed(nil, systemdCryptsetup, "detach", "bench")
	ourAttach := timed(nil, "lockport", "attach", "bench", dev, key)
	ourDetach := timed(nil, "lockport", "detach", "bench")
	rows := []bench.Row{
		bench.Compare("attach, key file", "≤ 0.5", rounds, with(theirAttach, theirDetach), with(ourAttach, ourDetach)),
		bench.Compare("detach", "≤ 0.5", rounds, before(theirAttach, theirDetach), before(ourAttach, ourDetach)),
	}
	env := []string{"PASSWORD=first"}
	wipe := func(program ...string) func() time.Duration {
		return timed(nil, append(program, "--wipe-slot=recovery", dev)...)
	}
	rows = append(rows,
		bench.Compare("enrol a recovery key", "≤ 0.5", rounds,
			with(timed(env, "systemd-cryptenroll", "--recovery-key", dev), wipe("systemd-cryptenroll")),
			with(timed(env, "lockport", "enroll", "--recovery-key", dev), wipe("lockport", "enroll"))),
		bench.Compare("list keyslots", "", rounds,
			timed(nil, "systemd-cryptenroll", dev), timed(nil, "lockport", "slots", dev)),
		bench.Compare("--help", "", rounds,
			timed(nil, "systemd-cryptenroll", "--help"), timed(nil, "lockport", "enroll", "--help")))
	t.Log("\n" + bench.Table(rows))
}
