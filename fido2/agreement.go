package fido2

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/lockport/lockport/secret"
)

// coordinateSize is that of a point on P-256, in bytes.
const coordinateSize = 32

// coseKey is the public key of a key agreement; CTAP 2.1, section 6.5.6.
type coseKey struct {
	Type      int    `cbor:"1,keyasint"`
	Algorithm int    `cbor:"3,keyasint"`
	Curve     int    `cbor:"-1,keyasint"`
	X         []byte `cbor:"-2,keyasint"`
	Y         []byte `cbor:"-3,keyasint"`
}

// The only values that there are: elliptic curve, ECDH-ES with HKDF-256, P-256.
const (
	coseEC2    = 2
	coseECDHES = -25
	coseP256   = 1
)

// public checks the key, that it is on the curve above all. The algorithm is not
// looked at: no other is ever used here, and some devices get it wrong.
func (k *coseKey) public() (*ecdh.PublicKey, error) {
	if k.Type != coseEC2 || k.Curve != coseP256 || len(k.X) != coordinateSize || len(k.Y) != coordinateSize {
		return nil, fmt.Errorf("%w: no key on the curve P-256", ErrResponse)
	}
	p, err := ecdh.P256().NewPublicKey(slices.Concat([]byte{4}, k.X, k.Y))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	return p, nil
}

func coseOf(k *ecdh.PublicKey) coseKey {
	b := k.Bytes()
	return coseKey{coseEC2, coseECDHES, coseP256, b[1 : 1+coordinateSize], b[1+coordinateSize:]}
}

// A pinProtocol is one of the two ways to speak in private; CTAP 2.1, sections
// 6.5.6 and 6.5.7.
type pinProtocol uint64

// protocol picks one that both sides know. The device says which it likes most; a
// device that says nothing has the first.
func (i *Info) protocol() (pinProtocol, error) {
	if len(i.PINProtocols) == 0 {
		return 1, nil
	}
	for _, p := range i.PINProtocols {
		if p == 1 || p == 2 {
			return pinProtocol(p), nil
		}
	}
	return 0, fmt.Errorf("%w: PIN protocols %v", ErrResponse, i.PINProtocols)
}

// agreement is what both sides know and nobody between them.
type agreement struct {
	p       pinProtocol
	ours    coseKey
	aesKey  *secret.Bytes
	hmacKey *secret.Bytes
}

func (a *agreement) wipe() {
	if a != nil {
		a.aesKey.Wipe()
		a.hmacKey.Wipe()
	}
}

// agree makes an agreement with a fresh key of ours. The caller wipes it.
func (d *Device) agree(ctx context.Context) (*agreement, error) {
	p, err := d.Info.protocol()
	if err != nil {
		return nil, err
	}
	var response struct {
		Key *coseKey `cbor:"1,keyasint"`
	}
	if err := d.call(ctx, cmdClientPIN, pinRequest{Protocol: p, Sub: subKeyAgreement}, &response); err != nil {
		return nil, fmt.Errorf("agreeing on a key: %w", err)
	}
	if response.Key == nil {
		return nil, fmt.Errorf("agreeing on a key: %w: it has no key", ErrResponse)
	}
	theirs, err := response.Key.public()
	if err != nil {
		return nil, fmt.Errorf("agreeing on a key: %w", err)
	}
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return newAgreement(p, private, theirs)
}

// newAgreement derives the keys from what both public keys come to.
func newAgreement(p pinProtocol, private *ecdh.PrivateKey, theirs *ecdh.PublicKey) (*agreement, error) {
	x, err := private.ECDH(theirs)
	if err != nil {
		return nil, err
	}
	z := secret.From(x)
	defer z.Wipe()
	a := &agreement{p: p, ours: coseOf(private.PublicKey())}
	if p == 1 {
		sum := sha256.Sum256(z.Reveal())
		a.aesKey = secret.From(sum[:])
		a.hmacKey = a.aesKey.Clone()
		return a, nil
	}
	salt := make([]byte, sha256.Size)
	for _, k := range []struct {
		to   **secret.Bytes
		info string
	}{{&a.hmacKey, "CTAP2 HMAC key"}, {&a.aesKey, "CTAP2 AES key"}} {
		b, err := hkdf.Key(sha256.New, z.Reveal(), salt, k.info, sha256.Size)
		if err != nil {
			a.wipe()
			return nil, err
		}
		*k.to = secret.From(b)
	}
	return a, nil
}

// ivSize is the part in front of a ciphertext that is not one, in bytes.
func (p pinProtocol) ivSize() int {
	if p == 1 {
		return 0
	}
	return aes.BlockSize
}

var errBlocks = errors.New("not a number of whole blocks")

// encrypt encrypts whole blocks.
func (a *agreement) encrypt(plain []byte) ([]byte, error) {
	if len(plain)%aes.BlockSize != 0 {
		return nil, errBlocks
	}
	c, err := aes.NewCipher(a.aesKey.Reveal())
	if err != nil {
		return nil, err
	}
	iv := make([]byte, aes.BlockSize)
	if a.p != 1 {
		// rand.Read never returns an error: it ends the program instead.
		_, _ = rand.Read(iv)
	}
	out := make([]byte, a.p.ivSize()+len(plain))
	copy(out, iv[:a.p.ivSize()])
	cipher.NewCBCEncrypter(c, iv).CryptBlocks(out[a.p.ivSize():], plain)
	return out, nil
}

// decrypt is the reverse. The caller wipes the result.
func (a *agreement) decrypt(b []byte) (*secret.Bytes, error) {
	n := len(b) - a.p.ivSize()
	if n <= 0 || n%aes.BlockSize != 0 {
		return nil, fmt.Errorf("%w: secret of %d bytes", ErrResponse, len(b))
	}
	c, err := aes.NewCipher(a.aesKey.Reveal())
	if err != nil {
		return nil, err
	}
	iv := make([]byte, aes.BlockSize)
	copy(iv, b[:a.p.ivSize()])
	out := secret.New(n)
	cipher.NewCBCDecrypter(c, iv).CryptBlocks(out.Reveal(), b[a.p.ivSize():])
	return out, nil
}

// authenticate proves with a key, of 32 bytes as a rule, that a message is ours.
func (p pinProtocol) authenticate(key *secret.Bytes, message []byte) []byte {
	m := hmac.New(sha256.New, key.Reveal())
	m.Write(message)
	sum := m.Sum(nil)
	if p == 1 {
		return sum[:16]
	}
	return sum
}
