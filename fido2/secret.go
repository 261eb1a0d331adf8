package fido2

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/lockport/lockport/secret"
)

// needs is what an assertion is made with.
type needs struct{ pin, up, uv bool }

// needs says what a token asks of this device. Where the token leaves it open it
// is tried without first.
func (t *Token) needs(i *Info) (needs, error) {
	n := needs{pin: on(t.PIN), up: on(t.UP), uv: on(t.UV)}
	if n.pin && !i.PINSet() {
		return n, ErrNoPIN
	}
	if n.uv && !i.Verifies() {
		// A PIN verifies the user as well, and the device keeps one secret for
		// verified users, however it knows them.
		if !i.PINSet() {
			return n, ErrNoUV
		}
		n.pin, n.uv = true, false
	}
	n.up = n.up && i.Touchable()
	return n, nil
}

// reveal gets the secret of a token out of a device. The caller wipes it.
func (d *Device) reveal(ctx context.Context, t *Token, pins *pins, headless bool) (*secret.Bytes, error) {
	n, err := t.needs(&d.Info)
	if err != nil {
		return nil, err
	}
	for {
		if headless && (n.up || n.uv) {
			return nil, ErrNoPerson
		}
		s, err := d.ask(ctx, t, n, pins)
		if err == nil {
			return s, nil
		}
		more, ok := d.insists(t, n, err)
		if !ok {
			return nil, err
		}
		n = more
	}
}

// insists finds out what more a device wants than the token says, whose secret is
// the same for it: a touch always, and a PIN where the token leaves that open.
func (d *Device) insists(t *Token, n needs, err error) (needs, bool) {
	switch {
	case !n.up && d.Info.Touchable() && (errors.Is(err, StatusUPRequired) || errors.Is(err, StatusUnsupportedOption) || errors.Is(err, StatusInvalidOption)):
		n.up = true
		return n, true
	case !n.pin && d.Info.PINSet() && t.PIN == nil && errors.Is(err, StatusPINRequired):
		n.pin = true
		return n, true
	case n.uv && d.Info.PINSet() && (errors.Is(err, StatusUVBlocked) || errors.Is(err, StatusUVInvalid)):
		n.pin, n.uv = true, false
		return n, true
	}
	return n, false
}

// ask makes one attempt.
func (d *Device) ask(ctx context.Context, t *Token, n needs, pins *pins) (*secret.Bytes, error) {
	agreed, proven, err := d.prove(ctx, n, pins, permitGetAssertion, t.RP)
	if err != nil {
		return nil, err
	}
	defer agreed.wipe()
	defer proven.wipe()
	a := assertion{rp: t.RP, credential: t.Credential, salt: t.Salt, agreed: agreed, proof: proven}
	if d.Info.Touchable() {
		a.up = &n.up
	}
	if d.Info.Verifies() && t.UV != nil {
		a.uv = &n.uv
	}
	return d.assert(ctx, a)
}

// prove agrees on a key and gets a proof if one is needed, nil else. The caller
// wipes both.
func (d *Device) prove(ctx context.Context, n needs, pins *pins, permission int, rp string) (*agreement, *proof, error) {
	if n.pin {
		a, p, err := pins.prove(ctx, d, permission, rp)
		return a, p, err
	}
	a, err := d.agree(ctx)
	if err != nil || !n.uv || !d.Info.grantsTokens() {
		return a, nil, err // the option in the request does it
	}
	p, err := d.proveUser(ctx, a, permission, rp)
	if err != nil {
		a.wipe()
		return nil, nil, err
	}
	return a, p, nil
}

// passphrase is the text that the keyslot expects: the secret in base64. The
// caller wipes it.
func passphrase(s *secret.Bytes) *secret.Bytes {
	text := secret.New(base64.StdEncoding.EncodedLen(s.Len()))
	base64.StdEncoding.Encode(text.Reveal(), s.Reveal())
	return text
}

// onKey says which key an error is about.
func onKey(f Found, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", f, err)
}
