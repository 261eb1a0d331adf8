package pkcs11

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// A publicKey is one that a secret can be made for.
type publicKey interface {
	// belongs tells whether it is the public half of a private key, as far as that
	// one tells.
	belongs(private object) bool
	// conceal makes a secret, which the caller wipes, and what the private key gets
	// it back from.
	conceal(p Padding) (*secret.Bytes, []byte, error)
	// name is the same for the same key.
	name() string
}

// Bounds of an RSA key in bits. Below is too weak, above too slow to be meant.
const (
	minRSA = 1024
	maxRSA = 16384
)

// publicKeys lists the public keys and certificates that a URI fits. Those that
// can't be used are passed over; what was wrong with the last is in the error if none
// is left.
func (c *card) publicKeys(ctx context.Context, u URI) ([]object, error) {
	class, given := u.get("type")
	var list []object
	var wrong error
	for _, want := range []struct {
		name  string
		class uint64
		more  []attribute
	}{
		{"public", classPublic, nil},
		{"cert", classCertificate, []attribute{number(attrCertificateType, certificateX509)}},
	} {
		if given && class != want.name && class != "private" {
			continue
		}
		template := append(append(u.object(), number(attrClass, want.class)), want.more...)
		handles, err := c.conn.find(ctx, c.session, template)
		if err != nil {
			return nil, err
		}
		for _, h := range handles {
			o, err := c.publicKey(ctx, h, want.class)
			switch {
			case err == nil:
				list = append(list, o)
			case c.conn.broken != nil:
				return nil, err
			default:
				wrong = err
			}
		}
	}
	if len(list) == 0 && wrong != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoKey, wrong)
	}
	return list, nil
}

func (c *card) publicKey(ctx context.Context, handle, class uint64) (object, error) {
	o := object{handle: handle, class: class}
	kinds := []attributeKind{attrID, attrLabel, attrValue}
	if class == classPublic {
		kinds = []attributeKind{attrID, attrLabel, attrKeyType, attrModulus, attrExponent, attrECParams, attrECPoint}
	}
	err := c.read(ctx, handle, func(a attributes) (err error) {
		o.describe(a)
		if class == classPublic {
			o.public, err = keyOf(a)
		} else {
			o.public, err = keyOfCertificate(a[attrValue])
		}
		return err
	}, kinds...)
	return o, err
}

// keyOf reads a public key from its attributes.
func keyOf(a attributes) (publicKey, error) {
	switch kind, _ := a.number(attrKeyType); kind {
	case keyRSA:
		e := new(big.Int).SetBytes(a[attrExponent])
		if !e.IsInt64() || e.Int64() >= 1<<31 {
			return nil, fmt.Errorf("%w: exponent of an RSA key", luks2.ErrUnsupported)
		}
		return checkRSA(&rsa.PublicKey{N: new(big.Int).SetBytes(a[attrModulus]), E: int(e.Int64())})
	case keyEC:
		c, ok := curveOf(a[attrECParams])
		if !ok {
			return nil, errCurve
		}
		return pointOf(c, a[attrECPoint])
	}
	return nil, fmt.Errorf("%w: type of a public key", luks2.ErrUnsupported)
}

func checkRSA(k *rsa.PublicKey) (publicKey, error) {
	if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA || bits%16 != 0 || k.E < 3 || k.E%2 == 0 {
		return nil, fmt.Errorf("%w: RSA key of %d bits with exponent %d", luks2.ErrUnsupported, bits, k.E)
	}
	return rsaKey{k}, nil
}

// pointOf reads a point, which should be wrapped as DER has it and is not always.
func pointOf(c namedCurve, value []byte) (publicKey, error) {
	var point []byte
	if rest, err := asn1.Unmarshal(value, &point); err != nil || len(rest) > 0 {
		point = value
	}
	k, err := c.curve.NewPublicKey(bytes.Clone(point))
	if err != nil {
		return nil, err
	}
	return curveKey{k, c}, nil
}

func keyOfCertificate(der []byte) (publicKey, error) {
	if len(der) == 0 {
		return nil, errors.New("a certificate without content")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return checkRSA(k)
	case *ecdsa.PublicKey:
		p, err := k.ECDH()
		if err != nil {
			return nil, errCurve
		}
		for _, c := range curves {
			if c.curve == p.Curve() {
				return curveKey{p, c}, nil
			}
		}
		return nil, errCurve
	}
	return nil, fmt.Errorf("%w: type of a certificate's key", luks2.ErrUnsupported)
}
