package volume

import (
	"context"
	"encoding/json"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// Form of a recovery key: 256 random bits in modhex, 8 groups of 8 letters with
// dashes between. Modhex letters are in the same place on most keyboards.
// Format: systemd, src/shared/recovery-key.c.
const (
	modhex        = "cbdefghijklnrtuv"
	recoveryBytes = 32
	recoveryGroup = 8
	recoveryPlain = 2 * recoveryBytes                               // letters
	recoverySize  = recoveryPlain + recoveryPlain/recoveryGroup - 1 // with dashes
)

// NewRecoveryKey returns a fresh recovery key as the text that opens the
// keyslot. The caller wipes it.
func NewRecoveryKey() *secret.Bytes {
	raw := secret.Random(recoveryBytes)
	defer raw.Wipe()
	key := secret.New(recoverySize)
	out := key.Reveal()
	at := 0
	for i, b := range raw.Reveal() {
		if i > 0 && i%(recoveryGroup/2) == 0 {
			out[at] = '-'
			at++
		}
		out[at], out[at+1] = modhex[b>>4], modhex[b&15]
		at += 2
	}
	return key
}

// NormaliseRecoveryKey returns what is meant by a recovery key typed in
// capitals or without dashes, and nil for what is none. The caller wipes it.
func NormaliseRecoveryKey(typed *secret.Bytes) *secret.Bytes {
	in := typed.Reveal()
	if len(in) != recoveryPlain && len(in) != recoverySize {
		return nil
	}
	key := secret.New(recoverySize)
	out := key.Reveal()[:0]
	for i, c := range in {
		if len(in) == recoverySize && i%(recoveryGroup+1) == recoveryGroup {
			if c != '-' {
				key.Wipe()
				return nil
			}
			continue
		}
		letter, ok := modhexLetter(c)
		if !ok {
			key.Wipe()
			return nil
		}
		if len(out)%(recoveryGroup+1) == recoveryGroup {
			out = append(out, '-')
		}
		out = append(out, letter)
	}
	return key
}

func modhexLetter(c byte) (byte, bool) {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	for i := range len(modhex) {
		if modhex[i] == c {
			return c, true
		}
	}
	return 0, false
}

// RecoveryEnroller makes recovery keys.
type RecoveryEnroller struct{}

var _ Enroller = RecoveryEnroller{}

// TokenType is that of systemd's recovery keys.
func (RecoveryEnroller) TokenType() string { return tokenPrefix + string(Recovery) }

// Enroll makes a key. Nobody is asked.
func (e RecoveryEnroller) Enroll(context.Context, Asker) (*secret.Bytes, json.RawMessage, error) {
	return NewRecoveryKey(), json.RawMessage(`{"type":"` + e.TokenType() + `"}`), nil
}

// PasswordEnroller asks for a new passphrase.
type PasswordEnroller struct {
	Question Question  // what to ask
	Cost     luks2.KDF // of the keyslot; measured on this machine if empty
	Limits   luks2.Limits
}

var (
	_ Enroller = PasswordEnroller{}
	_ Coster   = PasswordEnroller{}
)

// TokenType is empty: a passphrase has no token.
func (PasswordEnroller) TokenType() string { return "" }

// Enroll asks for the passphrase.
func (e PasswordEnroller) Enroll(ctx context.Context, ask Asker) (*secret.Bytes, json.RawMessage, error) {
	a, err := ask.Ask(ctx, e.Question)
	if err != nil {
		return nil, nil, err
	}
	defer a.Wipe()
	if len(a.Secrets) != 1 {
		return nil, nil, ErrNoAnswer
	}
	return a.Secrets[0].Clone(), nil, nil
}

// KDF makes guessing a passphrase slow.
func (e PasswordEnroller) KDF(ctx context.Context) (luks2.KDF, error) {
	if e.Cost.Type != "" {
		return e.Cost, nil
	}
	return luks2.DefaultKDF(ctx, e.Limits)
}
