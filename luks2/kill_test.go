//go:build linux

package luks2_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// killEnv tells a copy of this test program which image to work on.
const killEnv = "LOCKPORT_TEST_KILL_IMAGE"

// victim turns a process that TestKill has started into its victim.
func victim() {
	if path := os.Getenv(killEnv); path != "" {
		fmt.Fprintln(os.Stderr, beVictim(path))
		os.Exit(1)
	}
}

// beVictim is what TestKill kills: it adds and removes a keyslot for ever, and
// says so after each commit.
func beVictim(path string) error {
	ctx := context.Background()
	f, err := luks2.OpenFile(path, false)
	if err != nil {
		return err
	}
	defer f.Close()
	first, again := secret.Copy([]byte("first")), secret.Copy([]byte("loop"))
	h, err := luks2.Open(ctx, f)
	if err != nil {
		return err
	}
	key, err := h.VolumeKey(ctx, 0, first)
	if err != nil {
		return err
	}
	for {
		if _, err := h.Keyslot(1); err == nil {
			if err := errors.Join(h.RemoveSlot(1), h.Commit(ctx)); err != nil {
				return err
			}
		}
		if _, err := h.AddSlot(ctx, key, again, luks2.SlotOptions{ID: 1, KDF: luks2.Minimal()}); err != nil {
			return err
		}
		if err := h.Commit(ctx); err != nil {
			return err
		}
		if _, err := os.Stdout.WriteString("committed\n"); err != nil {
			return err
		}
	}
}

// TestKill kills a process that changes a volume, at random moments: the
// passphrase that it does not touch opens the volume each time.
func TestKill(t *testing.T) {
	t.Parallel()
	path := blank(t, 2<<20)
	f, err := luks2.OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, key, err := luks2.Format(t.Context(), f, text(t, "first"), luks2.FormatOptions{KeySize: 32, DataOffset: 1 << 20, KDF: cheap, Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	wiped(t, key)
	_, missing := exec.LookPath("cryptsetup")
	damaged, listed := 0, 0
	for i, start := 0, time.Now(); i < 15 && (i < 3 || time.Since(start) < 6*time.Second); i++ {
		killOne(t, path)
		h := reopen(t, f)
		if h.Damage() != nil {
			damaged++
		}
		if err := h.Opens(t.Context(), 0, text(t, "first"), key); err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		if _, err := h.Keyslot(1); err == nil {
			listed++
		}
		if missing == nil && i%3 == 0 {
			if err := theyOpen(t, path, 0, "first"); err != nil {
				t.Fatalf("kill %d: %v", i, err)
			}
		}
	}
	t.Logf("%d times a copy was left damaged or older, %d times the keyslot was listed", damaged, listed)
}

// killOne lets a victim commit at least once, and kills it a random moment later.
func killOne(t *testing.T, path string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), killEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil || first != "committed\n" {
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
