package tpm2

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"github.com/lockport/lockport/secret"
)

// unsealer gets the secret of one token out of the TPM.
type unsealer struct {
	c      *conn
	t      *Token
	bank   bank
	signer *rsa.PublicKey
	public []byte // the signer as the TPM knows it
	sigs   signatures
	lock   *pcrLock
}

// opened is a shard whose policy is met and that waits to be unsealed.
type opened struct {
	s   *session
	obj object
}

// maxRounds is how often a policy is gone through again because a PCR changed
// on the way.
const maxRounds = 30

// open meets the policy of a shard and loads it. That it is met is known before
// anything is tried that counts as guessing. The caller shuts what it gets.
//
// A machine's first unlock has to be quick, so every command is one that must be
// there: StartAuthSession, the policy (PolicyPCR for most), PolicyGetDigest,
// Load; then Unseal, which ends the session, and FlushContext. The parent is
// not asked for its name first. Whoever does not hold the recorded key fails at
// the session's salt or in Load, and only then is asked who it is.
func (u *unsealer) open(ctx context.Context, shard int) (*opened, error) {
	for round := 1; ; round++ {
		o, err := u.openOnce(ctx, shard)
		if err == nil {
			return o, nil
		}
		if codeOf(err) == rcPCRChanged && round < maxRounds {
			continue
		}
		if errors.Is(err, ErrPolicy) && u.otherExponent() {
			continue
		}
		return nil, u.explain(ctx, err)
	}
}

// otherExponent switches, once, to the name that early releases of systemd 255
// gave the key.
func (u *unsealer) otherExponent() bool {
	if u.signer == nil || u.signer.E != defaultExponent {
		return false
	}
	early := signerPublic(u.signer, 0)
	if bytes.Equal(u.public, early) {
		return false
	}
	u.public = early
	return true
}

func (u *unsealer) openOnce(ctx context.Context, shard int) (o *opened, err error) {
	handle, p, err := u.t.parent()
	if err != nil {
		return nil, err
	}
	if p == nil {
		// As systemd before 254 did: a parent made anew for each use. Nothing
		// tells whether it is the right one but that the blob loads.
		if handle, p, err = u.c.createPrimary(ctx, template(u.t.legacyAlg(), attrsLegacy)); err != nil {
			return nil, err
		}
		defer func() {
			if flushed := u.c.flush(ctx, handle); err == nil && flushed != nil {
				_ = u.shut(ctx, o)
				o, err = nil, flushed
			}
		}()
	}
	s, err := u.c.start(ctx, sessionPolicy, handle, p)
	if err != nil {
		return nil, err
	}
	o = &opened{s: s}
	if err = u.meet(ctx, s, shard); err == nil {
		o.obj, err = u.load(ctx, handle, shard)
	}
	if err != nil {
		_ = u.shut(ctx, o)
		return nil, err
	}
	return o, nil
}

func (t *Token) legacyAlg() uint16 {
	if t.PrimaryAlg == "rsa" {
		return algRSA
	}
	return algECC
}

// meet takes the session through the shard's policy.
func (u *unsealer) meet(ctx context.Context, s *session, shard int) error {
	p := u.t.shardPolicies()[shard]
	if u.t.Policies == nil {
		return u.follow(ctx, s, p) // a blob alone does not say what it comes to
	}
	want := digest(u.t.Policies[shard])
	if !p.signed && !p.locked && len(p.pcrs) == 0 && !p.pin {
		if want != (digest{}) {
			return fmt.Errorf("%w: the token does not say what it is bound to", ErrPolicy)
		}
		return nil
	}
	if err := u.follow(ctx, s, p); err != nil {
		return err
	}
	got, err := u.c.policyGetDigest(ctx, s)
	if err == nil && got != want {
		err = ErrPolicy
		if len(p.pcrs) > 0 {
			err = fmt.Errorf("%w: %s", ErrPolicy, pcrText(p.pcrs))
		}
	}
	return err
}

// follow takes the session through the steps of a policy.
func (u *unsealer) follow(ctx context.Context, s *session, p shardPolicy) error {
	if p.signed {
		if err := u.meetSigned(ctx, s); err != nil {
			return err
		}
	}
	if p.locked {
		if err := u.meetLocked(ctx, s); err != nil {
			return err
		}
	}
	if len(p.pcrs) > 0 {
		if err := u.c.policyPCR(ctx, s, u.bank.alg, p.pcrs); err != nil {
			return err
		}
	}
	if p.pin {
		return u.c.policy(ctx, ccPolicyAuthValue, s, nil)
	}
	return nil
}

// pcrText names PCRs for a person, "PCR 0+7".
func pcrText(pcrs []int) string {
	return "PCR " + strings.Trim(strings.ReplaceAll(fmt.Sprint(pcrs), " ", "+"), "[]")
}

