//go:build vm

package guest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// attachBuilt attaches the service as we build it, with more lines for its units, and
// starts its sockets. It is detached when the test is over.
func attachBuilt(t *testing.T, name string, service, socket string) {
	t.Helper()
	portableSpace(t)
	uncounted(t)
	f := builtForm(t, name)
	ourPortable.run(t, "attach", "--runtime", "--no-reload", f.path())
	t.Cleanup(func() {
		cleanup(t, "systemctl", "stop", "walkthrough-go.socket", "walkthrough-go.service")
		cleanup(t, "lockport", "portable", "detach", "--quiet", "--runtime", f.path())
	})
	for unit, text := range map[string]string{"walkthrough-go.service": "[Service]\n" + service, "walkthrough-go.socket": socket} {
		dir := filepath.Join("/run/systemd/system", unit+".d")
		makeFile(t, filepath.Join(dir, "test.conf"), text)
		t.Cleanup(func() { cleanup(t, "rm", "-r", dir) })
	}
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "start", "walkthrough-go.socket")
}

// withoutLimits is for services that come and go more often than people want.
const withoutLimits = "[Unit]\nStartLimitIntervalSec=0\n[Socket]\nTriggerLimitIntervalSec=0\nPollLimitIntervalSec=0\n"

// A service killed at any time has its count afterwards, and its next visitor starts it again.
func TestPortableServiceKilled(t *testing.T) {
	attachBuilt(t, "built-squashfs", "Restart=no\n[Unit]\nStartLimitIntervalSec=0\n", withoutLimits)
	last := 0
	for round := range 6 {
		for range 3 {
			greets(t, last+1)
			last++
		}
		// Also while visitors are being counted: of these, some are not answered.
		var visitors sync.WaitGroup
		var answered sync.Map
		if round%2 == 1 {
			for range 4 {
				visitors.Go(func() {
					if n, err := ask(); err == nil {
						answered.Store(n, true)
					}
				})
			}
		}
		run(t, "systemctl", "kill", "--signal=KILL", "walkthrough-go.service")
		visitors.Wait()
		n, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		if most := last + 5; n <= last || n > most {
			t.Fatalf("after the number %d and at most 4 visitors, there comes %d", last, n)
		}
		answered.Range(func(number, _ any) bool {
			if a := number.(int); a <= last || a >= n {
				t.Errorf("numbers %d, then %d, then %d", last, a, n)
			}
			return true
		})
		last = n
	}
}

// A full disk stops nobody from being counted once there is a count, and never turns it back.
func TestPortableServiceFullDisk(t *testing.T) {
	attachBuilt(t, "built-squashfs", "Restart=no\n[Unit]\nStartLimitIntervalSec=0\n", withoutLimits)
	const state = "/var/lib/private/walkthrough-go"
	run(t, "mkdir", "-p", "-m", "700", "/var/lib/private")
	run(t, "mkdir", "-p", state)
	run(t, "mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", state)
	t.Cleanup(func() {
		cleanup(t, "sh", "-c", "systemctl stop walkthrough-go.socket walkthrough-go.service; umount "+state)
	})
	fill := func() {
		if r := try(t, "", nil, "dd", "if=/dev/zero", "of="+state+"/full", "bs=4k"); r.code == 0 || !strings.Contains(r.stderr, "No space left") {
			t.Fatalf("the disk is not full: %+v", r)
		}
	}
	// Full from the start: nobody is counted, and nobody is told a number. (Without
	// limits the service is started again as long as there is a visitor.)
	fill()
	if n, err := askWithin(10 * time.Second); err == nil {
		t.Errorf("a visitor is told the number %d, which is nowhere", n)
	}
	stop(t) // nobody who came is in the queue any more
	run(t, "rm", state+"/full")
	run(t, "systemctl", "start", "walkthrough-go.socket")
	greets(t, 1)
	greets(t, 2)
	// Full when there is a count: it goes on, also in the next process.
	fill()
	greets(t, 3)
	run(t, "systemctl", "stop", "walkthrough-go.service")
	greets(t, 4)
	run(t, "systemctl", "kill", "--signal=KILL", "walkthrough-go.service")
	greets(t, 5)
}

// A visitor loses nothing to a service that exits when idle, also if he comes at that
// very moment: each is greeted, and each number is given once.
func TestPortableServiceIdle(t *testing.T) {
	const (
		visitors, exits = 300, 20
		idle            = 100 * time.Millisecond
	)
	attachBuilt(t, "built-directory", "ExecStart=\nExecStart=/usr/bin/walkthrough-go --idle-timeout="+idle.String()+"\n[Unit]\nStartLimitIntervalSec=0\n", withoutLimits)
	seen := map[int]bool{}
	var lost []error
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	for round := 0; len(seen) < visitors || exited(t) < exits; round++ {
		if round == 400 {
			t.Fatalf("%d exits in %d rounds", exited(t), round)
		}
		var mutex sync.Mutex
		var group sync.WaitGroup
		for range 1 + r.IntN(8) {
			group.Go(func() {
				n, err := ask()
				mutex.Lock()
				defer mutex.Unlock()
				switch {
				case err != nil:
					lost = append(lost, err)
				case seen[n]:
					lost = append(lost, fmt.Errorf("two visitors have the number %d", n))
				}
				seen[n] = true
			})
		}
		group.Wait()
		if len(lost) > 0 {
			t.Fatalf("seed %d, round %d: %v", seed, round, lost)
		}
		// Not to wait for something, but to come when it is about to exit.
		time.Sleep(time.Duration(r.Int64N(int64(2 * idle))))
	}
	for n := range len(seen) {
		if !seen[n+1] {
			t.Errorf("of %d visitors, nobody has the number %d", len(seen), n+1)
		}
	}
	t.Logf("%d visitors, %d exits", len(seen), exited(t))
}

// exited is how often the service has exited by itself since its sockets were started.
func exited(t testing.TB) int {
	t.Helper()
	since := run(t, "systemctl", "show", "--value", "--property=ActiveEnterTimestamp", "--timestamp=unix", "walkthrough-go.socket")
	log := run(t, "journalctl", "--output=cat", "--since="+since, "--unit=walkthrough-go.service")
	return strings.Count(log, "walkthrough-go.service: Deactivated successfully.")
}

// ask visits the service on a connection of its own and returns its number.
func ask() (n int, err error) { return askWithin(bound) }

func askWithin(patience time.Duration) (n int, err error) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://127.0.0.1:8088/")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(string(text), "Hello! You are visitor #%d!", &n); err != nil {
		return 0, fmt.Errorf("%s: %q", r.Status, text)
	}
	return n, nil
}
