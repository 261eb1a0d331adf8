package tpm2

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lockport/lockport/tpm2/eventlog"
)

// Report says what a token asks for and how the machine stands to that.
type Report struct {
	Token  *Token
	PCRs   []PCRReport   // bound literally
	Signed *SignedReport // nil for no signed policy
	Lock   *LockReport   // nil for no pcrlock policy
	// Lockout is how guessing stands, for a token with a PIN; nil if it is not
	// known.
	Lockout *Lockout
	stale   bool // the bound PCRs hold other values than those of the policy
	// Blocks is what keeps the token from unlocking now; see the errors of this
	// package. With none it unlocks, given the PIN if it wants one.
	Blocks []error
}

// Unlocks tells whether nothing but a PIN stands between the token and its secret.
func (r *Report) Unlocks() bool { return len(r.Blocks) == 0 }

// Match says how a PCR stands to what it held at enrolment.
type Match int

// The ways to stand.
const (
	Unknown Match = iota // nothing tells
	Same
	Differs
)

// PCRReport is one PCR that a token is bound to.
type PCRReport struct {
	Index    int
	Bank     string
	Enrolled []byte // nil if it is not known
	Now      []byte // nil if it can't be read
	Match    Match
	// Changes are the differences in what was measured, as far as they can be
	// told, in words.
	Changes []string
}

// SignedReport is a signed policy.
type SignedReport struct {
	PCRs   []PCRReport // what they hold now
	Key    string      // fingerprint, as signature files have it
	Policy string      // digest that would have to be signed, in hexadecimal; "" if not known
	Found  bool        // it is
}

// LockReport is a pcrlock policy.
type LockReport struct {
	File string // "" if none fits
	PCRs []LockedPCR
}

// LockedPCR is one PCR of a pcrlock policy.
type LockedPCR struct {
	Index   int
	Now     []byte
	Allowed int  // how many values are permitted
	Met     bool // it has one of them
}

// ExplainOptions says what else to look at.
type ExplainOptions struct {
	// Values are taken for what PCRs hold: of another boot, say. The others are
	// read.
	Values []PCR
	// Log is what was measured; nil if that is not known.
	Log *eventlog.Log
}

// Explain compares a token with the state of the machine. It needs no PIN, and
// nothing that it does counts as guessing. An error is one of the token itself or
// of talking to the TPM; what keeps it from unlocking is in the report.
func (k *Key) Explain(ctx context.Context, token json.RawMessage, o ExplainOptions) (*Report, error) {
	t, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	r := &Report{Token: t}
	dev, err := k.Open(ctx)
	if err != nil {
		r.block(err)
		return r, (&explainer{key: k, r: r, t: t, o: o}).withoutTPM()
	}
	x := &explainer{key: k, r: r, t: t, c: &conn{dev}, o: o}
	err = x.explain(ctx)
	if err = errors.Join(err, closeDevice(dev)); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Report) block(err error) { r.Blocks = append(r.Blocks, err) }

// withoutTPM lists what is bound to.
func (x *explainer) withoutTPM() error {
	var err error
	if x.signer, err = x.t.signerNames(); err != nil {
		return err
	}
	var enrolled map[int][]byte
	if x.bank, err = bankByName(x.t.Bank); err == nil {
		if values := x.recorded(); values != nil && x.comesTo(values) {
			enrolled = values
		}
	}
	for _, n := range x.t.PCRs {
		x.r.PCRs = append(x.r.PCRs, PCRReport{Index: n, Bank: x.t.Bank, Enrolled: enrolled[n]})
	}
	return nil
}

// explainer makes one report.
type explainer struct {
	key  *Key
	r    *Report
	t    *Token
	c    *conn
	o    ExplainOptions
	bank bank

	signer [][]byte // the names that the key may have; see unsealer.otherExponent
	lock   *pcrLock
}

