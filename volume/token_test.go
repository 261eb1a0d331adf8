package volume_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// member unlocks tokens that have their passphrase written into them.
type member struct{ tried []string }

var errLocked = errors.New("locked")

func (*member) TokenType() string { return "systemd-tpm2" }

func (m *member) Unlock(_ context.Context, token json.RawMessage, _ volume.Asker) (*secret.Bytes, error) {
	var t struct{ Pass string }
	if err := json.Unmarshal(token, &t); err != nil {
		return nil, err
	}
	m.tried = append(m.tried, t.Pass)
	if t.Pass == "" {
		return nil, errLocked
	}
	return secret.Copy([]byte(t.Pass)), nil
}

func TestTokens(t *testing.T) {
	t.Parallel()
	_, h, key := newVolume(t)
	addSlot(t, h, key, "second", "")
	for _, token := range []string{
		`{"type":"systemd-tpm2","keyslots":["1"],"pass":""}`,
		`{"type":"systemd-tpm2","keyslots":["1"],"pass":"wrong"}`,
		`{"type":"systemd-fido2","keyslots":["1"],"pass":"second"}`,
		`{"type":"systemd-tpm2","keyslots":[],"pass":"second"}`,
		`{"type":"systemd-tpm2","keyslots":["1"],"pass":"second"}`,
	} {
		if _, err := h.AddToken(json.RawMessage(token)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		method  volume.Tokens
		tried   string
		want    int
		unlocks bool
	}{
		{"each in turn", volume.Tokens{Keyslot: luks2.AnySlot}, ",wrong,second", 1, true},
		{"filtered", volume.Tokens{Keyslot: luks2.AnySlot, Use: func(t luks2.Token) bool { return t.ID != 4 }}, ",wrong", 0, false},
		{"another keyslot", volume.Tokens{Keyslot: 0}, "", 0, false},
	} {
		m := &member{}
		c.method.With, c.method.Device = m, "TPM2"
		ask := &script{answers: []string{"first"}}
		got, err := volume.Unlock(t.Context(), h, []volume.Method{c.method, passphrase()}, ask, volume.UnlockOptions{Tries: 3})
		if err != nil || got.Keyslot != c.want || strings.Join(m.tried, ",") != c.tried || (len(ask.asked) == 0) != c.unlocks {
			t.Errorf("%s: keyslot %d, tried %q, asked %d times, %v", c.name, got.Keyslot, m.tried, len(ask.asked), err)
		}
		got.Volume.Wipe()
	}
	// The reasons are all there when nothing helps.
	_, err := volume.Unlock(t.Context(), h, []volume.Method{volume.Tokens{With: &member{}, Device: "TPM2", Keyslot: luks2.AnySlot,
		Use: func(t luks2.Token) bool { return t.ID != 4 }}}, &script{}, volume.UnlockOptions{Tries: 3})
	if !errors.Is(err, errLocked) || !errors.Is(err, luks2.ErrPassphrase) || !strings.Contains(err.Error(), "keyslot 1: locked") {
		t.Errorf("reasons: %v", err)
	}
}
