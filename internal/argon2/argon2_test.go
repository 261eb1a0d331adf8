package argon2

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	xargon2 "golang.org/x/crypto/argon2"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/secret/secrettest"
)

func TestMain(m *testing.M) { secrettest.Main(m) }

// TestRFC checks the vectors of RFC 9106 sections 5.2 and 5.3.
func TestRFC(t *testing.T) {
	t.Parallel()
	in := input{
		pass: bytes.Repeat([]byte{1}, 32),
		salt: bytes.Repeat([]byte{2}, 16),
		key:  bytes.Repeat([]byte{3}, 8),
		data: bytes.Repeat([]byte{4}, 12),
	}
	for variant, want := range map[Variant]string{
		I:  "c814d9d1dc7f37aa13f0d77f2494bda1c8de6b016dd388d29952a4c4672b6ce8",
		ID: "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659",
	} {
		for name, c := range compressors() {
			got, err := derive(t.Context(), Params{variant, 3, 32, 4}, in, 32, c)
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(got.Reveal()) != want {
				t.Errorf("%v, %s: got %x, want %s", variant, name, got.Reveal(), want)
			}
			got.Wipe()
		}
	}
}

// compressors returns the block compressions that this machine can run.
func compressors() map[string]compressFunc {
	return map[string]compressFunc{"best": compressor(), "generic": compressGeneric}
}

// same derives with this package and with x/crypto.
func same(t *testing.T, p Params, password, salt []byte, n int) {
	t.Helper()
	other := xargon2.IDKey
	if p.Variant == I {
		other = xargon2.Key
	}
	want := other(password, salt, p.Time, p.MemoryKiB, p.Threads, uint32(n))
	pass := secret.Copy(password)
	defer pass.Wipe()
	got, err := Key(t.Context(), p, pass, salt, n)
	if err != nil {
		t.Errorf("%+v: %v", p, err)
		return
	}
	defer got.Wipe()
	if !bytes.Equal(got.Reveal(), want) {
		t.Errorf("%+v, %d bytes: got %x, want %x", p, n, got.Reveal(), want)
	}
}

func TestAgainstOther(t *testing.T) {
	t.Parallel()
	for _, variant := range []Variant{I, ID} {
		for threads := uint8(1); threads <= 8; threads++ {
			least := 8 * uint32(threads)
			for _, m := range []uint32{least, least + 1, least + 4*uint32(threads) - 1, 12 * uint32(threads), 1021, 2080, 4099} {
				if m < least {
					continue
				}
				for _, passes := range []uint32{1, 2, 3} {
					same(t, Params{variant, passes, m, threads}, []byte("swordfish"), []byte("some salt"), 32)
				}
			}
		}
	}
}

func TestLengths(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 5, 31, 32, 33, 63, 64, 65, 95, 96, 97, 128, 129, 1000} {
		same(t, Params{ID, 1, 32, 4}, []byte("swordfish"), []byte("some salt"), n)
	}
	for _, n := range []int{0, 1, 7, 8, 127, 128, 129, 1000} {
		same(t, Params{ID, 1, 32, 4}, bytes.Repeat([]byte("p"), n), []byte("some salt"), 32)
		same(t, Params{I, 1, 32, 4}, []byte("swordfish"), bytes.Repeat([]byte("s"), n), 32)
	}
}

// FuzzKey compares whole derivations with those of x/crypto.
func FuzzKey(f *testing.F) {
	for seed := range uint64(50) {
		f.Add([]byte("swordfish"), []byte("some salt"), seed)
	}
	f.Fuzz(func(t *testing.T, password, salt []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		threads := uint8(1 + r.IntN(8))
		p := Params{
			Variant:   Variant(1 + r.IntN(2)),
			Time:      1 + r.Uint32N(4),
			MemoryKiB: 8*uint32(threads) + r.Uint32N(3000),
			Threads:   threads,
		}
		same(t, p, password, salt, 4+r.IntN(200))
	})
}

