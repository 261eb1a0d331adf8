package fido2_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/fido2/fido2test"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
	"github.com/lockport/lockport/volume/volumetest"
)

// within bounds what waits for a condition.
const within = 20 * time.Second

// TestPINs tries wrong ones, from a person and from what nobody types.
func TestPINs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		answers []string
		from    volume.Source
		used    int // tries that it costs first, with a replug after each
		err     error
		failed  int // that the person is told of
		left    int
	}{
		{name: "right", answers: []string{"2468"}, left: 8},
		{name: "second", answers: []string{"1111", "2468"}, failed: 1, left: 8},
		{name: "two at once", answers: []string{"1111+2468"}, failed: 1, left: 8},
		{name: "too short costs nothing", answers: []string{"12", "2468"}, failed: 1, left: 8},
		{name: "line break costs nothing", answers: []string{"2468\n", "2468"}, failed: 1, left: 8},
		{name: "gives up", answers: []string{"1111"}, err: volume.ErrNoAnswer, failed: 1, left: 7},
		{name: "until it wants to be plugged in", answers: []string{"1111", "2222", "3333", "2468"}, err: fido2.StatusPINAuthBlocked, failed: 2, left: 5},
		{name: "from a script", answers: []string{"1111", "2468"}, from: volume.FromEnvironment, err: fido2.StatusPINInvalid, left: 7},
		{name: "the last", answers: []string{"1111"}, used: 7, err: fido2.StatusPINBlocked, left: 0},
		{name: "credential, with some left", answers: []string{"2468"}, from: volume.FromCredential, used: 5, left: 8},
		{name: "credential, too few left", answers: []string{"1111"}, from: volume.FromCredential, used: 6, err: volume.ErrNoAnswer, failed: 1, left: 2},
		{name: "credential, too few left for all", answers: []string{"1111+2222+3333"}, from: volume.FromCredential, used: 4, err: volume.ErrNoAnswer, failed: 3, left: 2},
		{name: "cache, too few left for all", answers: []string{"1111+2222+2468"}, from: volume.FromCache, used: 4, err: volume.ErrNoAnswer, failed: 3, left: 2},
		{name: "cache, too few left", answers: []string{"1111"}, from: volume.FromCache, used: 6, err: volume.ErrNoAnswer, failed: 1, left: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := fido2test.New(fido2test.Config{PIN: "2468"})
			p, d := plugged(k), &diary{}
			e := enrollerFor(p, d)
			e.PIN = true
			token := makeToken(t, e, "2468")
			for range c.used {
				if _, err := keyFor(p, &diary{}).Unlock(t.Context(), token, &volumetest.Asker{Answers: []string{"0000"}, From: volume.FromEnvironment}); err == nil {
					t.Fatal("a wrong PIN opens")
				}
				k.Replug()
			}
			pass, err := keyFor(p, d).Unlock(t.Context(), token, &volumetest.Asker{Answers: c.answers, From: c.from})
			pass.Wipe()
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("error %v, not %v", err, c.err)
			}
			if n := d.count("failed"); n != c.failed || k.Retries() != c.left {
				t.Errorf("%d tries left, not %d; told:\n%s", k.Retries(), c.left, d)
			}
		})
	}
}

// makeToken enrols without a volume.
func makeToken(t testing.TB, e *fido2.Enroller, pins ...string) json.RawMessage {
	t.Helper()
	pass, token, err := e.Enroll(t.Context(), &volumetest.Asker{Answers: pins})
	if err != nil {
		t.Fatal(err)
	}
	pass.Wipe()
	return token
}

