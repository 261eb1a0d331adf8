package luks2_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// TestSamples opens every keyslot whose passphrase is known of the volumes made
// by cryptsetup and systemd.
func TestSamples(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(vectors, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"v252", "v257", "v257b"} {
		var want struct {
			Image     string            `json:"image"`
			VolumeKey string            `json:"volume_key_hex"`
			Slots     map[string]string `json:"slot_passphrases"`
		}
		if err := json.Unmarshal(all[name], &want); err != nil || len(want.Slots) == 0 {
			t.Fatalf("%s: %v, %d slots", name, err, len(want.Slots))
		}
		h := reopen(t, luks2.NewMemory(gunzip(t, filepath.Join(vectors, want.Image))))
		if err := h.Damage(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		sameMetadata(t, h, filepath.Join(vectors, name+".metadata.json"))
		for slot, pass := range want.Slots {
			id, err := strconv.Atoi(slot)
			if err != nil {
				t.Fatal(err)
			}
			key, err := h.VolumeKey(t.Context(), id, text(t, pass))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got := hex.EncodeToString(wiped(t, key).Reveal()); got != want.VolumeKey {
				t.Errorf("%s: keyslot %d: another volume key", name, id)
			}
			// Trying all that stand before the last one takes long.
			if id > 2 {
				continue
			}
			if found, key, err := h.Find(t.Context(), text(t, pass)); err != nil || found != id {
				t.Errorf("%s: finding keyslot %d: %d, %v", name, id, found, err)
			} else {
				key.Wipe()
			}
		}
		if _, _, err := h.Find(t.Context(), text(t, "wrong")); !errors.Is(err, luks2.ErrPassphrase) {
			t.Errorf("%s: wrong passphrase: %v", name, err)
		}
	}
}

// sameMetadata compares with the dump that cryptsetup made.
func sameMetadata(t *testing.T, h *luks2.Header, dump string) {
	t.Helper()
	b, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	var want, got bytes.Buffer
	if err := errors.Join(json.Compact(&want, b), json.Compact(&got, h.JSON())); err != nil {
		t.Fatal(err)
	}
	if want.String() != got.String() {
		t.Errorf("metadata differs from %s", dump)
	}
}

func TestFormatAndSlots(t *testing.T) {
	t.Parallel()
	ciphers := []string{"", "aes-xts-plain64", "twofish-xts-plain64", "aes-cbc-essiv:sha256", "aes-cbc-essiv:sha256", ""}
	keySizes := []int{0, 64, 64, 32, 16, 0}
	for i, kdf := range []luks2.KDF{
		cheap,
		{Type: luks2.Argon2i, Time: 4, Memory: 64, CPUs: 2},
		{Type: luks2.PBKDF2, Hash: "sha1", Iterations: 1000},
		{Type: luks2.PBKDF2, Hash: "sha256", Iterations: 1000},
		{Type: luks2.PBKDF2, Hash: "sha384", Iterations: 1000},
		luks2.Minimal(),
	} {
		name := kdf.String() + " " + ciphers[i]
		s, h, key := formatted(t, luks2.FormatOptions{Label: "top", SectorSize: 4096})
		pass := text(t, "second")
		id, err := h.AddSlot(t.Context(), key, pass, luks2.SlotOptions{
			ID: luks2.AnySlot, KDF: kdf, Encryption: ciphers[i], KeySize: keySizes[i]})
		if err != nil || id != 1 {
			t.Fatalf("%s: adding: %d, %v", name, id, err)
		}
		// Not yet written, but it opens from memory.
		if err := h.Opens(t.Context(), id, pass, key); err != nil {
			t.Error(err)
		}
		if err := h.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		h = reopen(t, s)
		for slot, pass := range []string{"first", "second"} {
			if err := h.Opens(t.Context(), slot, text(t, pass), key); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := h.Opens(t.Context(), 1, text(t, "first"), key); !errors.Is(err, luks2.ErrPassphrase) {
			t.Errorf("wrong passphrase: %v", err)
		}
		if h.SeqID() != 3 || h.Label() != "top" || h.Damage() != nil {
			t.Errorf("sequence %d, label %q, damage %v", h.SeqID(), h.Label(), h.Damage())
		}
	}
}

func TestRemoveSlot(t *testing.T) {
	t.Parallel()
	s, h, key := formatted(t, luks2.FormatOptions{})
	for _, pass := range []string{"second", "third"} {
		if _, err := h.AddSlot(t.Context(), key, text(t, pass), luks2.SlotOptions{ID: luks2.AnySlot, KDF: luks2.Minimal()}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.AddToken([]byte(`{"type":"x","keyslots":["1","2"],"odd":{"b":1,"a":[2]}}`)); err != nil {
		t.Fatal(err)
	}
	if err := h.RemoveSlot(1); err == nil {
		t.Error("adding and removing went into one commit")
	}
	if err := h.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	k, err := h.Keyslot(1)
	if err != nil {
		t.Fatal(err)
	}
	before := make([]byte, k.Area.Size)
	after := make([]byte, k.Area.Size)
	_, _ = s.ReadAt(before, k.Area.Offset)
	if err := errors.Join(h.RemoveSlot(1), h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	_, _ = s.ReadAt(after, k.Area.Offset)
	if same := equalBytes(before, after); same > len(before)/100 {
		t.Errorf("%d of %d bytes of key material survived", same, len(before))
	}
	h = reopen(t, s)
	if _, err := h.VolumeKey(t.Context(), 1, text(t, "second")); !errors.Is(err, luks2.ErrNoKeyslot) {
		t.Errorf("removed keyslot: %v", err)
	}
	token, err := h.Token(0)
	if err != nil || string(token.JSON) != `{"type":"x","keyslots":["2"],"odd":{"b":1,"a":[2]}}` {
		t.Errorf("token: %s, %v", token.JSON, err)
	}
	// The freed number and place are used again.
	id, err := h.AddSlot(t.Context(), key, text(t, "fourth"), luks2.SlotOptions{ID: luks2.AnySlot, KDF: luks2.Minimal()})
	again, _ := h.Keyslot(id)
	if err != nil || id != 1 || again.Area.Offset != k.Area.Offset {
		t.Errorf("reuse: %d at %d, %v", id, again.Area.Offset, err)
	}
}

func equalBytes(a, b []byte) (n int) {
	for i := range a {
		if a[i] == b[i] {
			n++
		}
	}
	return n
}

func TestPrioritiesAndUnbound(t *testing.T) {
	t.Parallel()
	s, h, key := formatted(t, luks2.FormatOptions{})
	other := wiped(t, secret.Random(48))
	add := func(k *secret.Bytes, pass string, o luks2.SlotOptions) int {
		o.ID, o.KDF = luks2.AnySlot, luks2.Minimal()
		id, err := h.AddSlot(t.Context(), k, text(t, pass), o)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	add(key, "same", luks2.SlotOptions{})
	preferred := add(key, "same", luks2.SlotOptions{Priority: luks2.PriorityPrefer})
	ignored := add(key, "hidden", luks2.SlotOptions{})
	unbound := add(other, "foreign", luks2.SlotOptions{Unbound: true})
	if err := errors.Join(h.SetPriority(ignored, luks2.PriorityIgnore), h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	h = reopen(t, s)
	if id, k, err := h.Find(t.Context(), text(t, "same")); err != nil || id != preferred {
		t.Errorf("preferred: %d, %v", id, err)
	} else {
		k.Wipe()
	}
	for _, pass := range []string{"hidden", "foreign"} {
		if _, _, err := h.Find(t.Context(), text(t, pass)); !errors.Is(err, luks2.ErrPassphrase) {
			t.Errorf("%s: %v", pass, err)
		}
	}
	if err := h.Opens(t.Context(), ignored, text(t, "hidden"), key); err != nil {
		t.Error(err)
	}
	got, err := h.VolumeKey(t.Context(), unbound, text(t, "foreign"))
	if err != nil || !wiped(t, got).Equal(other) || h.Bound(unbound) {
		t.Errorf("unbound: %v", err)
	}
	if _, err := h.AddSlot(t.Context(), other, text(t, "x"), luks2.SlotOptions{ID: luks2.AnySlot, KDF: cheap}); !errors.Is(err, luks2.ErrPassphrase) {
		t.Errorf("a foreign key was taken for that of the data: %v", err)
	}
	if err := errors.Join(h.RemoveSlot(unbound), h.Commit(t.Context())); err != nil || len(h.Digests()) != 1 {
		t.Errorf("digest of the unbound slot: %d left, %v", len(h.Digests()), err)
	}
}

func TestNotesAndTokens(t *testing.T) {
	t.Parallel()
	s, h, _ := formatted(t, luks2.FormatOptions{})
	note := luks2.Note{Name: "laptop, Käthe", Created: time.Date(2026, 11, 23, 19, 0, 0, 0, time.UTC), Method: "passphrase"}
	if err := h.SetNote(0, note); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"two\nlines", "\x1b[31m", string(make([]byte, 65)), "\xff"} {
		if err := h.SetNote(0, luks2.Note{Name: name}); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	id, err := h.AddToken(luks2.KeyringToken("my key", 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		`{"type":"x"}`, `{"keyslots":[]}`, `{"type":"x","keyslots":["7"]}`, `[]`, `{`, `{"type":"x","keyslots":[],"type":"y"}`,
		`{"type":"luks2-keyring","keyslots":[]}`, `{"type":"luks2-keyring","keyslots":[],"key_description":"a","b":1}`,
	} {
		if _, err := h.AddToken(json.RawMessage(bad)); err == nil {
			t.Errorf("token %s was taken", bad)
		}
	}
	if err := errors.Join(h.SetFlags("allow-discards"), h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	h = reopen(t, s)
	k, _ := h.Keyslot(0)
	if k.Note != note {
		t.Errorf("note: %+v", k.Note)
	}
	token, err := h.Token(id)
	if name, ok := token.KeyringDescription(); err != nil || !ok || name != "my key" {
		t.Errorf("keyring token: %q, %v", name, err)
	}
	if flags := h.Flags(); len(flags) != 1 || flags[0] != "allow-discards" {
		t.Errorf("flags: %v", flags)
	}
	if err := errors.Join(h.RemoveToken(id), h.SetNote(0, luks2.Note{}), h.SetFlags()); err != nil {
		t.Error(err)
	}
	if bytes.Contains(h.JSON(), []byte("lockport")) || bytes.Contains(h.JSON(), []byte("flags")) {
		t.Errorf("left behind: %s", h.JSON())
	}
}

// TestReader encrypts by hand what the reader has to find.
func TestReader(t *testing.T) {
	t.Parallel()
	for _, sector := range []int{512, 4096} {
		s, h, key := formatted(t, luks2.FormatOptions{SectorSize: sector})
		plain := make([]byte, 1<<20)
		for i := range plain {
			plain[i] = byte(i * i >> 7)
		}
		encryptXTS(t, s, key, plain, 1<<20, sector)
		r, err := h.NewReader(s, 2<<20, key)
		if err != nil || r.Size() != 1<<20 {
			t.Fatal(r.Size(), err)
		}
		got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("sector size %d: plaintext differs, %v", sector, err)
		}
		for _, at := range []struct{ off, n int }{{0, 1}, {511, 2}, {4095, 4097}, {1<<20 - 1, 1}, {12345, 100000}} {
			b := make([]byte, at.n)
			if n, err := r.ReadAt(b, int64(at.off)); err != nil || n != at.n || !bytes.Equal(b, plain[at.off:at.off+at.n]) {
				t.Errorf("sector size %d: %d bytes at %d: %d, %v", sector, at.n, at.off, n, err)
			}
		}
		if n, err := r.ReadAt(make([]byte, 10), 1<<20-4); n != 4 || err != io.EOF {
			t.Errorf("at the end: %d, %v", n, err)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	h := reopen(t, luks2.NewMemory(gunzip(t, filepath.Join(vectors, "v257.img.gz"))))
	table, err := h.Table("root", luks2.Activation{Device: "/dev/sda2", Size: 256 << 20, Flags: []string{"no-read-workqueue", "allow-discards"}})
	if err != nil {
		t.Fatal(err)
	}
	const uuid = "11111111-2222-3333-4444-555555550257"
	if got := table.Params(table.KeyringKey(), "254:16"); got !=
		"aes-xts-plain64 :32:logon:cryptsetup:"+uuid+"-d0 0 254:16 6144 3 allow_discards no_read_workqueue sector_size:4096" {
		t.Error(got)
	}
	if table.UUID != "CRYPT-LUKS2-11111111222233334444555555550257-root" || table.Length != 518144 {
		t.Errorf("%s, %d sectors", table.UUID, table.Length)
	}
	if _, err := h.Table("root", luks2.Activation{Size: 1 << 20}); err == nil {
		t.Error("a device that ends before the data was taken")
	}
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	s, h, key := formatted(t, luks2.FormatOptions{})
	var backup bytes.Buffer
	if err := h.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	if _, err := h.AddSlot(t.Context(), key, text(t, "second"), luks2.SlotOptions{ID: luks2.AnySlot, KDF: cheap}); err != nil {
		t.Fatal(err)
	}
	if err := h.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.RemoveSlot(0), h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	restore := func(to luks2.Store, anyway bool) error {
		return luks2.Restore(t.Context(), to, bytes.NewReader(backup.Bytes()), int64(backup.Len()), luks2.RestoreOptions{Anyway: anyway})
	}
	if err := restore(s, false); err != nil {
		t.Fatal(err)
	}
	h = reopen(t, s)
	if err := h.Opens(t.Context(), 0, text(t, "first"), key); err != nil || h.SeqID() <= 3 {
		t.Errorf("sequence %d, %v", h.SeqID(), err)
	}
	stranger, _, _ := formatted(t, luks2.FormatOptions{})
	empty := luks2.NewMemory(make([]byte, 2<<20))
	if restore(stranger, false) == nil || restore(empty, false) == nil || restore(luks2.NewMemory(make([]byte, 1<<19)), true) == nil {
		t.Error("restored onto another volume")
	}
	if err := restore(empty, true); err != nil {
		t.Error(err)
	}
	if err := reopen(t, empty).Opens(t.Context(), 0, text(t, "first"), key); err != nil {
		t.Error(err)
	}
}