func (x *explainer) explain(ctx context.Context) error {
	if err := x.parent(ctx); err != nil {
		return err
	}
	if err := x.pickBank(ctx); err != nil {
		return err
	}
	if err := x.readLock(ctx); err != nil {
		return err
	}
	if err := x.signed(ctx); err != nil {
		return err
	}
	if err := x.literal(ctx); err != nil {
		return err
	}
	if x.t.PIN {
		if err := x.lockout(ctx); err != nil {
			return err
		}
	}
	return x.attempt(ctx)
}

// parent sees whether this is the TPM that sealed.
func (x *explainer) parent(ctx context.Context) error {
	handle, p, err := x.t.parent()
	if err != nil {
		return err
	}
	if p == nil {
		return x.legacyParent(ctx)
	}
	public, err := x.c.readPublic(ctx, handle)
	switch {
	case absent(err):
		x.r.block(fmt.Errorf("%w: it has no key %#x", ErrOtherTPM, handle))
	case err != nil:
		return err
	case !bytes.Equal(objectName(public), p.name()):
		x.r.block(ErrOtherTPM)
	}
	return nil
}

// legacyParent tells by loading an object, which takes no policy, whether the
// parent that this TPM makes is the one that it was sealed under.
func (x *explainer) legacyParent(ctx context.Context) error {
	handle, _, err := x.c.createPrimary(ctx, template(x.t.legacyAlg(), attrsLegacy))
	if err != nil {
		return err
	}
	o, err := (&unsealer{c: x.c, t: x.t}).load(ctx, handle, 0)
	if err == nil {
		err = x.c.flush(ctx, o.handle)
	} else if codeOf(err) != 0 && ctx.Err() == nil {
		x.r.block(fmt.Errorf("%w: %w", ErrOtherTPM, err))
		err = nil
	}
	return errors.Join(err, x.c.flush(ctx, handle))
}

func (x *explainer) pickBank(ctx context.Context) error {
	pcrs := append(slices.Clone(x.t.PCRs), x.t.SignedPCRs...)
	if len(pcrs) == 0 {
		return nil
	}
	if x.t.Bank == "" {
		var err error
		x.bank, err = x.c.bestBank(ctx, pcrs)
		return err
	}
	var err error
	if x.bank, err = bankByName(x.t.Bank); err != nil {
		return err
	}
	active, err := x.c.activeBanks(ctx)
	if err == nil && len(missing(pcrs, present(active[x.bank.alg]))) > 0 {
		x.r.block(fmt.Errorf("%w: %s", ErrBank, x.bank.name))
	}
	return err
}

func present(pcrs []int) map[int][]byte {
	m := map[int][]byte{}
	for _, n := range pcrs {
		m[n] = nil
	}
	return m
}

// values returns what PCRs hold, or are said to. Those that the TPM does not keep
// are left out.
func (x *explainer) values(ctx context.Context, b bank, pcrs []int) (map[int][]byte, error) {
	values := map[int][]byte{}
	var ask []int
	for _, n := range pcrs {
		if v := valueOf(x.o.Values, b, n); v != nil {
			values[n] = v
		} else {
			ask = append(ask, n)
		}
	}
	read, err := x.c.pcrRead(ctx, b, ask)
	if errors.Is(err, ErrBank) {
		return values, nil
	}
	for n, v := range read {
		values[n] = v
	}
	return values, err
}

// valueOf returns the value of a PCR in a bank among those given, nil for none.
func valueOf(given []PCR, b bank, pcr int) []byte {
	for _, p := range given {
		if p.Index == pcr && p.Value != nil && p.Bank == b.name {
			return p.Value
		}
	}
	return nil
}

// signerNames returns the names that the key which signs PCR policies may have, nil
// if none does; see unsealer.otherExponent.
func (t *Token) signerNames() ([][]byte, error) {
	if len(t.SignedPCRs) == 0 {
		return nil, nil
	}
	key, err := t.signer()
	if err != nil {
		return nil, err
	}
	names := [][]byte{objectName(signerPublic(key, uint32(key.E)))}
	if key.E == defaultExponent {
		names = append(names, objectName(signerPublic(key, 0)))
	}
	return names, nil
}

