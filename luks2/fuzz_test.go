package luks2_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
)

// small bounds what a header may cost while fuzzing.
var small = luks2.WithLimits(luks2.Limits{KDFMemory: 256 << 10, KDFIterations: 1000, KDFTime: 4})

// A padded store is a header with zeros behind it, so that inputs stay short.
// What is written there is forgotten.
type padded struct{ head []byte }

const paddedSize = 1 << 20

func (p padded) Size() (int64, error) { return paddedSize, nil }

func (p padded) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > paddedSize {
		return 0, io.EOF
	}
	clear(b)
	if off < int64(len(p.head)) {
		copy(b, p.head[off:])
	}
	return len(b), nil
}

func (p padded) WriteAt(b []byte, off int64) (int, error) {
	if off < int64(len(p.head)) {
		copy(p.head[off:], b)
	}
	return len(b), nil
}

func (p padded) Sync() error { return nil }

// sealCopies makes the checksums of both copies right where there are any.
func sealCopies(image []byte) {
	for _, at := range []uint64{0, 16 << 10, 32 << 10} {
		if at+fixedSize > uint64(len(image)) {
			return
		}
		if size := binary.BigEndian.Uint64(image[at+8:]); size >= fixedSize && size <= uint64(len(image))-at {
			seal(image[at:][:size])
		}
	}
}

func seedImages(f *testing.F) [][]byte {
	f.Helper()
	seeds := [][]byte{baseImage(f)[:2*copySize]}
	for _, name := range []string{"v252", "v257", "v257b"} {
		seeds = append(seeds, gunzipHead(f, filepath.Join(vectors, name+".img.gz"), 2*copySize))
	}
	return seeds
}

// FuzzHeader opens whatever it is given, and everything in it.
func FuzzHeader(f *testing.F) {
	for _, image := range seedImages(f) {
		f.Add(image, false)
		f.Add(image, true)
		f.Add(image[:copySize], true)
		f.Add(append(make([]byte, copySize), image[copySize:]...), true)
	}
	f.Fuzz(func(t *testing.T, image []byte, sealed bool) {
		if len(image) > 64<<10 {
			t.Skip()
		}
		// Room for both copies, which a commit writes.
		image = append(bytes.Clone(image), make([]byte, 64<<10-len(image))...)
		if sealed {
			sealCopies(image)
		}
		s := padded{image}
		h, err := luks2.Open(t.Context(), s, small)
		if err != nil {
			return
		}
		exercise(t, h)
		if err := h.SetLabel("fuzz"); err != nil {
			return
		}
		if err := h.Commit(t.Context()); err != nil {
			if !errors.Is(err, luks2.ErrAmbiguous) {
				t.Errorf("a header that opens can't be written: %v", err)
			}
			return
		}
		if 2*h.Size() > int64(len(image)) {
			return
		}
		if h, err = luks2.Open(t.Context(), s); err != nil || h.Label() != "fuzz" || h.Damage() != nil {
			t.Errorf("after writing: %v", err)
		}
	})
}

func exercise(t *testing.T, h *luks2.Header) {
	pass := text(t, "pass")
	for i, k := range h.Keyslots() {
		if i == 2 {
			break
		}
		key, err := h.VolumeKey(t.Context(), k.ID, pass)
		key.Wipe()
		if err == nil {
			t.Error("zeros open with a passphrase")
		}
		_, _ = k.KDF.String(), k.Priority.String()
	}
	for _, token := range h.Tokens() {
		token.KeyringDescription()
	}
	_ = h.Damage()
	if table, err := h.Table("name", luks2.Activation{Device: "/dev/x", Size: 1 << 20}); err == nil {
		if params := table.Params(table.KeyringKey(), "1:2"); strings.ContainsAny(params, "\n\x00") {
			t.Errorf("table %q", params)
		}
	}
	key := text(t, "12345678901234567890123456789012")
	if r, err := h.NewReader(bytes.NewReader(make([]byte, 1<<20)), 1<<20, key); err == nil {
		if _, err := r.ReadAt(make([]byte, 100), r.Size()-50); err != io.EOF {
			t.Errorf("reading the end: %v", err)
		}
	}
}

// FuzzMetadata puts any text into a header that is right otherwise.
func FuzzMetadata(f *testing.F) {
	base := baseImage(f)[:2*copySize]
	for _, image := range seedImages(f) {
		f.Add(jsonOf(image[:copySize]))
	}
	for _, v := range brokenRules {
		if v.bin == nil {
			image := v.apply(f, bytes.Clone(base))
			f.Add(jsonOf(image[:copySize]))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) >= copySize-fixedSize || bytes.IndexByte(text, 0) >= 0 {
			t.Skip()
		}
		image := bytes.Clone(base)
		change{text: func(string) string { return string(text) }}.apply(t, image)
		h, err := luks2.Open(t.Context(), padded{image}, small)
		if err != nil {
			return
		}
		if !json.Valid(text) || !bytes.Equal(text, h.JSON()) {
			t.Errorf("accepted %q, which is no JSON or not what was read", text)
		}
		exercise(t, h)
		if _, err := h.AddToken([]byte(`{"type":"fuzz","keyslots":[]}`)); err != nil {
			return
		}
		var before, after map[string]any
		if err := errors.Join(json.Unmarshal(text, &before), json.Unmarshal(h.JSON(), &after)); err != nil {
			t.Fatal(err)
		}
		if len(before) != len(after) {
			t.Errorf("a token changed the number of members of %s to %s", text, h.JSON())
		}
	})
}
