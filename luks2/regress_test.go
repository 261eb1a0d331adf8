package luks2_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// TestRepairKeepsChanges: what waits for a commit must not get to the disk by
// way of a repair, under the old sequence number and without key material.
func TestRepairKeepsChanges(t *testing.T) {
	t.Parallel()
	image := imageWith(t, "first copy bad")
	s := luks2.NewMemory(image)
	h := reopen(t, s)
	if err := errors.Join(h.RemoveSlot(0), h.SetLabel("waiting"), h.Repair(t.Context())); err != nil {
		t.Fatal(err)
	}
	now := reopen(t, s)
	if err := errors.Join(now.Damage(), weOpen(t, now, 0, "first")); err != nil || now.Label() != "base" {
		t.Errorf("after the repair: %v, label %q", err, now.Label())
	}
	if err := h.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if now = reopen(t, s); now.Label() != "waiting" || !errors.Is(weOpen(t, now, 0, "first"), luks2.ErrNoKeyslot) {
		t.Errorf("after the commit: label %q", now.Label())
	}
}

// TestUnboundDigests: a digest's number is used again, for another key.
func TestUnboundDigests(t *testing.T) {
	t.Parallel()
	s, h, _ := formatted(t, luks2.FormatOptions{})
	a, b := wiped(t, secret.Random(32)), wiped(t, secret.Random(32))
	add := func(key *secret.Bytes, id int) {
		t.Helper()
		o := luks2.SlotOptions{ID: id, KDF: luks2.Minimal(), Unbound: true}
		if _, err := h.AddSlot(t.Context(), key, text(t, "pass"), o); err != nil {
			t.Fatal(err)
		}
		if err := h.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	add(a, 1)
	if err := errors.Join(h.RemoveSlot(1), h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	add(b, 1)
	add(a, 2)
	h = reopen(t, s)
	for slot, want := range map[int]*secret.Bytes{1: b, 2: a} {
		key, err := h.VolumeKey(t.Context(), slot, text(t, "pass"))
		if err != nil || !wiped(t, key).Equal(want) {
			t.Errorf("keyslot %d: %v", slot, err)
		}
	}
	if n := len(h.Digests()); n != 3 {
		t.Errorf("%d digests for three keys", n)
	}
}

// TestFindUntried tells a wrong passphrase from keyslots that were never tried.
func TestFindUntried(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		limits luks2.Limits
		tried  bool
	}{
		{luks2.Limits{KDFMemory: 16 << 10, KDFIterations: 999}, false},
		{luks2.Limits{KDFMemory: 16 << 10}, true},
	} {
		h, err := luks2.Open(t.Context(), luks2.NewMemory(baseImage(t)), luks2.WithLimits(v.limits))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = h.Find(t.Context(), text(t, "wrong"))
		if !errors.Is(err, luks2.ErrLimit) || errors.Is(err, luks2.ErrPassphrase) != v.tried {
			t.Errorf("%+v: %v", v.limits, err)
		}
	}
}

// TestReadNothing asks a reader for no bytes.
func TestReadNothing(t *testing.T) {
	t.Parallel()
	s, h, key := formatted(t, luks2.FormatOptions{})
	r, err := h.NewReader(s, 2<<20, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 1, 511, 4096} {
		if n, err := r.ReadAt(nil, at); n != 0 || err != nil {
			t.Errorf("at %d: %d, %v", at, n, err)
		}
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read before the start")
	}
}

// TestCopyTo writes the plaintext in order, whatever the piece, and stops when
// told to or when nothing takes it.
func TestCopyTo(t *testing.T) {
	t.Parallel()
	s, h, key := formatted(t, luks2.FormatOptions{})
	plain := make([]byte, 1<<20)
	for i := range plain {
		plain[i] = byte(i * i >> 5)
	}
	encryptXTS(t, s, key, plain, 1<<20, 512)
	r, err := h.NewReader(s, 2<<20, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []int{1 << 20, 100_000, 65536, 4 << 20} {
		var out bytes.Buffer
		if err := r.CopyTo(t.Context(), &out, piece); err != nil || !bytes.Equal(out.Bytes(), plain) {
			t.Errorf("pieces of %d: %d bytes, %v", piece, out.Len(), err)
		}
	}
	if err := r.CopyTo(t.Context(), fullWriter{}, 4096); !errors.Is(err, errPower) {
		t.Errorf("nothing takes it: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.CopyTo(ended, io.Discard, 4096); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	short, err := h.NewReader(deaf{}, 2<<20, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := short.CopyTo(t.Context(), io.Discard, 4096); !errors.Is(err, errDeaf) {
		t.Errorf("nothing to read: %v", err)
	}
}

// TestFormatKeySizes gives each cipher the key that the kernel takes.
func TestFormatKeySizes(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		cipher string
		given  int
		want   int // 0 for refused
	}{
		{"aes-xts-plain64", 0, 64}, {"aes-xts-plain64", 32, 32}, {"aes-xts-plain64", 16, 0}, {"serpent-xts-plain64", 0, 64},
		{"aes-cbc-essiv:sha256", 0, 32}, {"aes-cbc-essiv:sha256", 24, 24}, {"aes-cbc-essiv:sha256", 64, 0},
		{"xchacha20,aes-adiantum-plain64", 0, 32}, {"xchacha20,aes-adiantum-plain64", 64, 0},
		{"aes-lrw-benbi", 48, 48}, {"cipher_null-ecb", 0, 0}, {"aes-ecb", 32, 0},
	} {
		s := luks2.NewMemory(make([]byte, 320<<10))
		h, key, err := luks2.Format(t.Context(), s, text(t, "x"), luks2.FormatOptions{
			Cipher: v.cipher, KeySize: v.given, DataOffset: 320 << 10, KDF: luks2.Minimal(), Fast: true})
		if v.want == 0 {
			if !errors.Is(err, luks2.ErrUnsupported) {
				t.Errorf("%s with %d: %v", v.cipher, v.given, err)
			}
			continue
		}
		if err != nil || wiped(t, key).Len() != v.want {
			t.Errorf("%s with %d: %d bytes, %v", v.cipher, v.given, key.Len(), err)
			continue
		}
		if err := h.Opens(t.Context(), 0, text(t, "x"), key); err != nil {
			t.Errorf("%s: %v", v.cipher, err)
		}
	}
}

// TestFormatOver leaves nothing of an old header with larger copies behind.
func TestFormatOver(t *testing.T) {
	t.Parallel()
	s, _, _ := formatted(t, luks2.FormatOptions{HeaderSize: 256 << 10})
	_, key, err := luks2.Format(t.Context(), s, text(t, "new"), luks2.FormatOptions{
		Cipher: "aes-cbc-essiv:sha256", KeySize: 16, DataOffset: baseSize, KDF: luks2.Minimal(), Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	key.Wipe()
	image := contents(t, s)
	clear(image[:2*copySize])
	if _, err := luks2.Open(t.Context(), luks2.NewMemory(image)); !errors.Is(err, luks2.ErrNotLUKS2) {
		t.Errorf("without the new header: %v", err)
	}
}

// TestBadOptions refuses what would make a bad volume or keyslot, and leaves
// the header as it was.
func TestBadOptions(t *testing.T) {
	t.Parallel()
	empty := luks2.NewMemory(make([]byte, 2<<20))
	for name, o := range map[string]luks2.FormatOptions{
		"UUID":        {UUID: "x"},
		"label":       {Label: strings.Repeat("x", 48)},
		"subsystem":   {Subsystem: "a\x00b"},
		"header size": {HeaderSize: 5 << 12},
		"no room":     {DataOffset: 64 << 10},
		"odd offset":  {DataOffset: 1<<20 + 1},
		"sector size": {SectorSize: 1000},
		"KDF":         {KDF: luks2.KDF{Type: "scrypt"}},
		"KDF hash":    {KDF: luks2.KDF{Type: luks2.PBKDF2, Hash: "md5", Iterations: 1000}},
		"iterations":  {KDF: luks2.KDF{Type: luks2.PBKDF2, Hash: "sha256", Iterations: 999}},
		"passes":      {KDF: luks2.KDF{Type: luks2.Argon2id, Time: 3, Memory: 32, CPUs: 1}},
		"memory":      {KDF: luks2.KDF{Type: luks2.Argon2id, Time: 4, Memory: 31, CPUs: 1}},
		"lanes":       {KDF: luks2.KDF{Type: luks2.Argon2id, Time: 4, Memory: 64, CPUs: 5}},
		"too small":   {DataOffset: 4 << 20},
	} {
		o.Fast = true
		if o.KDF.Type == "" {
			o.KDF = cheap
		}
		_, key, err := luks2.Format(t.Context(), empty, text(t, "x"), o)
		if err == nil || key != nil {
			t.Errorf("%s: formatted", name)
		}
	}
	if !bytes.Equal(contents(t, empty), make([]byte, 2<<20)) {
		t.Error("something was written")
	}
	s, h, key := formatted(t, luks2.FormatOptions{})
	before := h.JSON()
	for name, o := range map[string]luks2.SlotOptions{
		"taken":      {ID: 0, KDF: cheap},
		"negative":   {ID: -2, KDF: cheap},
		"32":         {ID: 32, KDF: cheap},
		"no KDF":     {ID: luks2.AnySlot},
		"priority":   {ID: luks2.AnySlot, KDF: cheap, Priority: 3},
		"null":       {ID: luks2.AnySlot, KDF: cheap, Encryption: "cipher_null-ecb", KeySize: 32},
		"area key":   {ID: luks2.AnySlot, KDF: cheap, Encryption: "aes-xts-plain64", KeySize: 33},
		"over limit": {ID: luks2.AnySlot, KDF: luks2.KDF{Type: luks2.Argon2id, Time: 5000, Memory: 32, CPUs: 1}},
	} {
		if _, err := h.AddSlot(t.Context(), key, text(t, "x"), o); err == nil {
			t.Errorf("%s: added", name)
		}
		if !bytes.Equal(h.JSON(), before) {
			t.Errorf("%s: the header was changed", name)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.AddSlot(ended, key, text(t, "x"), luks2.SlotOptions{ID: 1, KDF: cheap}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := h.Commit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled commit: %v", err)
	}
	for what, err := range map[string]error{
		"label":         h.SetLabel(strings.Repeat("x", 48)),
		"subsystem":     h.SetSubsystem("\x00"),
		"priority":      h.SetPriority(0, 3),
		"priority of 5": h.SetPriority(5, luks2.PriorityPrefer),
		"token 32":      h.SetToken(32, []byte(`{}`)),
		"no token":      h.RemoveToken(0),
		"no keyslot":    h.RemoveSlot(5),
		"note":          h.SetNote(5, luks2.Note{}),
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if h.Label() != "" || !bytes.Equal(h.JSON(), before) || reopen(t, s).SeqID() != h.SeqID() {
		t.Error("the header was changed")
	}
}

// TestNoRoom fills all numbers and all room for keyslots.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	s := luks2.NewMemory(baseImage(t))
	h := reopen(t, s)
	key, err := h.VolumeKey(t.Context(), 1, text(t, "second"))
	if err != nil {
		t.Fatal(err)
	}
	wiped(t, key)
	add := func() error {
		_, err := h.AddSlot(t.Context(), key, text(t, "x"), luks2.SlotOptions{ID: luks2.AnySlot, KDF: luks2.Minimal()})
		return err
	}
	if err := add(); err != nil {
		t.Fatal(err)
	}
	if err := add(); !errors.Is(err, luks2.ErrFull) {
		t.Errorf("a keyslot without room: %v", err)
	}
	if err := h.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The one in the middle makes room again.
	if err := errors.Join(h.RemoveSlot(1), h.Commit(t.Context()), add(), h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	h = reopen(t, s)
	for id, pass := range []string{"first", "x", "x"} {
		if err := h.Opens(t.Context(), id, text(t, pass), key); err != nil {
			t.Error(err)
		}
	}
	for len(h.Tokens()) < luks2.MaxTokens {
		if _, err := h.AddToken([]byte(`{"type":"x","keyslots":[]}`)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.AddToken([]byte(`{"type":"x","keyslots":[]}`)); !errors.Is(err, luks2.ErrFull) {
		t.Errorf("token 33: %v", err)
	}
}
