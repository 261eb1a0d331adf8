//go:build vm

package guest

import (
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Killed at any moment of attaching, detaching and going to another version, ours
// leaves what repair, or the next change, makes what was before, or complete. The
// service runs from it afterwards.
func TestPortableKilled(t *testing.T) {
	portableSpace(t)
	f := formOf(t, "directory")
	first, other := f.path(), second(f)
	k := &killing{now: "detached", states: map[string]map[string]string{"detached": attachedFiles(t)}}
	steps := map[string][]kill{
		"detached": {{"attach", first, first}},
		first:      {{"reattach", other, other}, {"detach", first, "detached"}},
		other:      {{"reattach", first, first}, {"detach", other, "detached"}},
	}
	// What each state looks like, and how long a step takes that is left alone.
	for _, step := range []kill{steps["detached"][0], steps[first][0], steps[other][1]} {
		begin := time.Now()
		step.run(t)
		if took := time.Since(begin); k.bound == 0 || took < k.bound {
			k.bound = took
		}
		k.states[step.to] = attachedFiles(t)
	}
	for round := range 40 {
		k.round(t, steps[k.now][rand.IntN(len(steps[k.now]))], round%2 == 0, round%4 < 2)
	}
	t.Logf("killed %d times within %v, which left something to undo %d times", k.killed, k.bound, k.undone)
	if k.killed < 10 {
		t.Error("hardly anything was killed in time")
	}
	if k.undone == 0 {
		t.Error("nothing was killed in the middle of a change")
	}
	if k.now != "detached" {
		ourPortable.run(t, "detach", "--no-reload", k.now)
	}
	kill{"attach", first, first}.run(t)
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "start", "walkthrough-go.socket")
	greeted(t)
	stop(t)
	ourPortable.run(t, "detach", first)
	unloaded(t)
}

// A kill is a change that is killed, and the state that it would lead to.
type kill struct{ verb, image, to string }

func (k kill) args() []string { return []string{k.verb, "--no-reload", k.image} }

func (k kill) run(t *testing.T) { ourPortable.run(t, k.args()...) }

// killing is the state of the disk between the rounds.
type killing struct {
	now    string
	states map[string]map[string]string
	bound  time.Duration // what a change takes at the least, and within which it is killed

	killed, undone int
}

// round kills a change, and then has it repaired or done once more. Writing counts
// the moments from when its journal is there, of which few would be met else.
func (k *killing) round(t *testing.T, step kill, repair, writing bool) {
	t.Helper()
	argv := ourPortable.command(step.args()...)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	within := k.bound
	if writing {
		within /= 8
		for len(ended) == 0 && !exists("/etc/.#lockport-portable.journal") {
			time.Sleep(100 * time.Microsecond)
		}
	}
	time.Sleep(time.Duration(rand.Int64N(int64(within)))) // the moment is what is tried
	_ = cmd.Process.Kill()
	if err := <-ended; err != nil {
		k.killed++
	}
	if repair {
		r := ourPortable.try(t, "repair")
		if r.code != 0 {
			t.Fatalf("repair after %s: exit code %d, %s", step.verb, r.code, r.stderr)
		}
		if r.stderr != "No change was interrupted.\n" {
			k.undone++
		}
		if k.is(t, k.now) {
			return
		}
	} else {
		// It fails if it was complete.
		ourPortable.try(t, step.args()...)
	}
	if !k.is(t, step.to) {
		t.Fatalf("after %s was killed, neither the state before nor that after it (-after +now):\n%s",
			step.verb, cmp.Diff(k.states[step.to], attachedFiles(t)))
	}
	k.now = step.to
}

// is tells whether the disk has a state.
func (k *killing) is(t *testing.T, state string) bool {
	t.Helper()
	return cmp.Equal(k.states[state], attachedFiles(t))
}

// attachedFiles is where the changes of the test go.
func attachedFiles(t *testing.T) map[string]string {
	t.Helper()
	return snapshotOf(t, "/etc/systemd/system.attached", "/etc/portables")
}
