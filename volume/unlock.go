package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// ErrTries: the allowed number of attempts is used up.
var ErrTries = errors.New("too many attempts")

// A Method is one way to the volume key. Implementations report what is wrong
// with an error that is [ErrNext], made by [Next], when another attempt or
// method may do better; any other error ends the unlocking.
type Method interface {
	// Name is for messages, "key file /etc/x.key".
	Name() string
	// Silent methods need no person and go first.
	Silent() bool
	// VolumeKey makes attempt number n of this method, from 0. done says that
	// the method has nothing more to offer. The caller wipes the key.
	VolumeKey(ctx context.Context, h *luks2.Header, ask Asker, n int) (key Key, done bool, err error)
}

// Key is a volume key and the keyslot that it came from.
type Key struct {
	Keyslot int
	Volume  *secret.Bytes
}

// ErrNext marks errors after which the next attempt may succeed.
var ErrNext = errors.New("the next attempt may succeed")

// Next marks an error as [ErrNext] and leaves its text as it is.
func Next(err error) error { return next{err} }

type next struct{ error }

func (n next) Unwrap() error        { return n.error }
func (n next) Is(target error) bool { return target == ErrNext }

// Free marks an error as [ErrNext], of an attempt that does not count against the
// tries: a device that can't help takes no attempt from the person.
func Free(err error) error { return free{err} }

type free struct{ error }

func (f free) Unwrap() error        { return f.error }
func (f free) Is(target error) bool { return target == ErrNext }

// UnlockOptions limits an unlock.
type UnlockOptions struct {
	Tries int // attempts over all methods but [Tokens]; 0 is without end
	// Failed is told of a failed attempt before another is made; the last one
	// is in the error that [Unlock] returns. May be nil.
	Failed func(method string, err error)
}

// UnlockError says why no method unlocked the volume. It unwraps to all reasons.
type UnlockError struct{ Reasons []error }

