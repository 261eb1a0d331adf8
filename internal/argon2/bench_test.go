//go:build bench

package argon2

import (
	"fmt"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	xargon2 "golang.org/x/crypto/argon2"

	"github.com/lockport/lockport/secret"
)

// TestBenchTable prints how long a derivation takes, as a ratio to libargon2 by
// its own command and to x/crypto. All three take turns, because the speed of a
// machine changes from minute to minute.
func TestBenchTable(t *testing.T) {
	if _, err := exec.LookPath("argon2"); err != nil {
		t.Skip("the command argon2 is not installed")
	}
	for _, size := range []struct {
		mib    uint32
		rounds int
	}{{256, 5}, {1024, 3}} {
		p := Params{ID, 4, size.mib << 10, 4}
		var ours, theirs, other []time.Duration
		for range size.rounds {
			ours = append(ours, timed(func() { deriveOurs(t, p) }))
			theirs = append(theirs, timed(func() { deriveTheirs(t, p) }))
			other = append(other, timed(func() { xargon2.IDKey([]byte("swordfish"), []byte("some salt"), p.Time, p.MemoryKiB, p.Threads, 32) }))
			debug.FreeOSMemory() // x/crypto leaves its memory to the collector
		}
		o, l, x := median(ours), median(theirs), median(other)
		t.Logf("argon2id t=4 p=4 m=%d MiB: %.2f of libargon2, %.2f of x/crypto (medians of %d: ours %.2f s, libargon2 %.2f s, x/crypto %.2f s; aim: at most 1.10 of libargon2)",
			size.mib, o/l, o/x, size.rounds, o, l, x)
	}
}

func deriveOurs(t *testing.T, p Params) {
	pass := secret.Copy([]byte("swordfish"))
	defer pass.Wipe()
	key, err := Key(t.Context(), p, pass, []byte("some salt"), 32)
	if err != nil {
		t.Fatal(err)
	}
	key.Wipe()
}

func deriveTheirs(t *testing.T, p Params) {
	cmd := exec.Command("argon2", "some salt", "-id", "-r", "-l", "32",
		"-t", fmt.Sprint(p.Time), "-k", fmt.Sprint(p.MemoryKiB), "-p", fmt.Sprint(p.Threads))
	cmd.Stdin = strings.NewReader("swordfish")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
}

func timed(work func()) time.Duration {
	start := time.Now()
	work()
	return time.Since(start)
}

// median returns the middle of an odd number of times, in seconds.
func median(times []time.Duration) float64 {
	slices.Sort(times)
	return times[len(times)/2].Seconds()
}
