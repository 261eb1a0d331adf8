package tpm2

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2/tpm2test"
	"github.com/lockport/lockport/volume"
	"github.com/lockport/lockport/volume/volumetest"
)

// sealedFile seals a secret as systemd before 254 did, without a token, and adds
// a keyslot for it.
func sealedFile(t *testing.T, m *machine, file string, alg uint16, pcrs []int, pin string) int {
	t.Helper()
	c := &conn{m.tpm}
	handle, p, err := c.createPrimary(t.Context(), template(alg, attrsLegacy))
	if err != nil {
		t.Fatal(err)
	}
	values, err := c.pcrRead(t.Context(), bank{"sha256", algSHA256, 32}, pcrs)
	if err != nil {
		t.Fatal(err)
	}
	var auth *secret.Bytes
	policy := digest{}
	if len(pcrs) > 0 {
		policy = policy.policyPCR(algSHA256, pcrs, values)
	}
	if pin != "" {
		text := secret.Copy([]byte(pin))
		auth = authValue(text)
		text.Wipe()
		defer auth.Wipe()
		policy = policy.policyAuthValue()
	}
	key := secret.Random(digestSize)
	defer key.Wipe()
	made, err := c.seal(t.Context(), handle, p, policy, key, auth)
	if err := errors.Join(err, c.flush(t.Context(), handle)); err != nil {
		t.Fatal(err)
	}
	putFile(t, file, made.marshal())
	pass := base64Text(key)
	defer pass.Wipe()
	h := m.header()
	slot, err := h.AddSlot(t.Context(), m.key, pass, luks2.SlotOptions{ID: luks2.AnySlot, KDF: luks2.Minimal()})
	if err := errors.Join(err, h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	return slot
}

// TestBlob opens a volume with objects in files.
func TestBlob(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startA(t))
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	seven := sealedFile(t, m, at("seven"), algECC, []int{7}, "")
	pin := sealedFile(t, m, at("pin"), algECC, []int{7}, "1111")
	rsa := sealedFile(t, m, at("rsa"), algRSA, []int{0, 16}, "")
	none := sealedFile(t, m, at("none"), algECC, nil, "")
	putFile(t, at("text"), []byte("not a sealed object"))
	putFile(t, at("empty"), nil)
	putFile(t, at("long"), append(mustRead(t, at("seven")), 1))
	changed := mustRead(t, at("seven"))
	changed[40] ^= 1
	putFile(t, at("changed"), changed)
	other := newMachine(t, tpm2test.Start(t, ""))
	putFile(t, at("strange"), mustRead(t, at("seven")))

	state := func(name string) func() { return func() { m.state(name) } }
	for _, c := range []struct {
		name, file string
		m          *machine
		pcrs       []int
		pin        []string // typed; nil for a blob without
		before     func()
		slot       int
		want       error  // nil and no text: it opens
		text       string // of the error
	}{
		{"PCR 7", "seven", m, nil, nil, nil, seven, nil, ""},
		{"PCR 7 by number", "seven", m, []int{7}, nil, nil, seven, nil, ""},
		{"PIN", "pin", m, nil, []string{"1111"}, nil, pin, nil, ""},
		{"second PIN", "pin", m, nil, []string{"2222", "1111"}, nil, pin, nil, ""},
		{"RSA", "rsa", m, []int{16, 0}, nil, nil, rsa, nil, ""},
		{"no PCRs", "none", m, []int{}, nil, nil, none, nil, ""},
		{"other PCRs", "seven", m, []int{0}, nil, nil, 0, ErrPolicy, ""},
		{"more PCRs", "seven", m, []int{0, 7}, nil, nil, 0, ErrPolicy, ""},
		{"fewer PCRs", "seven", m, []int{}, nil, nil, 0, ErrPolicy, ""},
		{"nobody to ask", "pin", m, nil, []string{}, nil, 0, volume.ErrNoAnswer, ""},
		{"a PIN that is not wanted", "seven", m, nil, []string{"1111"}, nil, 0, ErrPolicy, ""},
		{"a PIN that is wanted", "pin", m, nil, nil, nil, 0, ErrPolicy, ""},
		{"PCR 16 changed", "rsa", m, []int{0, 16}, nil, state("two"), 0, ErrPolicy, ""},
		{"PCR 16 as it was", "rsa", m, []int{0, 16}, nil, state("one"), rsa, nil, ""},
		{"text", "text", m, nil, nil, nil, 0, nil, at("text") + ": "},
		{"empty", "empty", m, nil, nil, nil, 0, nil, "empty"},
		{"a byte too many", "long", m, nil, nil, nil, 0, nil, at("long") + ": "},
		{"a bit changed", "changed", m, nil, nil, nil, 0, ErrOtherTPM, ""},
		{"other TPM", "strange", other, nil, nil, nil, 0, ErrOtherTPM, ""},
		{"no file", "nothing", m, nil, nil, nil, 0, os.ErrNotExist, ""},
		{"PCR 7 changed", "seven", m, nil, nil, func() { m.tpm.Event(7, "x") }, 0, ErrPolicy, ""},
		{"PCR 7 changed, PIN", "pin", m, nil, []string{"1111"}, nil, 0, ErrPolicy, ""},
	} {
		if c.before != nil {
			c.before()
		}
		k := keyFor(c.m.tpm)
		k.PCRs = c.pcrs
		b := Blob{Key: k, Source: volume.KeySource{Path: at(c.file)}, PIN: c.pin != nil, Keyslot: luks2.AnySlot}
		counted := lockoutCounter(t, c.m.tpm)
		if b.Silent() != (c.pin == nil) || !strings.Contains(b.Name(), at(c.file)) {
			t.Errorf("%s: %q, silent %v", c.name, b.Name(), b.Silent())
		}
		key, last, err := b.VolumeKey(t.Context(), m.header(), &volumetest.Asker{Answers: c.pin}, 0)
		if opens := c.want == nil && c.text == ""; opens != (err == nil) || !last || opens && (key.Keyslot != c.slot || !key.Volume.Equal(m.key)) {
			t.Errorf("%s: keyslot %d, %v", c.name, key.Keyslot, err)
		}
		key.Volume.Wipe()
		if err != nil && (c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !errors.Is(err, volume.ErrNext)) {
			t.Errorf("%s: %v, want %v %q", c.name, err, c.want, c.text)
		}
		if left := c.m.tpm.Loaded(); len(left) > 0 {
			t.Errorf("%s: %x are left in the TPM", c.name, left)
		}
		guesses := uint32(max(len(c.pin)-1, 0))
		if c.slot == 0 {
			guesses = 0
		}
		if after := lockoutCounter(t, c.m.tpm); after-counted != guesses {
			t.Errorf("%s: %d guesses are counted, want %d", c.name, after-counted, guesses)
		}
	}
	// The keyslot that is asked for, and no other.
	m.state("one")
	b := Blob{Key: keyFor(m.tpm), Source: volume.KeySource{Path: at("none")}, Keyslot: seven}
	b.Key.PCRs = []int{}
	if key, _, err := b.VolumeKey(t.Context(), m.header(), nil, 0); err == nil || !errors.Is(err, volume.ErrNext) {
		key.Volume.Wipe()
		t.Errorf("another keyslot: %v", err)
	}
	if !bytes.Equal(mustRead(t, at("strange")), mustRead(t, at("seven"))) {
		t.Error("a file was changed")
	}
}
