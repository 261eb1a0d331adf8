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
	return k.one(ctx, k.override(t), ask)
}

// one returns the passphrase of one token, which the caller wipes.
func (k *Key) one(ctx context.Context, t *Token, ask volume.Asker) (pass *secret.Bytes, err error) {
	for _, f := range k.unlock(ctx, []*Token{t}, k.Wait, ask, func(_ int, p *secret.Bytes) error {
		pass = p.Clone()
		return nil
	}) {
		err = f.err
	}
	return pass, err
}

// override puts the caller's URI in the place of the token's.
func (k *Key) override(t *Token) *Token {
	if k.URI != nil {
		t.URI = *k.URI
	}
	return t
}

// A failure is about the tokens of these numbers, nil for all.
type failure struct {
	tokens []int
	err    error
}

// unlock waits for a security token that one of the list names, logs in once, and
// hands the passphrases of all that name it to use, one after the other, until that
// succeeds; then it returns nil. A second login would cost a second try if the PIN is
// wrong, and cards have few. The passphrases stay its own.
func (k *Key) unlock(ctx context.Context, list []*Token, wait time.Duration, ask volume.Asker, use func(i int, pass *secret.Bytes) error) []failure {
	var uris []URI
	for _, t := range list {
		uris = append(uris, t.URI)
	}
	i, d, err := k.Library.find(ctx, uris, wait, func() { k.waiting(uris) })
	if err != nil {
		return []failure{{nil, err}}
	}
	var named []int
	for j, u := range uris {
		if j == i || u.matches(d.slot, d.info, d.token) {
			named = append(named, j)
		}
	}
	c, err := d.insert(ctx)
	if err != nil {
		d.close(ctx)
		return []failure{{named, err}}
	}
	defer c.close(ctx)
	if err := k.login(ctx, c, list, named, ask); err != nil {
		return []failure{{named, err}}
	}
	return each(ctx, c, list, named, use)
}

// login logs in, unless that is of no use for any of the tokens.
func (k *Key) login(ctx context.Context, c *card, list []*Token, named []int, ask volume.Asker) error {
	if c.conn.version < versionCurves && !slices.ContainsFunc(named, func(i int) bool { return !list[i].curve() }) {
		return ErrTooOld // before anybody has to type
	}
	l := &login{card: c, ask: ask, question: question(k.Question, "cryptsetup.pkcs11-pin"), tries: k.Tries, failed: k.Failed, touch: k.Touch}
	return l.run(ctx)
}

// each uses the tokens of a card that somebody is logged in at.
func each(ctx context.Context, c *card, list []*Token, named []int, use func(i int, pass *secret.Bytes) error) []failure {
	var failed []failure
	for n, i := range named {
		err := c.reveal(ctx, list[i], func(pass *secret.Bytes) error { return use(i, pass) })
		if err == nil {
			return nil
		}
		if c.conn.broken != nil || ctx.Err() != nil {
			return append(failed, failure{named[n:], err})
		}
		failed = append(failed, failure{[]int{i}, err})
	}
	return failed
}

// reveal gets the passphrase of a token for use, and wipes it.
func (c *card) reveal(ctx context.Context, t *Token, use func(pass *secret.Bytes) error) error {
	key, err := c.privateKey(ctx, t)
	if err != nil {
		return err
	}
	s, err := c.secret(ctx, key, t)
	if err != nil {
		return err
	}
	defer s.Wipe()
	pass := passphrase(s)
	defer pass.Wipe()
	return use(pass)
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
		key, failed := s.try(ctx, h, list, wait, ask)
		if failed == nil {
			return key, true, nil
		}
		if ctx.Err() != nil {
			return volume.Key{}, true, ctx.Err()
		}
		for _, f := range failed {
			reasons = append(reasons, fmt.Errorf("%s: %w", keyslots(pick(list, f.tokens)), f.err))
		}
		if failed[0].tokens == nil { // there is nothing more to find
			break
		}
		list = without(list, failed)
	}
	if len(reasons) == 0 {
		reasons = append(reasons, errors.New("the volume has no keyslot for it"))
	}
	return volume.Key{}, true, volume.Free(&volume.UnlockError{Reasons: reasons})
}

// try opens the volume with those whose security token is there first.
func (s Slots) try(ctx context.Context, h *luks2.Header, list []slot, wait time.Duration, ask volume.Asker) (key volume.Key, failed []failure) {
	var tokens []*Token
	for _, t := range list {
		tokens = append(tokens, t.token)
	}
	failed = s.unlock(ctx, tokens, wait, ask, func(i int, pass *secret.Bytes) (err error) {
		key, err = volume.Open(ctx, h, list[i].keyslot, pass)
		return err
	})
	return key, failed
}

// pick returns those of the given numbers, or all for nil.
func pick(list []slot, numbers []int) []slot {
	if numbers == nil {
		return list
	}
	var some []slot
	for _, i := range numbers {
		some = append(some, list[i])
	}
	return some
}

// without returns those that did not fail.
func without(list []slot, failed []failure) []slot {
	var rest []slot
	for i, s := range list {
		if !slices.ContainsFunc(failed, func(f failure) bool { return slices.Contains(f.tokens, i) }) {
			rest = append(rest, s)
		}
	}
	return rest
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
	return d.Key.one(ctx, d.Key.override(t), ask)
}
