package tpm2

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2/eventlog"
	"github.com/lockport/lockport/volume"
)

// Enroller makes keyslots that open with a TPM, and the tokens for them as
// systemd 257 writes them. It keeps no state between calls.
type Enroller struct {
	// Open opens the TPM; [Open] will do. A device that is an io.Closer is
	// closed after use. It is not called when ParentPublic is given.
	Open func(ctx context.Context) (Device, error)
	// ParentPublic is the public part (a TPM2B_PUBLIC) of the storage key of a
	// TPM that is elsewhere. All PCRs then need their values.
	ParentPublic []byte
	ParentHandle uint32 // of the storage key; 0 for the shared one, made if missing

	PCRs       []PCR    // to bind to
	PublicKey  []byte   // PEM file of the key that signs PCR policies; nil for none
	SignedPCRs []int    // that it signs for
	PolicyRef  *string  // what its signatures refer to (systemd 262); nil for nothing
	Signatures []string // where a signature may be, to try the new keyslot with; nil to do without
	PCRLock    string   // file of the pcrlock policy; "" for none
	PIN        bool
	PINCost    *PINCost // to derive the PIN with argon2id, which systemd reads from 262 on; nil for as before
	Unbound    bool     // a keyslot that any software on this machine can open is wanted
	// Root is where the logs of what was measured are, "/" as a rule: the token
	// then records what it is bound to, so that a later difference can be told.
	// "" for no record.
	Root string
	// Pending is the present boot if the PCR values are those of a later one, else
	// ""; see [Record].
	Pending string

	// Question is how a new PIN is asked for. Where its Message, Confirm, Env
	// and Credential are empty, those of systemd-cryptenroll are taken.
	Question volume.Question
	// Existing are the header's tokens. One with the same policy and without a
	// PIN makes Enroll return [AlreadyEnrolled].
	Existing []luks2.Token
}

var _ volume.Enroller = (*Enroller)(nil)

// AlreadyEnrolled says that a keyslot with the same parent and policy exists, so
// that another would add nothing.
type AlreadyEnrolled struct{ Keyslot int }

// Error names the keyslot.
func (a *AlreadyEnrolled) Error() string {
	return fmt.Sprintf("keyslot %d is bound to the same already", a.Keyslot)
}

// TokenType is [TokenType].
func (*Enroller) TokenType() string { return TokenType }

// Enroll seals a fresh secret and returns the passphrase that it makes and the
// token that brings it back; the caller wipes the passphrase. Unless it is bound
// to PCR values or to pcrlock, which may be those of another time, what was
// sealed is unsealed again first. It returns an error wrapping [ErrUnbound]
// for a policy that asks for nothing.
func (e *Enroller) Enroll(ctx context.Context, ask volume.Asker) (*secret.Bytes, json.RawMessage, error) {
	s, err := e.sealing(ctx)
	if err != nil {
		return nil, nil, err
	}
	pass, token, err := s.enroll(ctx, ask)
	if closed := s.close(); err == nil && closed != nil {
		pass.Wipe()
		return nil, nil, fmt.Errorf("closing the TPM: %w", closed)
	}
	return pass, token, err
}

// Check returns what Enroll would refuse before it seals, so that nobody has to
// type in vain: a policy that binds to nothing, files that can't be read, no TPM.
func (e *Enroller) Check(ctx context.Context) error {
	s, err := e.sealing(ctx)
	if err != nil {
		return err
	}
	return s.close()
}

// sealing is one enrolment under way.
type sealing struct {
	e      *Enroller
	c      *conn // nil when the TPM is elsewhere
	t      *Token
	handle uint32
	parent *parent
	signer []byte // name
	lock   *pcrLock
	bank   bank
	values map[int][]byte
}

func (s *sealing) close() error {
	if s.c == nil {
		return nil
	}
	return closeDevice(s.c.dev)
}

