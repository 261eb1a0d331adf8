package zstd_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	klauspost "github.com/klauspost/compress/zstd"

	"github.com/lockport/lockport/internal/zstd"
)

func decoder(t testing.TB) *klauspost.Decoder {
	t.Helper()
	d, err := klauspost.NewReader(nil, klauspost.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// sources are blocks of many sorts, by name.
func sources(t testing.TB) map[string][]byte {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{"code": code[:min(len(code), 400_000)]}
	for _, n := range []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 100, 255, 256, 257, 1000, 1023, 1024, 4096, 65791, 65792, 131073} {
		out[fmt.Sprint("text of ", n)] = text(n, 1)
		out[fmt.Sprint("noise of ", n)] = noise(n, 256)
		out[fmt.Sprint("two letters of ", n)] = noise(n, 2)
		out[fmt.Sprint("zeros of ", n)] = make([]byte, n)
		out[fmt.Sprint("period of ", n)] = []byte(strings.Repeat("abcdefg", n/7+1)[:n])
		out[fmt.Sprint("half noise of ", n)] = append(noise(n/2, 256), text(n-n/2, 2)...)
		out[fmt.Sprint("noise twice of ", n)] = append(noise(n/2, 256), noise(n/2, 256)...)
	}
	out["long text"] = text(300_000, 3)
	out["long zeros"] = make([]byte, zstd.MaxSource)
	out["two letters, long"] = noise(300_000, 2) // found matches that were none, in the second block
	return out
}

func noise(n, letters int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), uint64(letters)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(letters))
	}
	return b
}

func text(n int, seed uint64) []byte {
	var b bytes.Buffer
	r := rand.New(rand.NewPCG(uint64(n), seed))
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d of %x%s\n", r.IntN(1000), r.IntN(1<<r.IntN(30)), strings.Repeat(" and on", r.IntN(40)))
	}
	return b.Bytes()[:n]
}

var efforts = []zstd.Effort{{}, {Depth: 16, Nice: 64}, {Depth: 64, Nice: 256}}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	d := decoder(t)
	all := sources(t)
	for _, effort := range efforts {
		e := zstd.NewEncoder(effort)
		for name, src := range all {
			packed := e.Encode([]byte("before"), src)
			if !bytes.HasPrefix(packed, []byte("before")) {
				t.Fatalf("%s: what was there is gone", name)
			}
			packed = packed[len("before"):]
			got, err := d.DecodeAll(packed, nil)
			if err != nil || !bytes.Equal(got, src) {
				t.Errorf("%v: %s: %v, equal %v", effort, name, err, bytes.Equal(got, src))
			}
			if most := len(src) + 10 + 3*(len(src)>>17+1); len(packed) > most {
				t.Errorf("%v: %s: %d bytes become %d", effort, name, len(src), len(packed))
			}
		}
	}
}

// What an encoder makes depends on nothing it made before.
func TestSameEveryTime(t *testing.T) {
	t.Parallel()
	used := zstd.NewEncoder(efforts[1])
	for name, src := range sources(t) {
		if !bytes.Equal(used.Encode(nil, src), zstd.NewEncoder(efforts[1]).Encode(nil, src)) {
			t.Errorf("%s is different with a used encoder", name)
		}
	}
}

// A block whose first half is of other symbols than its second is divided: together
// the halves take little more than each for itself.
func TestDivided(t *testing.T) {
	t.Parallel()
	e := zstd.NewEncoder(zstd.Effort{Depth: 16, Nice: 64})
	digits := func(seed uint64, from byte) []byte { // as literals, with some sequences between
		r := rand.New(rand.NewPCG(seed, 0))
		var b []byte
		for len(b) < 60_000 {
			for range 20 {
				b = append(b, from+byte(r.IntN(16)))
			}
			if at := len(b) - 5 - r.IntN(min(1000, len(b)-4)); at > 0 {
				b = append(b, b[at:at+4]...)
			}
		}
		return b
	}
	one, two := digits(1, 0), digits(2, 128)
	alone := len(e.Encode(nil, one)) + len(e.Encode(nil, two))
	both := e.Encode(nil, append(bytes.Clone(one), two...))
	if len(both) > alone+alone/12 {
		t.Errorf("together %d bytes, each for itself %d", len(both), alone)
	}
	got, err := decoder(t).DecodeAll(both, nil)
	if err != nil || !bytes.Equal(got, append(one, two...)) {
		t.Error("it does not come back:", err)
	}
}
