package fido2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/lockport/lockport/secret"
)

// The subcommands of authenticatorClientPIN; CTAP 2.1, section 6.5.5.
const (
	subPINRetries   = 1
	subKeyAgreement = 2
	subPINToken     = 5 // CTAP 2.0
	subUVToken      = 6
	subUVRetries    = 7
	subPINTokenWith = 9 // with permissions
)

// What a token may be used for.
const (
	permitMakeCredential = 0x01
	permitGetAssertion   = 0x02
)

// maxPIN is the most that a PIN may have, in bytes.
const maxPIN = 63

type pinRequest struct {
	Protocol    pinProtocol `cbor:"1,keyasint,omitempty"`
	Sub         int         `cbor:"2,keyasint"`
	Key         *coseKey    `cbor:"3,keyasint,omitempty"`
	PINHash     []byte      `cbor:"6,keyasint,omitempty"`
	Permissions int         `cbor:"9,keyasint,omitempty"`
	RP          string      `cbor:"10,keyasint,omitempty"`
}

type pinResponse struct {
	Token      []byte  `cbor:"2,keyasint"`
	Retries    *uint64 `cbor:"3,keyasint"`
	PowerCycle bool    `cbor:"4,keyasint"`
	UVRetries  *uint64 `cbor:"5,keyasint"`
}

// PINRetries returns how often a PIN may be tried before the key blocks it for
// good, and whether it has to be plugged in again first.
func (d *Device) PINRetries(ctx context.Context) (left int, replug bool, err error) {
	p, err := d.Info.protocol()
	if err != nil {
		return 0, false, err
	}
	// Asking needs no protocol, but the first devices insist on one.
	var r pinResponse
	if err := d.call(ctx, cmdClientPIN, pinRequest{Protocol: p, Sub: subPINRetries}, &r); err != nil {
		return 0, false, fmt.Errorf("asking how many PINs may be tried: %w", err)
	}
	n, err := retries(r.Retries)
	return n, r.PowerCycle, err
}

// UVRetries is the same for what the key verifies by itself.
func (d *Device) UVRetries(ctx context.Context) (int, error) {
	var r pinResponse
	if err := d.call(ctx, cmdClientPIN, pinRequest{Sub: subUVRetries}, &r); err != nil {
		return 0, fmt.Errorf("asking how often the user may be verified: %w", err)
	}
	return retries(r.UVRetries)
}

// retries reads a number that is 8 or less on real devices.
func retries(n *uint64) (int, error) {
	if n == nil || *n > 255 {
		return 0, fmt.Errorf("%w: number of tries", ErrResponse)
	}
	return int(*n), nil
}

// proof shows that the device has verified its user. It is good for one operation.
type proof struct {
	p     pinProtocol
	token *secret.Bytes
}

func (p *proof) wipe() {
	if p != nil {
		p.token.Wipe()
	}
}

// sign returns the members of a request that a proof makes; zero values without
// one.
func (p *proof) sign(hash []byte) ([]byte, pinProtocol) {
	if p == nil {
		return nil, 0
	}
	return p.p.authenticate(p.token, hash), p.p
}

// CheckPIN returns an error wrapping [ErrPIN] for what can't be the PIN of this
// device: trying it would only cost a try.
func (d *Device) CheckPIN(pin *secret.Bytes) error {
	b := pin.Reveal()
	switch {
	case bytes.ContainsAny(b, "\n\r\x00"):
		return fmt.Errorf("%w: it has a line break or NUL byte in it", ErrPIN)
	case !utf8.Valid(b):
		return fmt.Errorf("%w: it is not UTF-8", ErrPIN)
	case len(b) > maxPIN:
		return fmt.Errorf("%w: it is longer than %d bytes", ErrPIN, maxPIN)
	case utf8.RuneCount(b) < d.Info.minPIN():
		return fmt.Errorf("%w: it is shorter than %d characters", ErrPIN, d.Info.minPIN())
	}
	return nil
}

// provePIN gets a proof for a PIN, which stays the caller's. A wrong PIN is a
// [*WrongPIN]. The caller wipes the proof.
func (d *Device) provePIN(ctx context.Context, a *agreement, pin *secret.Bytes, permission int, rp string) (*proof, error) {
	if err := d.CheckPIN(pin); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(pin.Reveal())
	defer clear(sum[:])
	hash, err := a.encrypt(sum[:16])
	if err != nil {
		return nil, err
	}
	r := pinRequest{Protocol: a.p, Sub: subPINToken, Key: &a.ours, PINHash: hash}
	if d.Info.grantsTokens() {
		r.Sub, r.Permissions, r.RP = subPINTokenWith, permission, rp
	}
	p, err := d.token(ctx, a, r)
	if errors.Is(err, StatusPINInvalid) {
		if left, _, failed := d.PINRetries(ctx); failed == nil {
			err = &WrongPIN{left}
		}
	}
	return p, err
}

// proveUser has the device verify its user by itself, which may take several
// attempts. The caller wipes the proof.
func (d *Device) proveUser(ctx context.Context, a *agreement, permission int, rp string) (*proof, error) {
	for attempt := 1; ; attempt++ {
		p, err := d.token(ctx, a, pinRequest{Protocol: a.p, Sub: subUVToken, Key: &a.ours, Permissions: permission, RP: rp})
		if !errors.Is(err, StatusUVInvalid) || attempt == 3 {
			return p, err
		}
	}
}

// token asks for a token and decrypts it.
func (d *Device) token(ctx context.Context, a *agreement, r pinRequest) (*proof, error) {
	var response pinResponse
	if err := d.call(ctx, cmdClientPIN, r, &response); err != nil {
		return nil, err
	}
	t, err := a.decrypt(response.Token)
	if err != nil {
		return nil, err
	}
	// 16 bytes only with the first protocol.
	if t.Len() != 32 && (a.p != 1 || t.Len() != 16) {
		defer t.Wipe()
		return nil, fmt.Errorf("%w: PIN token of %d bytes", ErrResponse, t.Len())
	}
	return &proof{a.p, t}, nil
}