// meetSigned finds the signature for what the PCRs hold now.
func (u *unsealer) meetSigned(ctx context.Context, s *session) error {
	if err := u.c.policyPCR(ctx, s, u.bank.alg, u.t.SignedPCRs); err != nil {
		return err
	}
	pol, err := u.c.policyGetDigest(ctx, s)
	if err != nil {
		return err
	}
	sig, ok := u.sigs.find(u.bank.name, u.t.SignedPCRs, u.signer, pol, u.t.PolicyRef)
	if !ok {
		return fmt.Errorf("%w: %s", ErrNoSignature, pcrText(u.t.SignedPCRs))
	}
	return u.c.policyAuthorize(ctx, s, pol, refDigest(u.t.PolicyRef), u.public, sig)
}

// meetLocked goes through the pcrlock policy to what the NV index vouches for.
func (u *unsealer) meetLocked(ctx context.Context, s *session) error {
	steps, _ := u.lock.steps()
	for _, step := range steps {
		if err := u.c.policyPCR(ctx, s, u.lock.bank.alg, step.pcrs); err != nil {
			return err
		}
		if step.branches == nil {
			continue
		}
		if err := u.c.policyOR(ctx, s, step.branches); err != nil {
			return policyError(err, fmt.Sprintf("PCR %d has none of the values that pcrlock permits", step.pcrs[0]))
		}
	}
	return policyError(u.c.policyAuthorizeNV(ctx, s, u.lock.nv.handle), "pcrlock permits other PCR values")
}

// policyError marks an error by which the TPM says that a policy does not hold.
func policyError(err error, why string) error {
	switch codeOf(err) {
	case rcValue, rcPolicyFail, rcNVUninit, rcHandle:
		return fmt.Errorf("%w: %s: %w", ErrPolicy, why, err)
	}
	return err
}

func (u *unsealer) load(ctx context.Context, parent uint32, shard int) (object, error) {
	blob, err := parseBlob(u.t.Blobs[shard])
	if err == nil && len(blob.seed) > 0 {
		blob, err = u.c.imported(ctx, parent, blob)
	}
	if err != nil {
		return object{}, err
	}
	return u.c.load(ctx, parent, blob)
}

// unseal gets the shard's secret, which the caller wipes. What was opened is
// used up by that; it stays open after [ErrPIN], for another try.
func (u *unsealer) unseal(ctx context.Context, o *opened, key *secret.Bytes) (*secret.Bytes, error) {
	_, out, err := u.c.run(ctx, call{code: ccUnseal, handles: []object{o.obj}, auths: []auth{{o.s, key, attrEncryptOut}}})
	switch code := codeOf(err); {
	case key != nil && (code == rcAuthFail || code == rcBadAuth):
		return nil, ErrPIN
	case code == rcLockout:
		return nil, u.lockedOut(ctx)
	case code == rcPolicyFail:
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	case err != nil:
		return nil, err
	}
	data := out.sized()
	if err := out.end(); err != nil {
		clear(out.b)
		clear(data)
		return nil, bad(ccUnseal, err)
	}
	return secret.From(data), nil
}

// shut removes what open left in the TPM.
func (u *unsealer) shut(ctx context.Context, o *opened) error {
	if o == nil {
		return nil
	}
	err := u.c.close(ctx, o.s)
	if o.obj.handle != 0 {
		err = errors.Join(err, u.c.flush(ctx, o.obj.handle))
		o.obj.handle = 0
	}
	return err
}

// explain finds out more about why a token did not open: that costs commands,
// but only then.
func (u *unsealer) explain(ctx context.Context, err error) error {
	switch code := codeOf(err); {
	case code == rcLockout:
		return u.lockedOut(ctx)
	case errors.Is(err, ErrPolicy), errors.Is(err, ErrNoSignature):
		if u.otherTPM(ctx) {
			return ErrOtherTPM
		}
		return errors.Join(u.bankMissing(ctx), err)
	case code == rcHandle, code == rcReference, code == rcIntegrity, code == rcValue, code == rcPoint, code == rcSize, code == rcBinding, code == rcKey:
		if u.otherTPM(ctx) {
			return ErrOtherTPM
		}
		if u.t.SRK == nil {
			return fmt.Errorf("%w: %w", ErrOtherTPM, err)
		}
		return fmt.Errorf("damaged token: %w", err)
	}
	return err
}

// otherTPM tells whether the recorded parent is another than that of this TPM.
func (u *unsealer) otherTPM(ctx context.Context) bool {
	handle, p, err := u.t.parent()
	if err != nil || p == nil {
		return false
	}
	public, err := u.c.readPublic(ctx, handle)
	return absent(err) || err == nil && !bytes.Equal(objectName(public), p.name())
}

// bankMissing returns [ErrBank] if the TPM does not keep the bound PCRs.
func (u *unsealer) bankMissing(ctx context.Context) error {
	if len(u.t.PCRs)+len(u.t.SignedPCRs) == 0 {
		return nil
	}
	active, err := u.c.activeBanks(ctx)
	if err != nil || len(active[u.bank.alg]) > 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrBank, u.bank.name)
}

// lockedOut asks the TPM how long it stays locked.
func (u *unsealer) lockedOut(ctx context.Context) error {
	l, err := u.c.lockout(ctx)
	if err != nil {
		return &LockedOut{}
	}
	return &LockedOut{Wait: l.wait()}
}