// sealing checks what can be checked without a TPM, and opens it.
func (e *Enroller) sealing(ctx context.Context) (*sealing, error) {
	s := &sealing{e: e, t: &Token{PIN: e.PIN, Argon2: e.PINCost}, values: map[int][]byte{}}
	for _, p := range e.PCRs {
		if err := s.bind(p); err != nil {
			return nil, err
		}
	}
	s.t.PCRs = sortedPCRs(s.values)
	if err := s.policyFiles(); err != nil {
		return nil, err
	}
	if len(s.t.PCRs) == 0 && s.signer == nil && s.lock == nil && !e.PIN && !e.Unbound {
		return nil, ErrUnbound
	}
	if e.ParentPublic != nil {
		return s, s.offline()
	}
	dev, err := e.Open(ctx)
	if err != nil {
		return nil, err
	}
	s.c = &conn{dev}
	return s, nil
}

// bind notes one PCR.
func (s *sealing) bind(p PCR) error {
	if p.Index < 0 || p.Index > maxPCR {
		return fmt.Errorf("there is no PCR %d", p.Index)
	}
	if old, twice := s.values[p.Index]; twice && old != nil && p.Value != nil && !bytes.Equal(old, p.Value) {
		return fmt.Errorf("PCR %d is given with two values", p.Index)
	} else if !twice || old == nil {
		s.values[p.Index] = p.Value
	}
	if p.Bank == "" {
		return nil
	}
	b, err := bankByName(p.Bank)
	if err == nil && s.bank.name != "" && s.bank != b {
		err = fmt.Errorf("%w: PCRs of the two banks %s and %s", luks2.ErrUnsupported, s.bank.name, b.name)
	}
	if err == nil && p.Value != nil && len(p.Value) != b.size {
		err = fmt.Errorf("PCR %d: value of %d bytes", p.Index, len(p.Value))
	}
	s.bank = b
	return err
}

// policyFiles reads the signing key and the pcrlock policy.
func (s *sealing) policyFiles() error {
	if e := s.e; e.PublicKey != nil && len(e.SignedPCRs) > 0 {
		key, err := parseSigner(e.PublicKey)
		if err != nil {
			return fmt.Errorf("key that signs PCR policies: %w", err)
		}
		s.signer = objectName(signerPublic(key, uint32(key.E)))
		s.t.PublicKey, s.t.SignedPCRs, s.t.PolicyRef = e.PublicKey, slices.Clone(e.SignedPCRs), e.PolicyRef
		if err := checkPCRs(s.t.SignedPCRs); err != nil {
			return err
		}
	}
	if s.e.PCRLock == "" {
		return nil
	}
	var err error
	if s.lock, err = readPCRLock(s.e.PCRLock); err != nil {
		return fmt.Errorf("pcrlock policy %s: %w", s.e.PCRLock, err)
	}
	s.t.PCRLock, s.t.PCRLockNV = true, s.lock.nv.marshal()
	return nil
}

// offline checks that nothing has to be asked of the TPM that is elsewhere.
func (s *sealing) offline() error {
	if s.signer != nil && s.lock != nil {
		return fmt.Errorf("%w: a signed policy together with pcrlock needs the TPM at hand", luks2.ErrUnsupported)
	}
	for n, v := range s.values {
		if v == nil {
			return fmt.Errorf("PCR %d needs a value, as the TPM is not at hand", n)
		}
	}
	c := &cursor{b: s.e.ParentPublic}
	public := c.sized()
	err := c.end()
	if err == nil {
		s.parent, err = parseParent(public)
	}
	if err != nil {
		return fmt.Errorf("public part of the storage key: %w", err)
	}
	if s.handle = s.e.ParentHandle; s.handle == 0 {
		s.handle = srkHandle
	}
	return nil
}

