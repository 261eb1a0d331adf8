package argon2

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"

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
var _ = fmt.Sprint
var _ = rand.N[int]
var _ context.Context
var _ = errors.Is
var _ = syscall.ENOMEM
var _ = runtime.GC
