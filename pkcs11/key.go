package pkcs11

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// Key opens keyslots with a security token. It keeps no state between calls.
type Key struct {
	Library *Library
	URI     *URI          // in place of what a token of the header names; nil for that
	Wait    time.Duration // for the security token; 0 not at all, negative for ever
	// Waiting is told what is waited for, by its URI. May be nil.
	Waiting func(tokens []string)
	// Question is how a PIN is asked for; %s in its message is what the security
	// token calls itself. Where Message, Env and Credential are empty, those of
	// systemd-cryptsetup are taken. The answers are never shared between volumes.
	Question volume.Question
	Tries    int                // of PINs; 0 for 3
	Failed   func(err error)    // is told of a wrong PIN before the next is asked for; may be nil
	Touch    func(token string) // is told that a person has to log in at the token itself; may be nil
}

var _ volume.Unlocker = (*Key)(nil)

// TokenType is [TokenType].
func (*Key) TokenType() string { return TokenType }

// Unlock returns the passphrase of the token's keyslot, which the caller wipes.
// The errors are those of this package and of ask. Nothing counts as guessing but a
// wrong PIN.
func (k *Key) Unlock(ctx context.Context, token json.RawMessage, ask volume.Asker) (*secret.Bytes, error) {
	t, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	_, pass, err := k.unlock(ctx, []*Token{k.override(t)}, k.Wait, ask)
	return pass, err
}

// override puts the caller's URI in the place of the token's.
func (k *Key) override(t *Token) *Token {
	if k.URI != nil {
		t.URI = *k.URI
	}
	return t
}

// unlock unlocks with the first of the tokens whose security token is there, and
// tells which one that is: -1 if none is.
func (k *Key) unlock(ctx context.Context, list []*Token, wait time.Duration, ask volume.Asker) (int, *secret.Bytes, error) {
	var uris []URI
	for _, t := range list {
		uris = append(uris, t.URI)
	}
	i, d, err := k.Library.find(ctx, uris, wait, func() { k.waiting(uris) })
	if err != nil {
		return -1, nil, err
	}
	c, err := d.insert(ctx)
	if err != nil {
		d.close(ctx)
		return i, nil, err
	}
	defer c.close(ctx)
	s, err := k.secret(ctx, c, list[i], ask)
	if err != nil {
		return i, nil, err
	}
	defer s.Wipe()
	return i, passphrase(s), nil
}

func (k *Key) secret(ctx context.Context, c *card, t *Token, ask volume.Asker) (*secret.Bytes, error) {
	if t.curve() && c.conn.version < versionCurves {
		return nil, ErrTooOld // before anybody has to type
	}
	l := &login{card: c, ask: ask, question: k.question("PIN", "cryptsetup.pkcs11-pin"), tries: k.Tries, failed: k.Failed, touch: k.Touch}
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	key, err := c.privateKey(ctx, t)
	if err != nil {
		return nil, err
	}
	return c.secret(ctx, key, t)
}

func (k *Key) question(env, credential string) volume.Question {
	q := k.Question
	for _, d := range []struct {
		field *string
		value string
	}{{&q.Message, "Please enter PIN of security token %s:"}, {&q.Env, env}, {&q.Credential, credential}} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	return q
}