func (s *sealing) enroll(ctx context.Context, ask volume.Asker) (*secret.Bytes, json.RawMessage, error) {
	if err := s.look(ctx); err != nil {
		return nil, nil, err
	}
	for _, p := range s.t.shardPolicies() {
		var nv []byte
		if s.lock != nil {
			nv = s.lock.nv.name
		}
		d := p.digest(s.signer, refDigest(s.t.PolicyRef), nv, s.bank.alg, s.values)
		s.t.Policies = append(s.t.Policies, d[:])
	}
	if err := s.already(); err != nil {
		return nil, nil, err
	}
	keys, err := s.newPIN(ctx, ask)
	if err != nil {
		return nil, nil, err
	}
	defer keys.wipe()
	pass, err := s.sealAll(ctx, keys)
	if err != nil {
		return nil, nil, err
	}
	s.remember()
	text, err := json.Marshal(s.t)
	if err == nil && s.provable() {
		err = s.prove(ctx, text, keys, pass)
	}
	if err != nil {
		pass.Wipe()
		return nil, nil, err
	}
	return pass, text, nil
}

// look asks the TPM for its parent key, bank and PCR values.
func (s *sealing) look(ctx context.Context) error {
	var err error
	if s.c != nil {
		if s.handle, s.parent, err = s.c.storageKey(ctx, s.e.ParentHandle); err != nil {
			return err
		}
	}
	record := &handleRecord{handle: s.handle, name: s.parent.name(), kind: resourceKey, public: s.parent.raw}
	s.t.SRK, s.t.PrimaryAlg = record.marshal(), s.parent.algName()
	if s.lock != nil && !sameRecord(s.lock.srk, s.t.SRK, resourceKey) {
		return fmt.Errorf("%w: the pcrlock policy", ErrOtherTPM)
	}
	bound := append(slices.Clone(s.t.PCRs), s.t.SignedPCRs...)
	if len(bound) == 0 {
		return nil
	}
	if s.bank.name == "" {
		if s.c == nil {
			s.bank, err = bankByName("sha256")
		} else {
			s.bank, err = s.c.bestBank(ctx, bound)
		}
	}
	if err != nil {
		return err
	}
	s.t.Bank = s.bank.name
	return s.readPCRs(ctx)
}

// readPCRs fills in the values that were not given.
func (s *sealing) readPCRs(ctx context.Context) error {
	var open []int
	for _, n := range s.t.PCRs {
		switch v := s.values[n]; {
		case v == nil:
			open = append(open, n)
		case len(v) != s.bank.size:
			return fmt.Errorf("PCR %d: value of %d bytes, a value of %s has %d", n, len(v), s.bank.name, s.bank.size)
		}
	}
	if len(open) == 0 {
		return nil
	}
	values, err := s.c.pcrRead(ctx, s.bank, open)
	for n, v := range values {
		s.values[n] = v
	}
	return err
}

// already looks for a keyslot that has all this, with which nothing has to be
// done. A PIN may be meant to change.
func (s *sealing) already() error {
	for _, t := range s.e.Existing {
		if s.t.PIN || t.Type != TokenType || len(t.Keyslots) != 1 {
			continue
		}
		old, err := ParseToken(t.JSON)
		if err == nil && !old.PIN && samePolicy(old, s.t) {
			return &AlreadyEnrolled{t.Keyslots[0]}
		}
	}
	return nil
}

// samePolicy compares digests, and what the digest of a signed policy leaves out:
// the PCRs that are signed for, and their bank.
func samePolicy(a, b *Token) bool {
	return slices.EqualFunc(a.Policies, b.Policies, bytes.Equal) && bytes.Equal(a.SRK, b.SRK) &&
		slices.Equal(a.SignedPCRs, b.SignedPCRs) && (len(a.SignedPCRs) == 0 || a.Bank == b.Bank)
}

// SamePolicy tells whether two tokens have the same parent and policy: of such,
// the newer replaces the older, which has another PIN.
func SamePolicy(a, b json.RawMessage) bool {
	x, err := ParseToken(a)
	if err != nil {
		return false
	}
	y, err := ParseToken(b)
	return err == nil && samePolicy(x, y)
}

