package tpm2

import (
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// Labels of the two uses of a storage key's public part.
const (
	labelSession = "SECRET"
	labelImport  = "DUPLICATE"
)

// kdfa is KDFa of the specification, part 1 §11.4.10, with SHA-256. The caller
// wipes the result.
func kdfa(key []byte, label string, u, v []byte, size int) *secret.Bytes {
	out := secret.New(size)
	for at, i := 0, uint32(1); at < size; i++ {
		m := hmac.New(sha256.New, key)
		m.Write(put32(nil, i))
		m.Write(append([]byte(label), 0))
		m.Write(u)
		m.Write(v)
		m.Write(put32(nil, uint32(8*size)))
		block := m.Sum(nil)
		at += copy(out.Reveal()[at:], block)
		clear(block)
	}
	return out
}

// kdfe is KDFe of part 1 §11.4.10.3, for a digest's worth of SHA-256.
func kdfe(z []byte, label string, u, v []byte) *secret.Bytes {
	h := sha256.New()
	h.Write(put32(nil, 1))
	h.Write(z)
	h.Write(append([]byte(label), 0))
	h.Write(u)
	h.Write(v)
	return secret.From(h.Sum(nil))
}

// check refuses keys that share could not work with, or only badly.
func (p *parent) check() error {
	switch p.alg {
	case algRSA:
		if len(p.n) < 256 || len(p.n) > 512 || p.e != 0 && (p.e < 3 || p.e%2 == 0) || p.n[0] < 0x80 || p.n[len(p.n)-1]%2 == 0 {
			return fmt.Errorf("%w: RSA parent key of %d bits", luks2.ErrUnsupported, 8*len(p.n))
		}
		return nil
	default:
		_, err := p.ecc()
		return err
	}
}

// ecc returns the key as a point that is known to be on its curve.
func (p *parent) ecc() (*ecdh.PublicKey, error) {
	curve, size := ecdh.P256(), 32
	switch p.curve {
	case curveP256:
	case curveP384:
		curve, size = ecdh.P384(), 48
	default:
		return nil, fmt.Errorf("%w: parent key on curve %#x", luks2.ErrUnsupported, p.curve)
	}
	if len(p.x) > size || len(p.y) > size {
		return nil, errors.New("the parent key is no point on its curve")
	}
	point := make([]byte, 1+2*size)
	point[0] = 4
	copy(point[1+size-len(p.x):], p.x)
	copy(point[1+2*size-len(p.y):], p.y)
	key, err := curve.NewPublicKey(point)
	if err != nil {
		return nil, errors.New("the parent key is no point on its curve")
	}
	return key, nil
}

// share makes a fresh secret that only the holder of the parent's private part
// can get back from what goes with it, an encrypted secret of part 1 annexes B
// and C. The caller wipes the secret.
func (p *parent) share(label string) (*secret.Bytes, []byte, error) {
	if p.alg == algRSA {
		return p.shareRSA(label)
	}
	theirs, err := p.ecc()
	if err != nil {
		return nil, nil, err
	}
	mine, err := theirs.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	z, err := mine.ECDH(theirs)
	if err != nil {
		return nil, nil, err
	}
	defer clear(z)
	point, size := mine.PublicKey().Bytes()[1:], len(z)
	s := kdfe(z, label, point[:size], theirs.Bytes()[1:1+size])
	return s, putSized(putSized(nil, point[:size]), point[size:]), nil
}

func (p *parent) shareRSA(label string) (*secret.Bytes, []byte, error) {
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(p.n), E: int(p.e)}
	if key.E == 0 {
		key.E = 65537
	}
	s := secret.Random(digestSize)
	out, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key, s.Reveal(), append([]byte(label), 0))
	if err != nil {
		s.Wipe()
		return nil, nil, err
	}
	return s, out, nil
}