func (k *Key) waiting(uris []URI) {
	if k.Waiting == nil {
		return
	}
	var names []string
	for _, u := range uris {
		if name := u.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	k.Waiting(names)
}

// Slots opens a volume with the tokens of its header: whichever security token is
// there first is used, and then, if that does not help, others that are there.
type Slots struct {
	*Key
	Keyslot int // luks2.AnySlot for all
}

var _ volume.Method = Slots{}

// Name is "PKCS#11".
func (Slots) Name() string { return "PKCS#11" }

// Silent is false: somebody has to type, or to put in a card.
func (Slots) Silent() bool { return false }

// VolumeKey makes one attempt, with every token. The caller wipes the key.
func (s Slots) VolumeKey(ctx context.Context, h *luks2.Header, ask volume.Asker, _ int) (volume.Key, bool, error) {
	list, reasons := s.tokens(h)
	for wait := s.Wait; len(list) > 0; wait = 0 {
		i, key, err := s.try(ctx, h, list, wait, ask)
		if err == nil {
			return key, true, nil
		}
		if ctx.Err() != nil {
			return volume.Key{}, true, ctx.Err()
		}
		if i < 0 {
			reasons = append(reasons, fmt.Errorf("%s: %w", keyslots(list), err))
			break
		}
		reasons = append(reasons, fmt.Errorf("%s: %w", keyslots(list[i:i+1]), err))
		list = slices.Delete(list, i, i+1)
	}
	if len(reasons) == 0 {
		reasons = append(reasons, errors.New("the volume has no keyslot for it"))
	}
	return volume.Key{}, true, volume.Free(&volume.UnlockError{Reasons: reasons})
}

// try opens the volume with the first that is there.
func (s Slots) try(ctx context.Context, h *luks2.Header, list []slot, wait time.Duration, ask volume.Asker) (int, volume.Key, error) {
	var tokens []*Token
	for _, t := range list {
		tokens = append(tokens, t.token)
	}
	i, pass, err := s.unlock(ctx, tokens, wait, ask)
	if err != nil {
		return i, volume.Key{}, err
	}
	defer pass.Wipe()
	key, err := volume.Open(ctx, h, list[i].keyslot, pass)
	return i, key, err
}

// A slot is a token of a header and its keyslot.
type slot struct {
	keyslot int
	token   *Token
}

// tokens reads the tokens in the order of their numbers.
func (s Slots) tokens(h *luks2.Header) (list []slot, reasons []error) {
	for _, t := range (volume.Tokens{With: s.Key, Keyslot: s.Keyslot}).Tokens(h) {
		parsed, err := ParseToken(t.JSON)
		if err != nil {
			reasons = append(reasons, fmt.Errorf("keyslot %d: %w", t.Keyslots[0], err))
			continue
		}
		list = append(list, slot{t.Keyslots[0], s.override(parsed)})
	}
	return list, reasons
}

// keyslots names keyslots, "keyslots 2, 3".
func keyslots(list []slot) string {
	var numbers []string
	for _, s := range list {
		numbers = append(numbers, fmt.Sprint(s.keyslot))
	}
	if len(numbers) == 1 {
		return "keyslot " + numbers[0]
	}
	return "keyslots " + strings.Join(numbers, ", ")
}

// Data opens a volume with what was encrypted for a security token and is kept in
// a file of its own. See crypttab(5), pkcs11-uri= with a key file.
type Data struct {
	Key     *Key             // its URI says which security token and key
	Source  volume.KeySource // of what is encrypted
	Keyslot int              // luks2.AnySlot for all
}

var _ volume.Method = Data{}

// Name names the file.
func (d Data) Name() string { return "PKCS#11 with " + d.Source.Path }

// Silent is false: somebody has to type, or to put in a card.
func (Data) Silent() bool { return false }

// VolumeKey makes one attempt. The caller wipes the key.
func (d Data) VolumeKey(ctx context.Context, h *luks2.Header, ask volume.Asker, _ int) (volume.Key, bool, error) {
	pass, err := d.unlock(ctx, ask)
	if err != nil {
		return volume.Key{}, true, volume.Next(err)
	}
	defer pass.Wipe()
	key, err := volume.Open(ctx, h, d.Keyslot, pass)
	if err != nil {
		return volume.Key{}, true, volume.Next(err)
	}
	return key, true, nil
}

func (d Data) unlock(ctx context.Context, ask volume.Asker) (*secret.Bytes, error) {
	data, err := d.Source.Read(ctx)
	if err != nil {
		return nil, err
	}
	defer data.Wipe()
	if n := data.Len(); n < minKey || n > maxKey {
		return nil, fmt.Errorf("%s: %d bytes are nothing that was encrypted for a security token", d.Source.Path, n)
	}
	t := &Token{Key: slices.Clone(data.Reveal()), Padding: PKCS1}
	_, pass, err := d.Key.unlock(ctx, []*Token{d.Key.override(t)}, d.Key.Wait, ask)
	return pass, err
}