// Error lists each different reason once.
func (e *UnlockError) Error() string {
	var texts []string
	for _, r := range e.Reasons {
		if text := r.Error(); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns all reasons.
func (e *UnlockError) Unwrap() []error { return e.Reasons }

// Join makes one error of several, in one line: nil of none, nils are left out.
func Join(errs ...error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return nil
	}
	return &UnlockError{Reasons: errs}
}

// Unlock tries the methods, silent ones first, until one brings the volume key,
// which the caller wipes. Every failed attempt counts against the tries, as
// with systemd-cryptsetup, but for those of [Tokens].
func Unlock(ctx context.Context, h *luks2.Header, methods []Method, ask Asker, o UnlockOptions) (Key, error) {
	if err := h.Usable(); err != nil {
		return Key{}, err
	}
	queue := slices.Clone(methods)
	slices.SortStableFunc(queue, func(a, b Method) int { return rank(a) - rank(b) })
	failed, before := &UnlockError{}, ""
	for try, n := 0, 0; len(queue) > 0; {
		if o.Tries > 0 && try == o.Tries {
			if o.Tries > 1 {
				failed.Reasons = append(failed.Reasons, ErrTries)
			}
			break
		}
		m := queue[0]
		if last := len(failed.Reasons) - 1; last >= 0 && o.Failed != nil {
			o.Failed(before, failed.Reasons[last])
		}
		before = m.Name()
		key, done, err := m.VolumeKey(ctx, h, ask, n)
		if err == nil {
			return checkBound(h, key)
		}
		if ctx.Err() != nil {
			return Key{}, ctx.Err()
		}
		err = fmt.Errorf("%s: %w", m.Name(), err)
		failed.Reasons = append(failed.Reasons, err)
		if !errors.Is(err, ErrNext) {
			break
		}
		if !errors.As(err, new(free)) {
			try++
		}
		n++
		if done {
			queue, n = queue[1:], 0
		}
	}
	if len(failed.Reasons) == 0 {
		return Key{}, fmt.Errorf("%w: no way to unlock is configured", ErrNoAnswer)
	}
	return Key{}, failed
}

// checkBound refuses the key of an unbound keyslot, which only comes up when a
// slot is asked for by number. Used on the data it would read as noise, and what
// is written under it would be lost.
func checkBound(h *luks2.Header, key Key) (Key, error) {
	if h.Bound(key.Keyslot) {
		return key, nil
	}
	key.Volume.Wipe()
	return Key{}, fmt.Errorf("keyslot %d opens, but holds another key than that of the data: %w", key.Keyslot, luks2.ErrUnsupported)
}

func rank(m Method) int {
	if m.Silent() {
		return 0
	}
	return 1
}

// open finds the volume key for a passphrase in one slot or in all.
func open(ctx context.Context, h *luks2.Header, keyslot int, pass *secret.Bytes) (Key, error) {
	if keyslot == luks2.AnySlot {
		id, key, err := h.Find(ctx, pass)
		return Key{id, key}, err
	}
	key, err := h.VolumeKey(ctx, keyslot, pass)
	if errors.Is(err, luks2.ErrPassphrase) {
		err = wrongFor(keyslot)
	}
	return Key{keyslot, key}, err
}

// wrongFor is [luks2.ErrPassphrase] for the one keyslot that was to be tried.
type wrongFor int

func (w wrongFor) Error() string {
	return fmt.Sprintf("keyslot %d does not open with this passphrase", int(w))
}
func (wrongFor) Is(target error) bool { return target == luks2.ErrPassphrase }

// Open finds the volume key for what a person typed, as it is or, should that
// not open, as the recovery key that may be meant. keyslot may be luks2.AnySlot.
// The caller wipes the key.
func Open(ctx context.Context, h *luks2.Header, keyslot int, typed *secret.Bytes) (Key, error) {
	key, err := open(ctx, h, keyslot, typed)
	if !errors.Is(err, luks2.ErrPassphrase) {
		return key, err
	}
	meant := NormaliseRecoveryKey(typed)
	if meant == nil {
		return key, err
	}
	defer meant.Wipe()
	if meant.Equal(typed) {
		return key, err
	}
	return open(ctx, h, keyslot, meant)
}

// Passphrase asks for passphrases or recovery keys.
type Passphrase struct {
	Question Question // %s in the message becomes what the volume can be opened with
	Keyslot  int      // luks2.AnySlot for all
}

var _ Method = Passphrase{}

// Name is "passphrase".
func (Passphrase) Name() string { return "passphrase" }

// Silent is false: someone has to type.
func (Passphrase) Silent() bool { return false }

// VolumeKey asks once and tries everything that comes back.
func (p Passphrase) VolumeKey(ctx context.Context, h *luks2.Header, ask Asker, n int) (Key, bool, error) {
	what := wanted(h)
	if what == "" {
		return Key{}, true, errors.New("no passphrase and no recovery key is enrolled")
	}
	q := p.Question
	q.Attempt = n
	q.Message = strings.Replace(q.Message, "%s", what, 1)
	a, err := ask.Ask(ctx, q)
	if err != nil {
		return Key{}, true, err
	}
	defer a.Wipe()
	err = luks2.ErrPassphrase
	for _, s := range a.Secrets {
		var key Key
		if key, err = Open(ctx, h, p.Keyslot, s); err == nil {
			return key, false, nil
		}
		if !errors.Is(err, luks2.ErrPassphrase) {
			return Key{}, true, err
		}
	}
	if a.From == FromEnvironment {
		return Key{}, true, fmt.Errorf("from $%s: %w", q.Env, err)
	}
	return Key{}, false, Next(err)
}

// wanted says what a person can type for this volume, "" for nothing.
func wanted(h *luks2.Header) string {
	var pass, recovery bool
	for _, s := range List(h) {
		if !s.Bound {
			continue
		}
		pass = pass || s.Kind == Password || s.Kind == Other || s.Kind == Conflict
		recovery = recovery || s.Kind == Recovery
	}
	switch {
	case pass && recovery:
		return "passphrase or recovery key"
	case recovery:
		return "recovery key"
	case pass:
		return "passphrase"
	}
	return ""
}

// Empty tries the empty passphrase.
type Empty struct {
	Keyslot int // luks2.AnySlot for all
}

var _ Method = Empty{}

// Name is "empty passphrase".
func (Empty) Name() string { return "empty passphrase" }

// Silent is true.
func (Empty) Silent() bool { return true }

// VolumeKey makes one attempt.
func (e Empty) VolumeKey(ctx context.Context, h *luks2.Header, _ Asker, _ int) (Key, bool, error) {
	pass := secret.New(0)
	defer pass.Wipe()
	key, err := open(ctx, h, e.Keyslot, pass)
	return key, true, nextIfWrong(err)
}

// nextIfWrong lets the next method try after a wrong passphrase.
func nextIfWrong(err error) error {
	if errors.Is(err, luks2.ErrPassphrase) {
		return Next(err)
	}
	return err
}

// KeyFile reads the passphrase from a file or from a socket that hands it out.
type KeyFile struct {
	Source  KeySource
	Keyslot int // luks2.AnySlot for all
}

var _ Method = KeyFile{}

// Name names the file.
func (k KeyFile) Name() string { return "key file " + k.Source.Path }

// Silent is true.
func (KeyFile) Silent() bool { return true }

// VolumeKey reads the key and tries it as it is. It makes one attempt.
func (k KeyFile) VolumeKey(ctx context.Context, h *luks2.Header, _ Asker, _ int) (Key, bool, error) {
	pass, err := k.Source.read(ctx)
	if err != nil {
		return Key{}, true, Next(err)
	}
	defer pass.Wipe()
	key, err := open(ctx, h, k.Keyslot, pass)
	if errors.Is(err, luks2.ErrPassphrase) && bytes.HasSuffix(pass.Reveal(), []byte("\n")) {
		err = fmt.Errorf("%w; it ends with a newline, which counts", err)
	}
	return key, true, nextIfWrong(err)
}

// Keyring takes the passphrase from a key in the kernel's keyring, as the
// luks2-keyring tokens of the header name them.
type Keyring struct {
	// Lookup returns the payload of the key of type "user" with this
	// description. The method wipes it.
	Lookup  func(description string) (*secret.Bytes, error)
	Keyslot int
}

var _ Method = Keyring{}

// Name is "kernel keyring".
func (Keyring) Name() string { return "kernel keyring" }

// Silent is true.
func (Keyring) Silent() bool { return true }

// VolumeKey tries every token of the kind. It makes one attempt.
func (k Keyring) VolumeKey(ctx context.Context, h *luks2.Header, _ Asker, _ int) (Key, bool, error) {
	var reasons []error
	for _, t := range h.Tokens() {
		name, ok := t.KeyringDescription()
		if !ok {
			continue
		}
		pass, err := k.Lookup(name)
		if err != nil {
			reasons = append(reasons, fmt.Errorf("token %d: %w", t.ID, err))
			continue
		}
		defer pass.Wipe()
		for _, slot := range t.Keyslots {
			if k.Keyslot != luks2.AnySlot && k.Keyslot != slot {
				continue
			}
			key, err := open(ctx, h, slot, pass)
			if err == nil {
				return key, true, nil
			}
			reasons = append(reasons, fmt.Errorf("token %d: %w", t.ID, err))
		}
	}
	return Key{}, true, Next(errors.Join(reasons...))
}

// HasKeyring tells whether the header names keys of the kernel's keyring.
func HasKeyring(h *luks2.Header) bool {
	return slices.ContainsFunc(h.Tokens(), func(t luks2.Token) bool {
		_, ok := t.KeyringDescription()
		return ok && len(t.Keyslots) > 0
	})
}
