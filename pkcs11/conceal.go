package pkcs11

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"hash"

	"github.com/lockport/lockport/secret"
)

// rsaKey encrypts a random secret.
type rsaKey struct{ *rsa.PublicKey }

func (k rsaKey) belongs(o object) bool {
	return o.kind == keyRSA && (len(o.modulus) == 0 || bytes.Equal(o.modulus, k.N.Bytes()))
}

func (k rsaKey) name() string { return "rsa" + string(k.N.Bytes()) }

// conceal makes a secret half as long as the modulus, as systemd does.
func (k rsaKey) conceal(p Padding) (*secret.Bytes, []byte, error) {
	s := secret.Random(k.N.BitLen() / 16)
	data, err := k.encrypt(p, s)
	if err != nil {
		s.Wipe()
		return nil, nil, err
	}
	return s, data, nil
}

func (k rsaKey) encrypt(p Padding, s *secret.Bytes) ([]byte, error) {
	var h hash.Hash
	switch p {
	case OAEPSHA1:
		h = sha1.New()
	case OAEPSHA256:
		h = sha256.New()
	default:
		//lint:ignore SA1019 what all releases of systemd read; without the PIN nobody can ask the token about paddings
		return rsa.EncryptPKCS1v15(rand.Reader, k.PublicKey, s.Reveal())
	}
	return rsa.EncryptOAEP(h, rand.Reader, k.PublicKey, s.Reveal(), nil)
}

// curveKey agrees on a secret with a key that is forgotten.
type curveKey struct {
	*ecdh.PublicKey
	curve namedCurve
}

func (k curveKey) belongs(o object) bool {
	return o.kind == keyEC && (len(o.curve) == 0 || string(o.curve) == k.curve.der)
}

func (k curveKey) name() string { return k.curve.der + string(k.Bytes()) }

func (k curveKey) conceal(Padding) (*secret.Bytes, []byte, error) {
	own, err := k.curve.curve.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	shared, err := own.ECDH(k.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	return secret.From(shared), own.PublicKey().Bytes(), nil
}

// passphrase is the form in which a secret opens a keyslot. The caller wipes it.
func passphrase(s *secret.Bytes) *secret.Bytes {
	text := secret.New(base64.StdEncoding.EncodedLen(s.Len()))
	base64.StdEncoding.Encode(text.Reveal(), s.Reveal())
	return text
}
