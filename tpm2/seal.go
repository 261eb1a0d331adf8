package tpm2

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/lockport/lockport/secret"
)

// sealedPublic is the TPMT_PUBLIC of a sealed object. userWithAuth is never
// among its attributes: the policy is the only way in.
func sealedPublic(attrs uint32, policy digest, unique []byte) []byte {
	b := putSized(put32(put16(nil, algKeyedHash, algSHA256), attrs), policy[:])
	return putSized(put16(b, algNull), unique)
}

// seal has the TPM seal a secret under the parent. pin is the PIN's value, nil
// for none; guessing is only counted where there is a PIN to guess.
func (c *conn) seal(ctx context.Context, handle uint32, p *parent, policy digest, key, pin *secret.Bytes) (sealed, error) {
	attrs := uint32(attrFixedTPM | attrFixedParent)
	if pin == nil {
		attrs |= attrNoDA
	}
	s, err := c.start(ctx, sessionHMAC, handle, p)
	if err != nil {
		return sealed{}, err
	}
	// With room for all of it, so that no copy of the secret is left behind; the
	// session encrypts it where it is.
	params := make([]byte, 0, 512)
	params = put16(params, uint16(4+pin.Len()+key.Len()))
	params = putSized(putSized(params, pin.Reveal()), key.Reveal())
	params = putSized(params, sealedPublic(attrs, policy, make([]byte, digestSize)))
	params = put32(put16(params, 0), 0) // no outside information, no PCRs
	_, out, err := c.run(ctx, call{code: ccCreate, handles: []object{{handle, p.name()}},
		auths: []auth{{s: s, attrs: attrDecryptIn | attrEncryptOut}}, params: params})
	if err != nil {
		clear(params)
		return sealed{}, errors.Join(err, c.close(ctx, s))
	}
	made := sealed{private: bytes.Clone(out.sized()), public: bytes.Clone(out.sized())}
	if out.err != nil {
		return sealed{}, bad(ccCreate, out.err)
	}
	if _, err := parseBlob(made.marshal()); err != nil || !bytes.Contains(made.public, policy[:]) {
		return sealed{}, fmt.Errorf("%w: TPM2_Create: another object than asked for", ErrResponse)
	}
	return made, nil
}

// sealOffline seals a secret for a parent that is elsewhere, as TPM2_Duplicate
// would: part 1 §23.3 and annexes B.10.3 and C.6.3.
func sealOffline(p *parent, policy digest, key, auth *secret.Bytes) (sealed, error) {
	seed, share, err := p.share(labelImport)
	if err != nil {
		return sealed{}, err
	}
	defer seed.Wipe()
	obfuscation := secret.Random(digestSize)
	defer obfuscation.Wipe()
	unique := digestOf(obfuscation.Reveal(), key.Reveal())
	public := sealedPublic(0, policy, unique[:])

	size := 2 + 2 + auth.Len() + 2 + obfuscation.Len() + 2 + key.Len()
	sensitive := put16(make([]byte, 0, 2+size), uint16(size), algKeyedHash)
	sensitive = putSized(putSized(putSized(sensitive, auth.Reveal()), obfuscation.Reveal()), key.Reveal())
	symmetric := kdfa(seed.Reveal(), "STORAGE", objectName(public), nil, p.aes/8)
	defer symmetric.Wipe()
	if err := cfb128(symmetric.Reveal(), make([]byte, 16), sensitive, false); err != nil {
		clear(sensitive)
		return sealed{}, err
	}
	integrity := kdfa(seed.Reveal(), "INTEGRITY", nil, nil, digestSize)
	defer integrity.Wipe()
	m := hmac.New(sha256.New, integrity.Reveal())
	m.Write(sensitive)
	m.Write(objectName(public))
	return sealed{private: append(putSized(nil, m.Sum(nil)), sensitive...), public: public, seed: share}, nil
}

// storageKey returns the parent at a handle, or the machine's shared storage key
// for 0, which is made and kept if nobody has so far. The TPM is believed here:
// to know it is the business of whoever enrols.
func (c *conn) storageKey(ctx context.Context, handle uint32) (uint32, *parent, error) {
	shared := handle == 0
	if shared {
		handle = srkHandle
	}
	public, err := c.readPublic(ctx, handle)
	if shared && codeOf(err) == rcHandle {
		p, err := c.makeStorageKey(ctx)
		return handle, p, err
	}
	if err != nil {
		return 0, nil, fmt.Errorf("parent key %#x: %w", handle, err)
	}
	p, err := parseParent(public)
	return handle, p, err
}

// makeStorageKey makes the shared storage key, of elliptic curves if possible,
// and keeps it in the TPM.
func (c *conn) makeStorageKey(ctx context.Context) (*parent, error) {
	h, p, err := c.createPrimary(ctx, template(algECC, attrsSRK))
	if err != nil && codeOf(err) != 0 && codeOf(err) != rcBadAuth && codeOf(err) != rcAuthFail && ctx.Err() == nil {
		h, p, err = c.createPrimary(ctx, template(algRSA, attrsSRK))
	}
	if err == nil {
		_, _, err = c.run(ctx, call{code: ccEvictControl, handles: []object{fixed(handleOwner), fixed(h)}, auths: emptyAuth(),
			params: put32(nil, srkHandle)})
		err = errors.Join(err, c.flush(ctx, h))
	}
	if code := codeOf(err); code == rcBadAuth || code == rcAuthFail {
		err = fmt.Errorf("%w: %w", ErrOwnerAuth, err)
	}
	if err != nil {
		return nil, fmt.Errorf("making the TPM's storage key: %w", err)
	}
	return p, nil
}
