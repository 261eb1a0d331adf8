package fido2

import (
	"context"
	"errors"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// MakeCredential makes a credential with a secret of its own (hmac-secret), for
// which somebody has to touch the device. pin says to give its PIN, which ask is
// asked for, uv to have it verify its user by itself. It is not kept on the device:
// whoever has its ID and the device has it.
func (d *Device) MakeCredential(ctx context.Context, o CredentialOptions, pin, uv bool, ask volume.Asker) (*Credential, error) {
	p := (&Key{}).pins(ask)
	defer p.wipe()
	return d.make(ctx, o, needs{pin: pin, uv: uv}, p)
}

// Has asks silently whether a credential is one of this device. maybe says that the
// device does not tell without its user being verified.
func (d *Device) Has(ctx context.Context, rp string, credential []byte) (yes, maybe bool, err error) {
	return d.has(ctx, rp, credential)
}

// Secret returns the 32 bytes that the device makes of the token's salt for its
// credential. A PIN is asked for if the token, or the device, wants one. The caller
// wipes the secret.
func (d *Device) Secret(ctx context.Context, t *Token, ask volume.Asker) (*secret.Bytes, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	p := (&Key{}).pins(ask)
	defer p.wipe()
	return d.reveal(ctx, t, p, false)
}

// Compatible returns nil for a key that can open volumes, and else why it can't.
func Compatible(ctx context.Context, p Port, path string) (err error) {
	conn, err := p.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	d, err := Connect(ctx, conn)
	if err != nil {
		return err
	}
	if !d.Info.HMACSecret() {
		return ErrNoHMACSecret
	}
	return nil
}
