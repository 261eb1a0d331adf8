package fido2

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// rpName is what systemd calls the relying party.
const rpName = "Encrypted Volume"

// Enroller makes keyslots that open with a security key, and the tokens for them as
// systemd 257 writes them.
type Enroller struct {
	Port   Port
	Device string // path of the key; "" or [Auto] for the only one that can do it

	UUID      string    // of the volume: the name of the user on the key
	Volume    string    // what the volume is called, as its display name
	Algorithm Algorithm // 0 for ES256
	// PIN, UP and UV say what is asked for at each unlocking: the key's PIN, a
	// touch, and that the key itself verifies the user. What the key can't do is
	// left out, and what it insists on is put in; Notice is told.
	PIN, UP, UV bool
	Salt        []byte // 32 bytes; nil for fresh ones
	NoToken     bool   // the header shall not have the credential; Made has it then

	// Question is how the key's PIN is asked for. Where its Message and Credential
	// are empty, those of systemd-cryptenroll are taken.
	Question volume.Question
	// Existing are the header's tokens. Notice is told of those that the same key
	// was enrolled for.
	Existing []luks2.Token

	// Touch is told when the key waits for a person to touch it, Failed of a PIN
	// that was wrong, and Notice of what is done otherwise than asked for, each time
	// that Check or Enroll finds it out for the first time. May be nil.
	Touch  func(key string)
	Failed func(err error)
	Notice func(text string)

	// Made is what the last Enroll made.
	Made *Token

	noticed map[string]bool
}

var _ volume.Enroller = (*Enroller)(nil)

// TokenType is [TokenType].
func (*Enroller) TokenType() string { return TokenType }

// Check returns what Enroll would refuse before anybody is bothered: no key or
// several, one without hmac-secret or without the algorithm.
func (e *Enroller) Check(ctx context.Context) error {
	x, _, err := e.prepare(ctx)
	x.close()
	return err
}

// Enroll makes a credential, for which somebody has to touch the key, and asks it
// for its secret as a later unlocking will. It returns the passphrase that this
// makes, which the caller wipes, and the token that brings it back.
func (e *Enroller) Enroll(ctx context.Context, ask volume.Asker) (*secret.Bytes, json.RawMessage, error) {
	x, n, err := e.prepare(ctx)
	defer x.close()
	if err != nil {
		return nil, nil, err
	}
	x.pins = &pins{ask: ask, question: e.question(), failed: e.Failed}
	t, got, err := e.make(ctx, x, n)
	if err != nil {
		return nil, nil, onKey(x.found, err)
	}
	defer got.Wipe()
	e.Made = t
	pass := passphrase(got)
	if e.NoToken {
		return pass, nil, nil
	}
	text, err := json.Marshal(t)
	if err != nil {
		pass.Wipe()
		return nil, nil, err
	}
	return pass, text, nil
}

func (e *Enroller) question() volume.Question {
	return e.Question.Or(volume.Question{Message: "Please enter security token PIN:", Credential: "cryptenroll.fido2-pin"})
}

// notice tells each thing once.
func (e *Enroller) notice(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if e.Notice == nil || e.noticed[text] {
		return
	}
	if e.noticed == nil {
		e.noticed = map[string]bool{}
	}
	e.noticed[text] = true
	e.Notice(text)
}

// prepare opens the key and settles what the keyslot will ask for. The session is
// there to be closed even with an error.
func (e *Enroller) prepare(ctx context.Context) (*session, needs, error) {
	if e.Salt != nil && len(e.Salt) != saltSize {
		return nil, needs{}, fmt.Errorf("salt of %d bytes, it has to have %d", len(e.Salt), saltSize)
	}
	x, err := e.only(ctx)
	if err != nil {
		return x, needs{}, err
	}
	n, err := e.settle(x)
	if err == nil {
		err = e.existing(ctx, x)
	}
	return x, n, onKey(x.found, err)
}

// only finds the key to enrol.
func (e *Enroller) only(ctx context.Context) (*session, error) {
	k := &Key{Port: e.Port, Device: e.Device}
	list, err := k.keys()
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, ErrNoDevice
	}
	var good []*session
	var reasons []error
	for _, f := range list {
		x, err := e.open(ctx, f)
		if err != nil {
			x.close()
			reasons = append(reasons, onKey(f, err))
			continue
		}
		good = append(good, x)
	}
	switch len(good) {
	case 1:
		return good[0], nil
	case 0:
		return nil, volume.Join(reasons...)
	}
	var names []string
	for _, x := range good {
		names = append(names, x.found.Path)
		x.close()
	}
	return nil, fmt.Errorf("%w: %s", ErrSeveral, strings.Join(names, ", "))
}

// open opens one that could be enrolled.
func (e *Enroller) open(ctx context.Context, f Found) (*session, error) {
	conn, err := e.Port.Open(ctx, f.Path)
	if err != nil {
		return nil, err
	}
	x := &session{found: f, conn: conn, pins: &pins{}}
	if x.dev, err = Connect(ctx, conn); err != nil {
		return x, err
	}
	x.dev.Touch = func() {
		if e.Touch != nil {
			e.Touch(f.String())
		}
	}
	if !x.dev.Info.HMACSecret() {
		return x, ErrNoHMACSecret
	}
	return x, nil
}

