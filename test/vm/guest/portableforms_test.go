//go:build vm

package guest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What one attaches, systemd starts, a visitor is greeted by, the other lists and
// inspects in the same words, and detaches without a trace: in every form. What
// both leave on the disk in between is the same.
func TestPortableForms(t *testing.T) {
	t.Cleanup(func() { cleanup(t, "systemctl", "daemon-reload") })
	for i, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			var scope []string
			suffix := ""
			if i%2 == 1 {
				scope, suffix = []string{"--runtime"}, "-runtime"
			}
			var files [2]map[string]string
			for j, d := range directions[:2] {
				t.Run(d[0].String()+" attaches", func(t *testing.T) {
					portableSpace(t)
					before := snapshot(t)
					d[0].run(t, with(with([]string{"attach"}, scope...), f.args()...)...)
					files[j] = added(before, snapshot(t))
					agree(t, f, "attached"+suffix)
					run(t, "systemctl", "start", "walkthrough-go.socket")
					greeted(t)
					if v := version(t); v != "1" {
						t.Errorf("version %s is running", v)
					}
					sameState(t, f, "running"+suffix)
					stop(t)
					// The next one reloads the service manager.
					d[1].run(t, with(with([]string{"detach", "--no-reload"}, scope...), f.args()...)...)
					if diff := cmp.Diff(before, snapshot(t)); diff != "" {
						t.Errorf("left behind (-before +after):\n%s", diff)
					}
					sameState(t, f, "detached")
					nothingLeft(t)
				})
			}
			if files[0] == nil || files[1] == nil {
				return // not both were asked for
			}
			if diff := cmp.Diff(files[1], files[0]); diff != "" {
				t.Errorf("on the disk (-theirs +ours):\n%s", diff)
			}
		})
	}
}

// agree wants both to say the same of an image, and its state to be this.
func agree(t *testing.T, f form, state string) {
	t.Helper()
	sameState(t, f, state)
	for _, args := range [][]string{
		with([]string{"inspect"}, f.args()...), with([]string{"inspect", "--cat"}, f.args()...), {"list"},
	} {
		if diff := cmp.Diff(theirPortable.run(t, args...), ourPortable.run(t, args...)); diff != "" {
			t.Errorf("%q differs (-theirs +ours):\n%s", args, diff)
		}
	}
}

// sameState wants both to say this of how far an image is in use.
func sameState(t *testing.T, f form, want string) {
	t.Helper()
	for _, p := range []portabler{theirPortable, ourPortable} {
		if state := p.run(t, "is-attached", f.path()); state != want {
			t.Errorf("%s: the state is %s, not %s", p, state, want)
		}
	}
}