// signed looks for a signature of what the PCRs hold.
func (x *explainer) signed(ctx context.Context) error {
	if len(x.t.SignedPCRs) == 0 {
		return nil
	}
	key, err := x.t.signer()
	if err != nil {
		return err
	}
	if x.signer, err = x.t.signerNames(); err != nil {
		return err
	}
	s := &SignedReport{Key: hex.EncodeToString(fingerprint(key))}
	x.r.Signed = s
	values, err := x.values(ctx, x.bank, x.t.SignedPCRs)
	if err != nil {
		return err
	}
	for _, n := range x.t.SignedPCRs {
		s.PCRs = append(s.PCRs, PCRReport{Index: n, Bank: x.bank.name, Now: values[n]})
	}
	if len(values) < len(x.t.SignedPCRs) {
		return nil // the missing bank is told already
	}
	pol := digest{}.policyPCR(x.bank.alg, x.t.SignedPCRs, values)
	s.Policy = hex.EncodeToString(pol[:])
	sigs, err := x.key.signatures()
	if err == nil {
		_, s.Found = sigs.find(x.bank.name, x.t.SignedPCRs, key, pol, x.t.PolicyRef)
		if !s.Found {
			err = fmt.Errorf("%w: %s", ErrNoSignature, pcrText(x.t.SignedPCRs))
		}
	}
	if err != nil {
		x.r.block(err)
	}
	return nil
}

// readLock compares a pcrlock policy with the PCRs and with the NV index.
func (x *explainer) readLock(ctx context.Context) error {
	if !x.t.PCRLock {
		return nil
	}
	x.r.Lock = &LockReport{}
	file, lock, err := findPCRLock(x.key.PCRLocks, x.t)
	if err != nil {
		x.r.block(err)
		return nil
	}
	x.lock, x.r.Lock.File = lock, file
	pcrs := sortedPCRs(lock.allowed)
	values, err := x.values(ctx, lock.bank, pcrs)
	if err != nil {
		return err
	}
	var unmet []int
	for _, n := range pcrs {
		met := slices.ContainsFunc(lock.allowed[n], func(v []byte) bool { return bytes.Equal(v, values[n]) })
		x.r.Lock.PCRs = append(x.r.Lock.PCRs, LockedPCR{n, values[n], len(lock.allowed[n]), met})
		if !met {
			unmet = append(unmet, n)
		}
	}
	if len(unmet) > 0 {
		x.r.block(fmt.Errorf("%w: pcrlock permits other values of %s", ErrPolicy, pcrText(unmet)))
	}
	return x.checkNV(ctx)
}

// checkNV sees whether the NV index vouches for the policy in the file.
func (x *explainer) checkNV(ctx context.Context) error {
	handle, p, err := x.t.parent()
	if err != nil || p == nil || errors.Is(errors.Join(x.r.Blocks...), ErrOtherTPM) {
		return err
	}
	got, err := x.c.vouched(ctx, handle, p, x.lock)
	if err == nil {
		if _, want := x.lock.steps(); got != want {
			err = fmt.Errorf("%w: the TPM vouches for another pcrlock policy than that in %s", ErrPolicy, x.r.Lock.File)
		}
	}
	if err != nil {
		x.r.block(err)
	}
	return nil
}

// lockout reads how guessing stands.
func (x *explainer) lockout(ctx context.Context) error {
	l, err := x.c.lockout(ctx)
	if err != nil {
		return err
	}
	x.r.Lockout = l
	if l.Locked {
		x.r.block(&LockedOut{Wait: l.wait()})
	}
	return nil
}

// attempt goes through the policies with the TPM and loads the objects: all that
// an unlock does but the last step, which alone counts a wrong PIN.
func (x *explainer) attempt(ctx context.Context) error {
	if !x.r.Unlocks() || len(x.o.Values) > 0 {
		return nil
	}
	u, err := x.key.unsealer(ctx, x.c, x.t)
	if err != nil {
		return err
	}
	for i := range x.t.Blobs {
		o, err := u.open(ctx, i)
		if err != nil {
			x.r.block(err)
			return ctx.Err()
		}
		if err := u.shut(ctx, o); err != nil {
			return err
		}
	}
	return nil
}
