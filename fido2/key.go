package fido2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// Auto is the Device that means any security key.
const Auto = "auto"

// ForEver is the Wait that has no end.
const ForEver = time.Duration(-1)

// Key opens keyslots with security keys. It keeps no state between calls and is
// safe for concurrent use if its functions are.
type Key struct {
	Port   Port
	Device string // path of the key to use; "" or [Auto] for all that are there
	// Wait is how long a key that opens the volume is waited for, [ForEver] without
	// end; 0 for not at all.
	Wait time.Duration
	// Question is how a PIN is asked for. Where its Message, Env, Credential and
	// Cache are empty, those of systemd-cryptsetup are taken.
	Question volume.Question
	NoCache  bool // PINs are not shared between volumes
	Headless bool // there is nobody to touch a key

	// Touch is told when a key waits for a person to touch it, Waiting when none
	// that opens the volume is there and one is waited for, with the reason, and
	// Failed of what went wrong while there is still something to try. May be nil.
	Touch   func(key string)
	Waiting func(reason error)
	Failed  func(err error)
}

var _ volume.Unlocker = (*Key)(nil)

// TokenType is [TokenType].
func (*Key) TokenType() string { return TokenType }

// Unlock gets the passphrase of the token's keyslot out of the key that it was
// enrolled with; the caller wipes it. See [Method] for a volume with several.
func (k *Key) Unlock(ctx context.Context, token json.RawMessage, ask volume.Asker) (*secret.Bytes, error) {
	t, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	var pass *secret.Bytes
	s := &search{k: k, ask: ask, targets: []target{{t, 0}}, use: func(_ context.Context, _ target, p *secret.Bytes) error {
		pass = p.Clone()
		return nil
	}}
	err = s.run(ctx)
	return pass, err
}

// question fills in what the caller left open.
func (k *Key) question() volume.Question {
	return k.Question.Or(volume.Question{Message: "Please enter security token PIN:", Env: "PIN", Credential: "cryptsetup.fido2-pin",
		Cache: "fido2-pin"})
}

// Method opens a volume with the tokens of its header: every token is tried with
// every key that is there.
type Method struct {
	Key     *Key
	Keyslot int // luks2.AnySlot for all
}

var _ volume.Method = Method{}

// Name is "FIDO2".
func (Method) Name() string { return "FIDO2" }

// Silent is false: somebody may have to touch a key, type its PIN, or plug it in.
func (Method) Silent() bool { return false }

// VolumeKey makes one attempt, which takes no try from a person.
func (m Method) VolumeKey(ctx context.Context, h *luks2.Header, ask volume.Asker, _ int) (volume.Key, bool, error) {
	targets, err := m.targets(h)
	if len(targets) == 0 {
		return volume.Key{}, true, volume.Unhelpful(errors.Join(err, errNoTokens))
	}
	key, failed := unlock(ctx, m.Key, h, ask, targets)
	if failed != nil {
		return volume.Key{}, true, volume.Unhelpful(volume.Join(err, failed))
	}
	return key, true, nil
}

var errNoTokens = errors.New("the volume has no keyslot for it")

// targets reads the tokens. One that names no keyslot, or several, is not of
// systemd's making, which passes such over too. The error is about those that
// make no sense.
func (m Method) targets(h *luks2.Header) ([]target, error) {
	var list []target
	var errs []error
	for _, t := range (volume.Tokens{With: m.Key, Keyslot: m.Keyslot}).Tokens(h) {
		token, err := ParseToken(t.JSON)
		if err != nil {
			errs = append(errs, fmt.Errorf("keyslot %d: %w", t.Keyslots[0], err))
			continue
		}
		list = append(list, target{token, t.Keyslots[0]})
	}
	return list, volume.Join(errs...)
}

// Wanted tells whether the header has tokens to try.
func Wanted(h *luks2.Header) bool {
	list, _ := Method{Key: &Key{}, Keyslot: luks2.AnySlot}.targets(h)
	return len(list) > 0
}

// Manual opens a volume with a credential that is not in its header, and a salt
// from a file; see crypttab(5), fido2-cid= with a key file.
type Manual struct {
	Key     *Key
	Token   Token            // without salt
	Salt    volume.KeySource // 32 bytes
	Keyslot int              // luks2.AnySlot for all
}

var _ volume.Method = Manual{}

// Name names the file.
func (m Manual) Name() string { return "FIDO2 with " + m.Salt.Path }

// Silent is false: somebody may have to touch a key, type its PIN, or plug it in.
func (Manual) Silent() bool { return false }

// VolumeKey makes one attempt.
func (m Manual) VolumeKey(ctx context.Context, h *luks2.Header, ask volume.Asker, _ int) (volume.Key, bool, error) {
	key, err := m.volumeKey(ctx, h, ask)
	if err != nil {
		return volume.Key{}, true, volume.Unhelpful(err)
	}
	return key, true, nil
}

func (m Manual) volumeKey(ctx context.Context, h *luks2.Header, ask volume.Asker) (volume.Key, error) {
	salt, err := ReadSalt(ctx, m.Salt)
	if err != nil {
		return volume.Key{}, err
	}
	t := m.Token
	t.Salt = salt
	if t.RP == "" {
		t.RP = RelyingParty
	}
	if err := t.check(); err != nil {
		return volume.Key{}, err
	}
	return unlock(ctx, m.Key, h, ask, []target{{&t, m.Keyslot}})
}

// ReadSalt reads a salt from a file or socket, whose errors name it.
func ReadSalt(ctx context.Context, from volume.KeySource) ([]byte, error) {
	if from.Path == "" {
		return nil, errNoSalt
	}
	// No secret, but read as one: what the path leads to may be one.
	b, err := from.Read(ctx)
	if err != nil {
		return nil, err
	}
	defer b.Wipe()
	if b.Len() != saltSize {
		return nil, fmt.Errorf("%s: salt of %d bytes, it has to have %d", from.Path, b.Len(), saltSize)
	}
	return append([]byte(nil), b.Reveal()...), nil
}

var errNoSalt = errors.New("the credential wants a key file with its salt")

// unlock opens the volume with one of the targets.
func unlock(ctx context.Context, k *Key, h *luks2.Header, ask volume.Asker, targets []target) (volume.Key, error) {
	var key volume.Key
	s := &search{k: k, ask: ask, targets: targets, use: func(ctx context.Context, t target, pass *secret.Bytes) (err error) {
		key, err = volume.Open(ctx, h, t.keyslot, pass)
		return err
	}}
	err := s.run(ctx)
	return key, err
}