func (e *Enroller) algorithm() Algorithm {
	if e.Algorithm == 0 {
		return ES256
	}
	return e.Algorithm
}

// settle makes of what is asked for what the key can do.
func (e *Enroller) settle(x *session) (needs, error) {
	i, n := &x.dev.Info, needs{e.PIN, e.UP, e.UV}
	if !i.supports(e.algorithm()) {
		return n, fmt.Errorf("%w: %s", StatusUnsupportedAlg, e.algorithm())
	}
	if n.pin && !i.PINSet() {
		e.notice("%s has no PIN, so none will be asked for", x.found)
		n.pin = false
	}
	if n.up && !i.Touchable() {
		e.notice("%s can't ask for a touch, so none will be asked for", x.found)
		n.up = false
	}
	if n.uv && !i.Verifies() {
		e.notice("%s does not verify users by itself, so that will not be asked for", x.found)
		n.uv = false
	}
	if i.AlwaysVerifies() && !n.pin && !n.uv {
		switch {
		case i.Verifies():
			e.notice("%s always verifies its user, so that will be asked for", x.found)
			n.uv = true
		case i.PINSet():
			e.notice("%s always wants its PIN, so that will be asked for", x.found)
			n.pin = true
		default:
			return n, StatusPINNotSet
		}
	}
	if n.pin && i.ForcePINChange {
		return n, StatusPINPolicyViolation
	}
	return n, nil
}

// existing looks for keyslots that the key opens already.
func (e *Enroller) existing(ctx context.Context, x *session) error {
	for _, t := range e.Existing {
		old, err := ParseToken(t.JSON)
		if t.Type != TokenType || err != nil || len(t.Keyslots) != 1 {
			continue
		}
		yes, _, err := x.dev.has(ctx, old.RP, old.Credential)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && yes { // a token that the key can't judge is no reason not to enrol
			e.notice("%s opens keyslot %d already", x.found, t.Keyslots[0])
		}
	}
	return nil
}

// make makes the credential and gets its secret, which the caller wipes.
func (e *Enroller) make(ctx context.Context, x *session, n needs) (*Token, *secret.Bytes, error) {
	c, failed, err := e.credential(ctx, x, n)
	if err != nil {
		return nil, nil, fmt.Errorf("making a credential: %w", err)
	}
	if failed {
		more := needs{true, n.up, false}
		e.insisted(x, n, more)
		n = more
	}
	t := &Token{Credential: c.ID, Salt: e.Salt, RP: RelyingParty, UP: &n.up, UV: &n.uv}
	if len(bytes.Trim(c.AAGUID, "\x00")) > 0 {
		t.AAGUID = c.AAGUID
	}
	if t.Salt == nil {
		salt := secret.Random(saltSize) // no secret, but the same generator
		t.Salt = bytes.Clone(salt.Reveal())
		salt.Wipe()
	}
	if err := t.check(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	for {
		got, err := x.dev.ask(ctx, t, n, x.pins)
		if err == nil {
			n.uv = n.uv || c.Protected
			t.PIN, t.UP, t.UV = &n.pin, &n.up, &n.uv
			return t, got, nil
		}
		more, ok := x.dev.insists(t, n, err)
		if !ok {
			return nil, nil, fmt.Errorf("getting its secret: %w", err)
		}
		e.insisted(x, n, more)
		n = more
	}
}

// insisted tells what will be asked for in addition.
func (e *Enroller) insisted(x *session, n, more needs) {
	if more.up && !n.up {
		e.notice("%s wants to be touched, so that will be asked for", x.found)
	}
	if more.pin && !n.pin {
		e.notice("%s wants its PIN, so that will be asked for", x.found)
	}
}

// credential makes one. Many a key that has a PIN wants it for that, whatever the
// keyslot will ask for. A credential that only the verified user finds is made
// where the key itself verifies: systemd looks for others before it asks for a PIN.
// failed says that the key did not recognise its user, whose PIN it took instead.
func (e *Enroller) credential(ctx context.Context, x *session, n needs) (c *Credential, failed bool, err error) {
	protect := n.uv
	o := CredentialOptions{RP: RelyingParty, RPName: rpName, Algorithm: e.algorithm(),
		User: User{ID: []byte(e.UUID), Name: e.UUID, DisplayName: e.Volume}}
	for {
		o.Protect = protect && n.uv
		c, err := x.dev.make(ctx, o, n, x.pins)
		switch i := &x.dev.Info; {
		case n.uv && !n.pin && i.PINSet() && (errors.Is(err, StatusUVBlocked) || errors.Is(err, StatusUVInvalid)):
			n.pin, n.uv, failed = true, false, true
		case !n.pin && i.PINSet() && errors.Is(err, StatusPINRequired):
			n.pin = true
		case !n.uv && i.Verifies() && errors.Is(err, StatusPINRequired):
			n.uv = true
		default:
			return c, failed, err
		}
	}
}

// make makes one attempt.
func (d *Device) make(ctx context.Context, o CredentialOptions, n needs, pins *pins) (*Credential, error) {
	agreed, proven, err := d.prove(ctx, n, pins, permitMakeCredential, o.RP)
	if err != nil {
		return nil, err
	}
	defer agreed.wipe()
	defer proven.wipe()
	return d.makeCredential(ctx, o, proven, n.uv)
}
