//go:build vm

package guest

import (
	"testing"
	"time"

	"github.com/lockport/lockport/test/bench"
)

// TestBenchKeyFile measures attach by key file and detach.
func TestBenchKeyFile(t *testing.T) {
	dev := disk(t)
	key := write(t, "key", "a key file")
	run(t, "cryptsetup", "luksFormat", "--batch-mode", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", dev, key)

	timed := func(argv ...string) time.Duration {
		return bench.Timed(func() { run(t, argv...) })
	}
	attach := func(tool string) func() time.Duration {
		return func() time.Duration {
			took := timed(tool, "attach", "bench", dev, key)
			run(t, "systemd-cryptsetup", "detach", "bench")
			return took
		}
	}
	detach := func(tool string) func() time.Duration {
		return func() time.Duration {
			run(t, "systemd-cryptsetup", "attach", "bench", dev, key)
			return timed(tool, "detach", "bench")
		}
	}
	t.Log("\n" + bench.Table([]bench.Row{
		bench.Compare("attach, key file", "≤ 0.5", 7, attach("systemd-cryptsetup"), attach("lockport")),
		bench.Compare("detach", "≤ 0.5", 7, detach("systemd-cryptsetup"), detach("lockport")),
	}))
}
