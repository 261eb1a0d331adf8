package fido2

import (
	"bytes"
	"context"
	"fmt"
)

// protectUV is the credProtect policy by which a credential can't even be looked
// for without the user being verified; CTAP 2.1, section 12.1.
const protectUV = 3

// User is whom a credential is made for, as the device may show it.
type User struct {
	ID          []byte `cbor:"id"`
	Name        string `cbor:"name"`
	DisplayName string `cbor:"displayName"`
}

type relyingParty struct {
	ID   string `cbor:"id"`
	Name string `cbor:"name"`
}

// descriptor names a credential.
type descriptor struct {
	ID   []byte `cbor:"id"`
	Type string `cbor:"type"`
}

// credentialType is the only one that there is.
const credentialType = "public-key"

// CredentialOptions says what credential to make.
type CredentialOptions struct {
	RP, RPName string
	User       User
	Algorithm  Algorithm
	Protect    bool // only to be found when the user was verified (credProtect)
}

// Credential is a new credential.
type Credential struct {
	ID        []byte
	AAGUID    []byte // the model of the device
	Protected bool   // it was asked to be
}

type credentialRequest struct {
	Hash       []byte          `cbor:"1,keyasint"`
	RP         relyingParty    `cbor:"2,keyasint"`
	User       User            `cbor:"3,keyasint"`
	Algorithms []algorithm     `cbor:"4,keyasint"`
	Extensions map[string]any  `cbor:"6,keyasint"`
	Options    map[string]bool `cbor:"7,keyasint,omitempty"`
	Auth       []byte          `cbor:"8,keyasint,omitempty"`
	Protocol   pinProtocol     `cbor:"9,keyasint,omitempty"`
}

// noHash is the hash of client data that there is none of, as with systemd: what is
// signed is of no interest.
func noHash() []byte { return make([]byte, 32) }

// makeCredential makes a credential with a secret of its own (hmac-secret), for
// which somebody has to touch the device. It is not kept on the device.
func (d *Device) makeCredential(ctx context.Context, o CredentialOptions, p *proof, uv bool) (*Credential, error) {
	r := credentialRequest{Hash: noHash(), RP: relyingParty{o.RP, o.RPName}, User: o.User,
		Algorithms: []algorithm{{o.Algorithm, credentialType}},
		Extensions: map[string]any{"hmac-secret": true}, Options: map[string]bool{}}
	if o.Protect {
		r.Extensions["credProtect"] = protectUV
	}
	if d.Info.knows("rk") {
		r.Options["rk"] = false
	}
	if d.Info.knows("uv") && p == nil {
		r.Options["uv"] = uv
	}
	r.Auth, r.Protocol = p.sign(r.Hash)
	var response struct {
		AuthData []byte `cbor:"2,keyasint"`
	}
	if err := d.call(ctx, cmdMakeCredential, r, &response); err != nil {
		return nil, err
	}
	data, err := parseAuthData(response.AuthData, o.RP)
	if err != nil {
		return nil, err
	}
	var made bool
	if _, err := data.extension("hmac-secret", &made); err != nil {
		return nil, err
	}
	switch {
	case data.credential == nil:
		return nil, fmt.Errorf("%w: no credential", ErrResponse)
	case !made:
		return nil, fmt.Errorf("%w: the credential comes without it", ErrNoHMACSecret)
	}
	return &Credential{ID: bytes.Clone(data.credential), AAGUID: bytes.Clone(data.aaguid), Protected: o.Protect}, nil
}
