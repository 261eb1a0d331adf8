package fido2_test

import (
	"strings"
	"testing"

	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/fido2/fido2test"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume/volumetest"
)

// TestModes enrols and unlocks over all kinds of keys and what can be asked of them.
func TestModes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		key         fido2test.Config
		pin, up, uv bool
		want        string // the effective set
		pins        int    // how often the PIN is asked for: enrolment and unlocking
		notice      string
	}{
		{name: "touch", up: true, want: "touch"},
		{name: "nothing", want: ""},
		{name: "PIN", key: fido2test.Config{PIN: "1234"}, pin: true, up: true, want: "PIN, touch", pins: 2},
		{name: "PIN without touch", key: fido2test.Config{PIN: "1234"}, pin: true, want: "PIN", pins: 2},
		{name: "PIN, CTAP 2.0", key: fido2test.Config{CTAP20: true, PIN: "1234"}, pin: true, up: true, want: "PIN, touch", pins: 2},
		{name: "PIN, protocol 1", key: fido2test.Config{PIN: "1234", Protocols: []uint64{1}}, pin: true, up: true, want: "PIN, touch", pins: 2},
		{name: "PIN, protocol 2", key: fido2test.Config{PIN: "1234", Protocols: []uint64{2}}, pin: true, up: true, want: "PIN, touch", pins: 2},
		{name: "PIN, unknown protocol first", key: fido2test.Config{PIN: "1234", Protocols: []uint64{7, 2, 1}}, pin: true, up: true, want: "PIN, touch", pins: 2},
		{name: "no PIN set", pin: true, up: true, want: "touch", notice: "has no PIN"},
		{name: "PIN not wanted", key: fido2test.Config{PIN: "1234"}, up: true, want: "touch"},
		{name: "PIN not wanted, CTAP 2.0", key: fido2test.Config{CTAP20: true, PIN: "1234"}, up: true, want: "touch", pins: 1},
		{name: "PIN for new ones only", key: fido2test.Config{PIN: "1234", PINForNew: true}, up: true, want: "touch", pins: 1},
		{name: "can't be touched", key: fido2test.Config{NoUP: true, PIN: "1234"}, pin: true, up: true, want: "PIN", pins: 2, notice: "can't ask for a touch"},
		{name: "insists on touch", key: fido2test.Config{HMACTouch: true}, want: "touch", notice: "wants to be touched"},
		{name: "verifies", key: fido2test.Config{UV: "ok"}, up: true, uv: true, want: "touch, user verification"},
		{name: "verifies, CTAP 2.0", key: fido2test.Config{UV: "ok", CTAP20: true}, up: true, uv: true, want: "touch, user verification"},
		{name: "verifies without touch", key: fido2test.Config{UV: "ok"}, uv: true, want: "user verification"},
		{name: "verifies and PIN", key: fido2test.Config{UV: "ok", PIN: "1234"}, pin: true, up: true, uv: true, want: "PIN, touch, user verification", pins: 2},
		{name: "can't verify", up: true, uv: true, want: "touch", notice: "does not verify users"},
		{name: "fails to verify, has a PIN", key: fido2test.Config{UV: "fails", PIN: "1234"}, up: true, uv: true, want: "PIN, touch", pins: 2, notice: "wants its PIN"},
		{name: "always verifies", key: fido2test.Config{UV: "ok", AlwaysUV: true}, up: true, want: "touch, user verification", notice: "always verifies"},
		{name: "always wants the PIN", key: fido2test.Config{PIN: "1234", AlwaysUV: true}, up: true, want: "PIN, touch", pins: 2, notice: "always wants its PIN"},
		{name: "always wants the PIN, shy", key: fido2test.Config{PIN: "1234", AlwaysUV: true, ShyUV: true}, pin: true, up: true, want: "PIN, touch", pins: 2},
		{name: "slow person", key: fido2test.Config{Touch: "slow"}, up: true, want: "touch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, key := newVolume(t)
			p, d := plugged(fido2test.New(c.key)), &diary{}
			e := enrollerFor(p, d)
			e.PIN, e.UP, e.UV = c.pin, c.up, c.uv
			ask := &volumetest.Asker{Answers: []string{"1234", "1234"}}
			if err := e.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			slot := enrol(t, h, key, e, ask)
			if got := policy(t, h, slot); got != c.want {
				t.Errorf("asks for %q, not %q", got, c.want)
			}
			if c.notice == "" && d.count("notice") > 0 || d.count("notice") > 1 || !strings.Contains(d.String(), c.notice) {
				t.Errorf("told:\n%s", d)
			}
			enrolled := d.count("touch")
			if got, err := opens(t, h, key, fido2.Method{Key: keyFor(p, d), Keyslot: luks2.AnySlot}, ask); err != nil || got != slot {
				t.Errorf("keyslot %d opens, not %d: %v", got, slot, err)
			}
			if len(ask.Asked) != c.pins {
				t.Errorf("asked for %d PINs, not %d", len(ask.Asked), c.pins)
			}
			if wants := strings.Contains(c.want, "touch") || strings.Contains(c.want, "user"); wants != (d.count("touch") > enrolled) {
				t.Errorf("told:\n%s", d)
			}
		})
	}
}
