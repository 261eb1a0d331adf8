package fido2

import (
	"fmt"
	"slices"
)

// Info is what a device tells of itself; CTAP 2.1, section 6.4.
type Info struct {
	Versions            []string        `cbor:"1,keyasint"`
	Extensions          []string        `cbor:"2,keyasint"`
	AAGUID              []byte          `cbor:"3,keyasint"` // its model
	Options             map[string]bool `cbor:"4,keyasint"`
	MaxMessageSize      uint64          `cbor:"5,keyasint"` // bytes
	PINProtocols        []uint64        `cbor:"6,keyasint"` // the device's favourite first
	MaxCredentialLength uint64          `cbor:"8,keyasint"` // bytes; 0 for unknown
	Algorithms          []algorithm     `cbor:"10,keyasint"`
	ForcePINChange      bool            `cbor:"12,keyasint"`
	MinPINLength        uint64          `cbor:"13,keyasint"` // characters; 0 for 4
	FirmwareVersion     uint64          `cbor:"14,keyasint"`
}

// algorithm is an entry of a list of public key algorithms.
type algorithm struct {
	Algorithm Algorithm `cbor:"alg"`
	Type      string    `cbor:"type"`
}

// maxMessageSize is the most that we send, whatever a device says.
const maxMessageSize = 7609

func (i *Info) check() error {
	if !slices.ContainsFunc(i.Versions, func(v string) bool { return v == "FIDO_2_0" || v == "FIDO_2_1" || v == "FIDO_2_1_PRE" }) {
		return fmt.Errorf("%w: it only speaks U2F", ErrNotFIDO2)
	}
	if len(i.AAGUID) != aaguidSize {
		return fmt.Errorf("%w: AAGUID of %d bytes", ErrResponse, len(i.AAGUID))
	}
	i.MaxMessageSize = min(max(i.MaxMessageSize, defaultMessageSize), maxMessageSize)
	return nil
}

// has tells whether an option is there and on.
func (i *Info) has(option string) bool { return i.Options[option] }

// knows tells whether an option is there at all, on or off.
func (i *Info) knows(option string) bool {
	_, known := i.Options[option]
	return known
}

// HMACSecret tells whether the device can keep a secret for a volume.
func (i *Info) HMACSecret() bool { return slices.Contains(i.Extensions, "hmac-secret") }

// PINSet tells whether the device has a PIN.
func (i *Info) PINSet() bool { return i.has("clientPin") }

// Touchable tells whether the device can ask for a touch, which it does unless it
// says otherwise.
func (i *Info) Touchable() bool { return !i.knows("up") || i.has("up") }

// Verifies tells whether the device itself recognises its user, by a fingerprint
// for example, and has been set up for that.
func (i *Info) Verifies() bool { return i.has("uv") }

// AlwaysVerifies tells whether the device does nothing for a user whom it has not
// verified, by PIN or by itself.
func (i *Info) AlwaysVerifies() bool { return i.has("alwaysUv") }

// grantsTokens tells whether the device knows the tokens with permissions of CTAP
// 2.1.
func (i *Info) grantsTokens() bool { return i.has("pinUvAuthToken") }

// minPIN is the least number of characters of a PIN.
func (i *Info) minPIN() int { return int(min(max(i.MinPINLength, 4), maxPIN)) }

// supports tells whether the device lists an algorithm, or lists none.
func (i *Info) supports(a Algorithm) bool {
	return len(i.Algorithms) == 0 ||
		slices.ContainsFunc(i.Algorithms, func(x algorithm) bool { return x.Algorithm == a })
}
