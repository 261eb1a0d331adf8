//go:build linux

package tpm2

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// killEnv tells a copy of this test program which folder to work in.
const killEnv = "LOCKPORT_TEST_KILL_REFRESH"

// victim turns a process that TestRefreshKilled has started into its victim.
func victim() {
	if dir := os.Getenv(killEnv); dir != "" {
		fmt.Fprintln(os.Stderr, beVictim(dir))
		os.Exit(1)
	}
}

// beVictim is what TestRefreshKilled kills: it binds the keyslot to one state and
// to another for ever, each predicted from the other, and says so each time.
func beVictim(dir string) error {
	ctx := context.Background()
	f, err := luks2.OpenFile(filepath.Join(dir, "image"), false)
	if err != nil {
		return err
	}
	defer f.Close()
	open := func(ctx context.Context) (Device, error) {
		return Open(ctx, dir, "swtpm:path="+filepath.Join(dir, "tpm"))
	}
	r := &Refresher{Key: &Key{Open: open}, Keyslot: luks2.AnySlot, Root: dir, Now: time.Unix(1e9, 0)}
	pass := secret.Copy([]byte("first"))
	for n := 0; ; n++ {
		h, err := luks2.Open(ctx, f)
		if err != nil {
			return err
		}
		key, err := volume.Open(ctx, h, 0, pass)
		if err != nil {
			return err
		}
		if r.Values = nil; n%2 == 0 {
			r.Values = []PCR{stateValue(fmt.Sprint(n))}
		}
		boot := strings.Repeat(fmt.Sprintf("%04x", n/2), 8)
		if err := os.WriteFile(filepath.Join(dir, "proc/sys/kernel/random/boot_id"), []byte(boot), 0o600); err != nil {
			return err
		}
		steps, err := r.Plan(ctx, h)
		if err == nil {
			err = r.Apply(ctx, h, key.Volume, steps, nil, nil)
		}
		key.Volume.Wipe()
		if err != nil {
			return err
		}
		if _, err := os.Stdout.WriteString("refreshed\n"); err != nil {
			return err
		}
	}
}

// TestRefreshKilled kills a process that refreshes a keyslot, at random moments:
// the TPM opens the volume each time, and so does the passphrase.
func TestRefreshKilled(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.enroll(pcr16(t), "a", "")
	path := filepath.Join(m.root, "image")
	putFile(t, path, storeBytes(t, m.store))
	f, err := luks2.OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.store = f
	// The victim's TPM is the test's, which stays when the victim goes.
	if err := os.Symlink(m.tpm.Socket(), filepath.Join(m.root, "tpm")); err != nil {
		t.Fatal(err)
	}
	kills := 0
	for start := time.Now(); kills < 3 || kills < 15 && time.Since(start) < 4*time.Second; kills++ {
		killOne(t, m.root)
		flushAll(t, m.tpm)
		if got := m.slots(); !strings.Contains(got, "a*") || strings.Count(got, "a") > 3 {
			t.Fatalf("kill %d: %s", kills, got)
		}
		m.clean()
	}
	for _, boot := range []string{"x", "y"} {
		m.boot(boot)
		if _, err := m.refresh(m.refresher()); err != nil {
			t.Error(err)
		}
	}
	if got := m.slots(); !strings.HasPrefix(got, "a*") || strings.Count(got, "a") != 1 {
		t.Errorf("in the end: %s", got)
	}
	t.Logf("%d kills", kills)
}

// killOne lets a victim refresh at least once, and kills it a random moment later.
func killOne(t *testing.T, dir string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), killEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil || first != "refreshed\n" {
		_ = cmd.Process.Kill()
		t.Fatalf("the victim said %q, %v: %v", first, err, cmd.Wait())
	}
	moment := time.NewTimer(time.Duration(rand.IntN(60)) * time.Millisecond)
	defer moment.Stop()
	<-moment.C
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = lines.WriteTo(io.Discard)
	if err := cmd.Wait(); err == nil {
		t.Fatal("the victim ended by itself")
	}
}
