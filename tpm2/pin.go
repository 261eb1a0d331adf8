package tpm2

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/lockport/lockport/internal/argon2"
	"github.com/lockport/lockport/secret"
)

// pinIterations of PBKDF2 are what systemd does; guessing is the TPM's to stop.
const pinIterations = 10000

// pinKeys is what a PIN turns into.
type pinKeys struct {
	auth *secret.Bytes // what the TPM compares
	lock *secret.Bytes // what the unsealed secret is mixed with; nil before 262
}

func (k pinKeys) wipe() {
	k.auth.Wipe()
	k.lock.Wipe()
}

// pinKeys derives from a PIN what the token asks for: the releases of systemd
// fed different texts to the hash. The caller wipes the result.
func (t *Token) pinKeys(ctx context.Context, pin *secret.Bytes) (pinKeys, error) {
	if pin.Len() == 0 {
		return pinKeys{}, fmt.Errorf("%w: it is empty", ErrPIN)
	}
	if bytes.IndexByte(pin.Reveal(), 0) >= 0 {
		return pinKeys{}, fmt.Errorf("%w: it contains a NUL byte", ErrPIN)
	}
	if t.Argon2 != nil {
		return t.slowPINKeys(ctx, pin)
	}
	text := pin
	if t.Salt != nil {
		raw := pbkdf2(pin, t.Salt, pinIterations)
		defer raw.Wipe()
		text = base64Text(raw)
		defer text.Wipe()
	}
	return pinKeys{auth: authValue(text)}, nil
}

func (t *Token) slowPINKeys(ctx context.Context, pin *secret.Bytes) (pinKeys, error) {
	k, err := argon2.Key(ctx, argon2.Params{Variant: argon2.ID, Time: t.Argon2.Iterations,
		MemoryKiB: uint32(t.Argon2.Memory / 1024), Threads: uint8(t.Argon2.Lanes)}, pin, t.Salt, 64)
	if err != nil {
		return pinKeys{}, err
	}
	defer k.Wipe()
	half := k.Slice(32, 64)
	defer half.Wipe()
	text := base64Text(half)
	defer text.Wipe()
	return pinKeys{auth: authValue(text), lock: k.Slice(0, 32)}, nil
}

// authValue hashes the text and drops the zeros at its end, as the TPM does when
// it takes an authorisation value in (part 1 §19.6.5).
func authValue(text *secret.Bytes) *secret.Bytes {
	sum := sha256.Sum256(text.Reveal())
	a := secret.From(sum[:])
	n := digestSize
	for n > 0 && a.Reveal()[n-1] == 0 {
		n--
	}
	a.Shrink(n)
	return a
}

// pbkdf2 is PBKDF2-HMAC-SHA256 for one block. The caller wipes the result.
func pbkdf2(pass *secret.Bytes, salt []byte, iterations int) *secret.Bytes {
	m := hmac.New(sha256.New, pass.Reveal())
	m.Write(salt)
	m.Write(put32(nil, 1))
	u := m.Sum(nil)
	defer clear(u)
	out := secret.Copy(u)
	sum := out.Reveal() // once: this runs while somebody waits
	for range iterations - 1 {
		m.Reset()
		m.Write(u)
		u = m.Sum(u[:0])
		subtle.XORBytes(sum, sum, u)
	}
	return out
}

// base64Text is the form in which secrets become passphrases. The caller wipes
// the result.
func base64Text(s *secret.Bytes) *secret.Bytes {
	text := secret.New(base64.StdEncoding.EncodedLen(s.Len()))
	base64.StdEncoding.Encode(text.Reveal(), s.Reveal())
	return text
}

// passphrase turns the unsealed shards into the keyslot's passphrase. The caller
// wipes the result.
func passphrase(shards []*secret.Bytes, lock *secret.Bytes) (*secret.Bytes, error) {
	n := 0
	for _, s := range shards {
		n += s.Len()
	}
	if n == 0 {
		return nil, errors.New("an empty secret was sealed")
	}
	all := secret.New(n)
	defer all.Wipe()
	n = 0
	for _, s := range shards {
		n += copy(all.Reveal()[n:], s.Reveal())
	}
	if lock == nil {
		return base64Text(all), nil
	}
	mixed, err := hkdf.Key(sha256.New, lock.Reveal(), all.Reveal(), "systemd-tpm2-argon2id-lock", digestSize)
	if err != nil {
		return nil, err
	}
	key := secret.From(mixed)
	defer key.Wipe()
	return base64Text(key), nil
}