// TestVerifiedIsAnother: a key keeps another secret for verified users, so that a
// token whose terms were changed opens nothing.
func TestVerifiedIsAnother(t *testing.T) {
	t.Parallel()
	p := plugged(fido2test.New(fido2test.Config{PIN: "2468"}))
	e := enrollerFor(p, &diary{})
	e.PIN = true
	with, token, err := e.Enroll(t.Context(), &volumetest.Asker{Answers: []string{"2468"}})
	if err != nil {
		t.Fatal(err)
	}
	defer with.Wipe()
	token = json.RawMessage(strings.Replace(string(token), `Pin-required":true`, `Pin-required":false`, 1))
	without, err := keyFor(p, &diary{}).Unlock(t.Context(), token, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer without.Wipe()
	if with.Equal(without) {
		t.Error("the PIN does not matter")
	}
}

// TestOldTokens opens what systemd 248 wrote, which does not say what is needed.
func TestOldTokens(t *testing.T) {
	t.Parallel()
	for _, c := range []fido2test.Config{{}, {HMACTouch: true}, {PIN: "2468", AlwaysUV: true, HMACTouch: true}, {CTAP20: true}} {
		p := plugged(fido2test.New(c))
		e := enrollerFor(p, &diary{})
		e.PIN = c.AlwaysUV
		want, token, err := e.Enroll(t.Context(), &volumetest.Asker{Answers: []string{"2468"}})
		if err != nil {
			t.Fatal(err)
		}
		defer want.Wipe()
		var members map[string]any
		if err := json.Unmarshal(token, &members); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"fido2-rp", "fido2-clientPin-required", "fido2-up-required", "fido2-uv-required"} {
			delete(members, name)
		}
		if token, err = json.Marshal(members); err != nil {
			t.Fatal(err)
		}
		got, err := keyFor(p, &diary{}).Unlock(t.Context(), token, &volumetest.Asker{Answers: []string{"2468"}})
		if err != nil || !got.Equal(want) {
			t.Errorf("%+v: %v", c, err)
		}
		got.Wipe()
	}
}

// TestManyKeys finds the right one of several keys and tokens, and touches no other.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	h, key := newVolume(t)
	red, blue, green := fido2test.New(fido2test.Config{Name: "red"}), fido2test.New(fido2test.Config{Name: "blue"}), fido2test.New(fido2test.Config{Name: "green", UV: "ok"})
	slots := map[*fido2test.Key]int{}
	for _, k := range []*fido2test.Key{red, blue, green} {
		e := enrollerFor(plugged(k), &diary{})
		e.UP, e.UV = true, true
		slots[k] = enrol(t, h, key, e, nil)
	}
	others := []*fido2test.Key{fido2test.New(fido2test.Config{U2F: true}), fido2test.New(fido2test.Config{NoHMACSecret: true}), fido2test.New(fido2test.Config{PIN: "1234"})}
	for _, k := range []*fido2test.Key{red, blue, green} {
		d := &diary{}
		slot, err := opens(t, h, key, fido2.Method{Key: keyFor(plugged(append(others, k)...), d), Keyslot: luks2.AnySlot}, nil)
		if err != nil || slot != slots[k] || strings.Contains(d.String(), "lockport") {
			t.Errorf("%s: keyslot %d, not %d: %v; told:\n%s", k.Name(), slot, slots[k], err, d)
		}
	}
	_, err := opens(t, h, key, fido2.Method{Key: keyFor(plugged(others...), &diary{}), Keyslot: luks2.AnySlot}, nil)
	if !errors.Is(err, fido2.ErrNotFIDO2) || !errors.Is(err, fido2.ErrNoHMACSecret) || !errors.Is(err, volume.ErrNext) {
		t.Errorf("without the right key: %v", err)
	}
	// One keyslot by its number.
	_, err = opens(t, h, key, fido2.Method{Key: keyFor(plugged(red), &diary{}), Keyslot: slots[blue]}, nil)
	if !errors.Is(err, fido2.ErrOtherKey) {
		t.Errorf("the other keyslot: %v", err)
	}
}