// Replaced returns the keyslots that one with a PIN replaces: those whose tokens
// have the same parent and policy as the token of that keyslot.
func Replaced(tokens []luks2.Token, keyslot int) []int {
	var of json.RawMessage
	for _, t := range tokens {
		if t.Type == TokenType && slices.Equal(t.Keyslots, []int{keyslot}) {
			of = t.JSON
		}
	}
	var list []int
	for _, t := range tokens {
		if t.Type == TokenType && len(t.Keyslots) == 1 && t.Keyslots[0] != keyslot && SamePolicy(of, t.JSON) {
			list = append(list, t.Keyslots[0])
		}
	}
	return list
}

// newPIN asks for a PIN, if there is to be one, and salts it.
func (s *sealing) newPIN(ctx context.Context, ask volume.Asker) (pinKeys, error) {
	if !s.t.PIN {
		return pinKeys{}, nil
	}
	salt := secret.Random(saltSize) // no secret, but the same generator
	s.t.Salt = bytes.Clone(salt.Reveal())
	salt.Wipe()
	p := &pins{t: s.t, ask: ask, defaults: volume.Question{Message: "Please enter TPM2 PIN:",
		Confirm: "Please enter TPM2 PIN (repeat):", Env: "NEWPIN", Credential: "cryptenroll.new-tpm2-pin"}, key: &Key{Question: s.e.Question}}
	defer p.wipe()
	if err := p.ready(ctx); err != nil {
		return pinKeys{}, err
	}
	keys := p.keys
	p.keys = pinKeys{}
	return keys, nil
}

// sealAll seals a fresh secret for each shard and returns the passphrase.
func (s *sealing) sealAll(ctx context.Context, keys pinKeys) (*secret.Bytes, error) {
	var all []*secret.Bytes
	defer func() { secret.WipeAll(all) }()
	for _, policy := range s.t.Policies {
		key := secret.Random(digestSize)
		all = append(all, key)
		var made sealed
		var err error
		if s.c == nil {
			made, err = sealOffline(s.parent, digest(policy), key, keys.auth)
		} else {
			made, err = s.c.seal(ctx, s.handle, s.parent, digest(policy), key, keys.auth)
		}
		if err != nil {
			return nil, fmt.Errorf("sealing: %w", err)
		}
		s.t.Blobs = append(s.t.Blobs, made.marshal())
	}
	return passphrase(all, keys.lock)
}

// remember records what the token is bound to. A log that can't be read is no
// reason not to enrol: the record is only there to explain.
func (s *sealing) remember() {
	if s.e.Root == "" {
		return
	}
	log, err := eventlog.Read(s.e.Root)
	if err != nil {
		log = nil
	}
	s.t.Record = &Record{PCRs: recordPCRs(s.values, s.bank.name, log), Pending: s.e.Pending}
}

// provable tells whether the state of now is the one that was bound to.
func (s *sealing) provable() bool {
	for _, p := range s.e.PCRs {
		if p.Value != nil {
			return false
		}
	}
	return s.c != nil && s.lock == nil && (s.signer == nil || len(s.e.Signatures) > 0)
}

// prove unseals as a later boot will, from the token as it will be read.
func (s *sealing) prove(ctx context.Context, text json.RawMessage, keys pinKeys, want *secret.Bytes) error {
	t, err := ParseToken(text)
	if err != nil {
		return err
	}
	k := &Key{Signatures: s.e.Signatures, Tries: 1}
	p := &pins{key: k, t: t, keys: keys}
	got, err := k.unlockWith(ctx, s.c, t, p)
	p.keys = pinKeys{} // they stay the caller's
	if err == nil && !got.Equal(want) {
		err = errors.New("another secret comes back")
	}
	got.Wipe()
	if err != nil {
		return fmt.Errorf("proving what was sealed: %w", err)
	}
	return nil
}