func TestParameters(t *testing.T) {
	t.Parallel()
	good := Params{ID, 1, 32, 4}
	pass := secret.Copy([]byte("swordfish"))
	t.Cleanup(pass.Wipe)
	for name, c := range map[string]struct {
		change func(*Params)
		n      int
		want   string
	}{
		"variant 0":    {func(p *Params) { p.Variant = 0 }, 32, "argon2 variant 0 with 32 KiB of memory: unknown variant"},
		"variant 3":    {func(p *Params) { p.Variant = 3 }, 32, "argon2 variant 3 with 32 KiB of memory: unknown variant"},
		"time":         {func(p *Params) { p.Time = 0 }, 32, "argon2id with 32 KiB of memory: the number of passes is zero"},
		"threads":      {func(p *Params) { p.Threads = 0 }, 32, "argon2id with 32 KiB of memory: the number of threads is zero"},
		"memory":       {func(p *Params) { p.MemoryKiB = 31 }, 32, "argon2id with 31 KiB of memory: 4 threads need at least 32 KiB"},
		"argon2i":      {func(p *Params) { p.Variant, p.MemoryKiB = I, 0 }, 32, "argon2i with 0 KiB of memory: 4 threads need at least 32 KiB"},
		"short key":    {func(*Params) {}, 3, "argon2id with 32 KiB of memory: a key of 3 bytes was asked for"},
		"negative key": {func(*Params) {}, -1, "argon2id with 32 KiB of memory: a key of -1 bytes was asked for"},
		"good":         {func(*Params) {}, 4, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := good
			c.change(&p)
			key, err := Key(t.Context(), p, pass, []byte("some salt"), c.n)
			defer key.Wipe()
			if c.want == "" && err == nil {
				return
			}
			if err == nil || err.Error() != c.want || key != nil {
				t.Errorf("got %v, %v, want error %q", key, err, c.want)
			}
		})
	}
}

// TestCancel ends the context in the middle of a derivation that would take
// years, and counts the blocks that are filled after that.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{1, 1000, 20000} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var blocks atomic.Int64
		counting := func(out, x, y, z *block, xor bool) {
			if blocks.Add(1) == at {
				cancel()
			}
			compressor()(out, x, y, z, xor)
		}
		p := Params{ID, 1 << 30, 8192, 4}
		key, err := derive(ctx, p, input{salt: []byte("some salt")}, 32, counting)
		if !errors.Is(err, context.Canceled) || key != nil {
			t.Errorf("cancelled at block %d: got %v, %v", at, key, err)
		}
		// Each worker finishes what it holds and the generators of that.
		most := at + int64(runtime.GOMAXPROCS(0)*interleave*(chunk+8))
		if n := blocks.Load(); n > most {
			t.Errorf("cancelled at block %d, filled %d, want at most %d", at, n, most)
		}
	}
}

func TestContextEndsFirst(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	pass := secret.Copy([]byte("swordfish"))
	defer pass.Wipe()
	key, err := Key(ctx, Params{I, 1, 64, 1}, pass, []byte("some salt"), 32)
	if !errors.Is(err, context.DeadlineExceeded) || key != nil {
		t.Errorf("got %v, %v", key, err)
	}
}

// TestWipe looks at the working memory after a derivation that ends, and after
// one that is cancelled when only some of its memory was used.
func TestWipe(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{0, 500, 1500} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var blocks atomic.Int64
		f := newFiller(Params{ID, 2, 1024, 3}, 2, func(out, x, y, z *block, xor bool) {
			if blocks.Add(1) == at {
				cancel()
			}
			// Under the race detector this sees each read and each write.
			compressGeneric(out, x, y, z, xor)
		})
		page := make([]byte, f.size())
		f.use(page)
		key, err := f.key(ctx, Params{ID, 2, 1024, 3}, input{salt: []byte("some salt")}, 32)
		key.Wipe()
		if (err != nil) != (at > 0) {
			t.Fatal(err)
		}
		if bytes.Count(page, []byte{0}) > len(page)*7/10 {
			t.Errorf("cancelled at %d: the memory was hardly used", at)
		}
		f.wipe()
		if bytes.Count(page, []byte{0}) != len(page) {
			t.Errorf("cancelled at %d: the memory is not wiped", at)
		}
	}
}

func BenchmarkKey(b *testing.B) {
	pass := secret.Copy([]byte("swordfish"))
	defer pass.Wipe()
	for _, variant := range []Variant{I, ID} {
		for _, mib := range []uint32{1, 64} {
			b.Run(fmt.Sprintf("%v/%dMiB", variant, mib), func(b *testing.B) {
				for b.Loop() {
					key, err := Key(b.Context(), Params{variant, 4, mib << 10, 4}, pass, []byte("some salt"), 32)
					if err != nil {
						b.Fatal(err)
					}
					key.Wipe()
				}
			})
		}
	}
}