// TestWaits plugs keys in while one is waited for.
func TestWaits(t *testing.T) {
	t.Parallel()
	right, wrong := fido2test.New(fido2test.Config{}), fido2test.New(fido2test.Config{})
	e := enrollerFor(plugged(right), &diary{})
	e.UP = true
	token := makeToken(t, e)
	p := &fido2test.Port{}
	k := keyFor(p, &diary{})
	k.Wait = fido2.ForEver
	k.Waiting = func(reason error) {
		switch {
		case errors.Is(reason, fido2.ErrNoDevice):
			p.Plug(wrong)
		case errors.Is(reason, fido2.ErrOtherKey):
			p.Plug(right)
		default:
			t.Errorf("waits because of %v", reason)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	pass, err := k.Unlock(ctx, token, nil)
	if err != nil {
		t.Error(err)
	}
	pass.Wipe()
}

// TestReplug: a key that takes no more PINs is pulled out and plugged in again.
func TestReplug(t *testing.T) {
	t.Parallel()
	key := fido2test.New(fido2test.Config{PIN: "2468"})
	p := &fido2test.Port{}
	path := p.Plug(key)
	e := enrollerFor(p, &diary{})
	e.PIN = true
	token := makeToken(t, e, "2468")
	k := keyFor(p, &diary{})
	k.Wait = fido2.ForEver
	k.Waiting = func(reason error) {
		if !errors.Is(reason, fido2.StatusPINAuthBlocked) {
			t.Errorf("waits because of %v", reason)
		}
		p.Unplug(path)
		p.Plug(key)
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	pass, err := k.Unlock(ctx, token, &volumetest.Asker{Answers: []string{"1111", "1111", "1111", "2468"}})
	if err != nil {
		t.Error(err)
	}
	pass.Wipe()
}

// waitingForTouch plugs in an enrolled key that nobody touches.
func waitingForTouch(t *testing.T) (p *fido2test.Port, path string, token json.RawMessage) {
	t.Helper()
	key := fido2test.New(fido2test.Config{})
	p = &fido2test.Port{}
	path = p.Plug(key)
	e := enrollerFor(p, &diary{})
	e.UP = true
	token = makeToken(t, e)
	key.Change(func(c *fido2test.Config) { c.Touch = "wait" })
	return p, path, token
}

// TestUnplugged pulls the key out while it waits to be touched.
func TestUnplugged(t *testing.T) {
	t.Parallel()
	p, path, token := waitingForTouch(t)
	k := keyFor(p, &diary{})
	k.Touch = func(string) { go p.Unplug(path) }
	pass, err := k.Unlock(t.Context(), token, nil)
	pass.Wipe()
	if !errors.Is(err, fido2.ErrGone) {
		t.Errorf("error %v", err)
	}
}

// TestEnds ends the context while a key waits to be touched, and while none is there.
func TestEnds(t *testing.T) {
	t.Parallel()
	p, path, token := waitingForTouch(t)
	k := keyFor(p, &diary{})
	k.Wait = fido2.ForEver
	ctx, cancel := context.WithCancel(t.Context())
	k.Touch = func(string) { cancel() }
	if _, err := k.Unlock(ctx, token, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("touching: %v", err)
	}
	p.Unplug(path)
	ctx, cancel = context.WithCancel(t.Context())
	k.Waiting = func(error) { cancel() }
	if _, err := k.Unlock(ctx, token, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting: %v", err)
	}
	k.Waiting, k.Wait = nil, time.Millisecond
	if _, err := k.Unlock(t.Context(), token, nil); !errors.Is(err, fido2.ErrNoDevice) {
		t.Errorf("after the wait: %v", err)
	}
}

// TestHeadless touches nothing where nobody is.
func TestHeadless(t *testing.T) {
	t.Parallel()
	p := plugged(fido2test.New(fido2test.Config{PIN: "2468"}))
	for _, up := range []bool{true, false} {
		e := enrollerFor(p, &diary{})
		e.PIN, e.UP = true, up
		token := makeToken(t, e, "2468")
		k := keyFor(p, &diary{})
		k.Headless = true
		pass, err := k.Unlock(t.Context(), token, &volumetest.Asker{Answers: []string{"2468"}, From: volume.FromEnvironment})
		pass.Wipe()
		if want := up; want != errors.Is(err, fido2.ErrNoPerson) {
			t.Errorf("touch %v: %v", up, err)
		}
	}
}

// TestSameKeyTwice is noticed.
func TestSameKeyTwice(t *testing.T) {
	t.Parallel()
	h, key := newVolume(t)
	p, d := plugged(fido2test.New(fido2test.Config{Name: "soft"})), &diary{}
	enrol(t, h, key, enrollerFor(p, d), nil)
	e := enrollerFor(p, d)
	e.Existing = h.Tokens()
	enrol(t, h, key, e, nil)
	if !strings.Contains(d.String(), "notice: soft opens keyslot 1 already") || d.count("notice") != 1 {
		t.Errorf("told:\n%s", d)
	}
}
