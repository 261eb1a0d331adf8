package fido2

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// The flags of authenticator data; Web Authentication, section 6.1.
const (
	flagPresent    = 0x01
	flagVerified   = 0x04
	flagCredential = 0x40
	flagExtensions = 0x80
)

// Sizes there, in bytes.
const (
	authDataHead  = 32 + 1 + 4 // hash of the relying party, flags, counter
	aaguidSize    = 16
	maxCredential = 2048
)

// authData is what a device vouches for.
type authData struct {
	flags      byte
	aaguid     []byte
	credential []byte
	extensions map[string]cbor.RawMessage
}

// parseAuthData reads the data for a relying party.
func parseAuthData(b []byte, rp string) (*authData, error) {
	d, err := readAuthData(b, rp)
	if err != nil {
		return nil, fmt.Errorf("%w: authenticator data: %w", ErrResponse, err)
	}
	return d, nil
}

func readAuthData(b []byte, rp string) (*authData, error) {
	if len(b) < authDataHead {
		return nil, errors.New("cut off")
	}
	if [32]byte(b) != sha256.Sum256([]byte(rp)) {
		return nil, errors.New("of another relying party")
	}
	d := &authData{flags: b[32]}
	rest := b[authDataHead:]
	var err error
	if d.flags&flagCredential != 0 {
		if rest, err = d.readCredential(rest); err != nil {
			return nil, err
		}
	}
	if d.flags&flagExtensions != 0 {
		if rest, err = decoding.UnmarshalFirst(rest, &d.extensions); err != nil {
			return nil, err
		}
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes too many", len(rest))
	}
	return d, nil
}

// readCredential reads a new credential and returns what follows it. Its public
// key is passed over: nobody here checks signatures.
func (d *authData) readCredential(b []byte) ([]byte, error) {
	if len(b) < aaguidSize+2 {
		return nil, errors.New("cut off")
	}
	n := int(binary.BigEndian.Uint16(b[aaguidSize:]))
	d.aaguid, b = b[:aaguidSize], b[aaguidSize+2:]
	if n == 0 || n > maxCredential || n > len(b) {
		return nil, fmt.Errorf("credential of %d bytes", n)
	}
	d.credential = b[:n]
	var key cbor.RawMessage
	return decoding.UnmarshalFirst(b[n:], &key)
}

// extension reads one of the outputs of extensions. It returns false when there is
// none.
func (d *authData) extension(name string, to any) (bool, error) {
	b, ok := d.extensions[name]
	if !ok {
		return false, nil
	}
	return true, decode(b, to)
}
