package luks2_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"
	"sync"
	"testing"

	"github.com/lockport/lockport/luks2"
)

// What the tests know of the binary header, apart from the code under test.
const (
	copySize    = 16 << 10            // of the base image
	areaSize    = 64 << 10            // of its keyslots
	baseSize    = 32<<10 + 3*areaSize // up to its data
	fixedSize   = 4096
	seqAt       = 16
	labelAt     = 24
	sumNameAt   = 72
	saltAt      = 104
	uuidAt      = 168
	positionAt  = 256
	checksumAt  = 448
	checksumEnd = 512
)

// baseImage returns a fresh copy of a small volume with two keyslots, "first"
// and "second", and two tokens.
func baseImage(t testing.TB) []byte {
	t.Helper()
	baseOnce.Do(func() {
		s, h, key := formatted(t, luks2.FormatOptions{Label: "base", UUID: "0b5c1c3e-6b1c-4a11-9d7e-1f2e3d4c5b6a",
			Cipher: "aes-cbc-essiv:sha256", KeySize: 16, DataOffset: baseSize})
		if _, err := h.AddSlot(t.Context(), key, text(t, "second"), luks2.SlotOptions{ID: 1, KDF: luks2.Minimal()}); err != nil {
			t.Fatal(err)
		}
		for _, token := range []json.RawMessage{[]byte(`{"type":"x","keyslots":["1"]}`), luks2.KeyringToken("desc", 0)} {
			if _, err := h.AddToken(token); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		base = contents(t, s)[:baseSize]
	})
	if base == nil {
		t.Fatal("no base image")
	}
	return slices.Clone(base)
}

var (
	baseOnce sync.Once
	base     []byte
)

func contents(t testing.TB, s *luks2.Memory) []byte {
	t.Helper()
	size, _ := s.Size()
	b := make([]byte, size)
	if _, err := s.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// headerCopies returns the two copies of an image, as parts of it.
func headerCopies(image []byte) [][]byte {
	size := binary.BigEndian.Uint64(image[8:])
	return [][]byte{image[:size], image[size : 2*size]}
}

// seal makes the checksum of one copy right again.
func seal(area []byte) {
	clear(area[checksumAt:checksumEnd])
	sum := sha256.Sum256(area)
	copy(area[checksumAt:], sum[:])
}

func jsonOf(area []byte) []byte {
	text, _, _ := bytes.Cut(area[fixedSize:], []byte{0})
	return text
}

func setJSON(t testing.TB, area, text []byte) {
	t.Helper()
	if len(text) >= len(area)-fixedSize {
		t.Fatalf("%d bytes of metadata are too long", len(text))
	}
	clear(area[fixedSize:])
	copy(area[fixedSize:], text)
}

// A change breaks one thing in a header copy. Exactly one member is set.
type change struct {
	json func(m map[string]any)
	text func(s string) string
	bin  func(area []byte)
}

// apply changes both copies and seals them.
func (c change) apply(t testing.TB, image []byte) []byte {
	t.Helper()
	for _, area := range headerCopies(image) {
		c.applyTo(t, area)
	}
	return image
}

func (c change) applyTo(t testing.TB, area []byte) {
	t.Helper()
	switch {
	case c.json != nil:
		var m map[string]any
		dec := json.NewDecoder(bytes.NewReader(jsonOf(area)))
		dec.UseNumber()
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		c.json(m)
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		setJSON(t, area, text)
	case c.text != nil:
		setJSON(t, area, []byte(c.text(string(jsonOf(area)))))
	default:
		c.bin(area)
	}
	seal(area)
}

// put sets the member at a path.
func put(value any, path ...string) change {
	return change{json: func(m map[string]any) { within(m, path[:len(path)-1])[path[len(path)-1]] = value }}
}

// drop removes the member at a path.
func drop(path ...string) change {
	return change{json: func(m map[string]any) { delete(within(m, path[:len(path)-1]), path[len(path)-1]) }}
}

// both makes two JSON changes.
func both(a, b change) change {
	return change{json: func(m map[string]any) { a.json(m); b.json(m) }}
}

func within(m map[string]any, path []string) map[string]any {
	for _, name := range path {
		m = m[name].(map[string]any)
	}
	return m
}

// poke overwrites bytes of the binary header.
func poke(at int, b string) change {
	return change{bin: func(area []byte) { copy(area[at:], b) }}
}
