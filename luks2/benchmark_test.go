package luks2_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockport/lockport/luks2"
)

// TestBenchmark measures costs and adds a keyslot with them.
func TestBenchmark(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	_, h, key := formatted(t, luks2.FormatOptions{})
	for i, kind := range []string{luks2.PBKDF2, luks2.Argon2i, luks2.Argon2id} {
		k, err := luks2.Benchmark(t.Context(), kind, 4*time.Millisecond, luks2.Limits{KDFMemory: most})
		if err != nil || k.Type != kind || int64(k.Memory)<<10 > most || k.String() == "" {
			t.Errorf("%s: %s, %v", kind, k, err)
		}
		if kind == luks2.PBKDF2 {
			// Many seconds on a slow machine with the race detector, otherwise.
			k.Iterations = min(k.Iterations, 100_000)
		}
		if _, err := h.AddSlot(t.Context(), key, text(t, "x"), luks2.SlotOptions{ID: i + 1, KDF: k}); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	if _, err := luks2.Benchmark(t.Context(), "scrypt", time.Second, luks2.Limits{}); !errors.Is(err, luks2.ErrUnsupported) {
		t.Errorf("unknown function: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, kind := range []string{luks2.PBKDF2, luks2.Argon2id} {
		if _, err := luks2.Benchmark(ended, kind, time.Second, luks2.Limits{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled: %v", kind, err)
		}
	}
}

// TestCancelPBKDF2 leaves a derivation of minutes at once.
func TestCancelPBKDF2(t *testing.T) {
	t.Parallel()
	image := put(300_000_000, "keyslots", "1", "kdf", "iterations").apply(t, baseImage(t))
	h := reopen(t, luks2.NewMemory(image))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := h.VolumeKey(ctx, 1, text(t, "second")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v to stop", took)
	}
}
