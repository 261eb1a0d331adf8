package fido2

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/lockport/lockport/secret"
)

// Sizes of hmac-secret, in bytes.
const (
	saltSize   = 32
	secretSize = 32
)

// assertion says what is asked of a credential.
type assertion struct {
	rp         string
	credential []byte
	salt       []byte     // nil: only whether the credential is there
	agreed     *agreement // for the salt
	proof      *proof     // nil for none
	up, uv     *bool      // nil: not mentioned, which is up without uv
}

type assertionRequest struct {
	RP         string          `cbor:"1,keyasint"`
	Hash       []byte          `cbor:"2,keyasint"`
	Allow      []descriptor    `cbor:"3,keyasint"`
	Extensions map[string]any  `cbor:"4,keyasint,omitempty"`
	Options    map[string]bool `cbor:"5,keyasint,omitempty"`
	Auth       []byte          `cbor:"6,keyasint,omitempty"`
	Protocol   pinProtocol     `cbor:"7,keyasint,omitempty"`
}

// hmacInput is the input of hmac-secret; CTAP 2.1, section 12.5. The protocol is
// left out when it is the first, which devices of CTAP 2.0 take for granted.
type hmacInput struct {
	Key      coseKey     `cbor:"1,keyasint"`
	Salt     []byte      `cbor:"2,keyasint"`
	Auth     []byte      `cbor:"3,keyasint"`
	Protocol pinProtocol `cbor:"4,keyasint,omitempty"`
}

// has asks silently whether a credential is one of this device: nobody is bothered
// and nothing counts. maybe says that the device would not tell.
func (d *Device) has(ctx context.Context, rp string, credential []byte) (yes, maybe bool, err error) {
	a := assertion{rp: rp, credential: credential}
	if d.Info.Touchable() {
		a.up = new(bool)
	}
	_, err = d.assert(ctx, a)
	switch {
	case err == nil:
		return true, false, nil
	case errors.Is(err, StatusNoCredentials), errors.Is(err, Status(0x22)): // one that it can't read
		return false, false, nil
	case errors.Is(err, StatusPINRequired), errors.Is(err, StatusUPRequired), errors.Is(err, StatusOperationDenied),
		errors.Is(err, StatusUnsupportedOption), errors.Is(err, StatusInvalidOption), errors.Is(err, StatusNotAllowed):
		return false, true, nil
	}
	return false, false, err
}

// assert returns the secret for the salt, nil without one. The caller wipes it.
func (d *Device) assert(ctx context.Context, a assertion) (*secret.Bytes, error) {
	r := assertionRequest{RP: a.rp, Hash: noHash(), Allow: []descriptor{{a.credential, credentialType}}, Options: map[string]bool{}}
	if a.up != nil {
		r.Options["up"] = *a.up
	}
	if a.uv != nil && a.proof == nil {
		r.Options["uv"] = *a.uv
	}
	if a.salt != nil {
		input, err := a.agreed.input(a.salt)
		if err != nil {
			return nil, err
		}
		r.Extensions = map[string]any{"hmac-secret": input}
	}
	r.Auth, r.Protocol = a.proof.sign(r.Hash)
	var response struct {
		Credential *struct {
			ID []byte `cbor:"id"`
		} `cbor:"1,keyasint"`
		AuthData []byte `cbor:"2,keyasint"`
	}
	if err := d.call(ctx, cmdGetAssertion, r, &response); err != nil {
		return nil, err
	}
	if c := response.Credential; c != nil && !bytes.Equal(c.ID, a.credential) {
		return nil, fmt.Errorf("%w: of another credential", ErrResponse)
	}
	data, err := parseAuthData(response.AuthData, a.rp)
	if err != nil || a.salt == nil {
		return nil, err
	}
	return a.agreed.output(data)
}

// input encrypts a salt.
func (a *agreement) input(salt []byte) (hmacInput, error) {
	sealed, err := a.encrypt(salt)
	if err != nil {
		return hmacInput{}, err
	}
	in := hmacInput{Key: a.ours, Salt: sealed, Auth: a.p.authenticate(a.hmacKey, sealed)}
	if a.p != 1 {
		in.Protocol = a.p
	}
	return in, nil
}

// output decrypts the secret.
func (a *agreement) output(data *authData) (*secret.Bytes, error) {
	var sealed []byte
	switch ok, err := data.extension("hmac-secret", &sealed); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%w: the answer comes without a secret", ErrNoHMACSecret)
	}
	s, err := a.decrypt(sealed)
	if err != nil {
		return nil, err
	}
	if s.Len() != secretSize {
		defer s.Wipe()
		return nil, fmt.Errorf("%w: secret of %d bytes", ErrResponse, s.Len())
	}
	return s, nil
}
