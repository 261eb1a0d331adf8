//go:build linux

package luks2_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/luks2"
)

// cryptenroll runs systemd-cryptenroll with the passphrase of the volume.
func cryptenroll(t testing.TB, pass string, args ...string) string {
	t.Helper()
	out, err := runWith(t, []string{"PASSWORD=" + pass}, "", "systemd-cryptenroll", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCryptenroll has systemd-cryptenroll list, add and wipe on a volume that we
// formatted and named, and reads what it did after each step.
func TestCryptenroll(t *testing.T) {
	t.Parallel()
	peer(t, "systemd-cryptenroll")
	path := blank(t, peerImage)
	f, err := luks2.OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	note := luks2.Note{Name: "Bürolaptop", Created: time.Unix(1e9, 0).UTC(), Method: "passphrase"}
	_, key, err := luks2.Format(t.Context(), f, text(t, "first"), luks2.FormatOptions{KDF: cheap, Fast: true, Note: note})
	if err != nil {
		t.Fatal(err)
	}
	wiped(t, key)
	kept := func() *luks2.Header {
		t.Helper()
		h := reopen(t, f)
		if k, err := h.Keyslot(0); err != nil || k.Note != note || h.Damage() != nil {
			t.Errorf("note %+v, damage %v, %v", k.Note, h.Damage(), err)
		}
		return h
	}
	lists := func(want ...string) {
		t.Helper()
		if got := strings.Fields(cryptenroll(t, "", path)); !slices.Equal(got, append([]string{"SLOT", "TYPE"}, want...)) {
			t.Errorf("it lists %v, want %v", got, want)
		}
	}
	lists("0", "password")

	recovery := strings.TrimSpace(cryptenroll(t, "first", "--recovery-key", path))
	h := kept()
	token, err := h.Token(0)
	if err != nil || token.Type != "systemd-recovery" || !slices.Equal(token.Keyslots, []int{1}) {
		t.Errorf("token %+v, %v", token, err)
	}
	if err := h.Opens(t.Context(), 1, text(t, recovery), key); err != nil {
		t.Errorf("their recovery key: %v", err)
	}

	id, err := h.AddSlot(t.Context(), key, text(t, "ours"), luks2.SlotOptions{ID: luks2.AnySlot, KDF: luks2.Minimal(), Note: luks2.Note{Method: "recovery key"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.AddToken([]byte(`{"type":"systemd-recovery","keyslots":["2"]}`)); err != nil || id != 2 {
		t.Fatal(id, err)
	}
	if err := h.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	lists("0", "password", "1", "recovery", "2", "recovery")

	cryptenroll(t, "first", "--wipe-slot=1", path)
	h = kept()
	if err := weOpen(t, h, 1, recovery); !errors.Is(err, luks2.ErrNoKeyslot) {
		t.Errorf("the wiped keyslot: %v", err)
	}
	if _, err := h.Token(0); !errors.Is(err, luks2.ErrNoToken) {
		t.Errorf("the token of the wiped keyslot: %v", err)
	}
	if k, err := h.Keyslot(2); err != nil || k.Note.Method != "recovery key" {
		t.Errorf("our other keyslot: %+v, %v", k.Note, err)
	}
	// It takes our passphrase for its work, and wipes what we made.
	again := strings.TrimSpace(cryptenroll(t, "ours", "--recovery-key", "--wipe-slot=2", path))
	if err := weOpen(t, kept(), 1, again); err != nil {
		t.Errorf("their second recovery key: %v", err)
	}
	lists("0", "password", "1", "recovery")
}

// TestChangedMeanwhile never writes over the work of somebody else.
func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	path := blank(t, peerImage)
	mustCryptsetup(t, "first", append([]string{"luksFormat", "--type", "luks2", path, "-"}, quick...)...)
	f, h := openFile(t, path)
	mustCryptsetup(t, "", "config", "--label", "theirs", path)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.SetLabel("ours"), h.Commit(t.Context())); !errors.Is(err, luks2.ErrChanged) {
		t.Errorf("got %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("something was written, %v", err)
	}
	if label := reopen(t, f).Label(); label != "theirs" {
		t.Errorf("label %q", label)
	}
}
