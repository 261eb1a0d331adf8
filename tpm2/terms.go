package tpm2

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// ErrUnproven: nothing shows that whoever has the volume key has agreed to what a
// token is bound to.
var ErrUnproven = errors.New("what it is bound to is not proven to be its owner's will")

// terms are what a token asks for, whatever the values: what a refresh takes over.
// The header is not authenticated, so a token bound to less, or to somebody else's
// signatures, could be planted there.
type terms struct {
	Keyslot    int
	PCRs       []int
	Bank       string
	PublicKey  []byte
	SignedPCRs []int
	PolicyRef  *string
	PCRLock    bool
	PIN        bool
	Argon2     *PINCost
}

// proof returns a hash over the terms that only who has the volume key can make.
func (t *Token) proof(keyslot int, key *secret.Bytes) ([]byte, error) {
	text, err := json.Marshal(terms{keyslot, append([]int{}, t.PCRs...), t.Bank, t.PublicKey, append([]int{}, t.SignedPCRs...),
		t.PolicyRef, t.PCRLock, t.PIN, t.Argon2})
	if err != nil {
		return nil, err
	}
	derived, err := hkdf.Key(sha256.New, key.Reveal(), nil, "lockport tpm2 terms", digestSize)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	m := hmac.New(sha256.New, derived)
	m.Write(text)
	return m.Sum(nil), nil
}

// authentic tells whether the token's terms are those that were enrolled.
func (t *Token) authentic(keyslot int, key *secret.Bytes) bool {
	if t.Record == nil || len(t.Record.Proof) == 0 {
		return false
	}
	want, err := t.proof(keyslot, key)
	return err == nil && hmac.Equal(want, t.Record.Proof)
}

var _ volume.Binder = (*Enroller)(nil)

// Bind adds the proof of its terms to a token that Enroll has made.
func (e *Enroller) Bind(token json.RawMessage, keyslot int, key *secret.Bytes) (json.RawMessage, error) {
	t, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	r := Record{}
	if t.Record != nil {
		r = *t.Record
	}
	if r.Proof, err = t.proof(keyslot, key); err != nil {
		return nil, fmt.Errorf("proving the terms: %w", err)
	}
	return luks2.SetMember(token, recordMember, r.marshal())
}

// lockFile returns the first pcrlock policy that a keyslot may be bound to: one of
// a trusted place, not one that the boot loader has left.
func (r *Refresher) lockFile(found string) string {
	if slices.Contains(r.PCRLocks, found) {
		return found
	}
	for _, name := range r.PCRLocks {
		if _, err := readPCRLock(name); err == nil {
			return name
		}
	}
	return ""
}
