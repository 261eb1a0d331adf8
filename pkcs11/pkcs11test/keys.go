package pkcs11test

import (
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
)

// Names of curves in DER.
var curveNames = map[ecdh.Curve]string{
	ecdh.P256(): "06082a8648ce3d030107", ecdh.P384(): "06052b81040022", ecdh.P521(): "06052b81040023",
}

// RSA returns the halves of an RSA key pair as objects.
func RSA(key *rsa.PrivateKey, id, label string) (private, public Object) {
	n, e := key.N.Bytes(), big.NewInt(int64(key.E)).Bytes()
	private = Object{Private: key, Attributes: map[uint32][]byte{0: Number(3), 0x100: Number(0), 0x102: ID(id), 3: []byte(label),
		0x105: {1}, 0x120: n}}
	public = Object{Attributes: map[uint32][]byte{0: Number(2), 0x100: Number(0), 0x102: ID(id), 3: []byte(label), 0x120: n, 0x122: e}}
	return private, public
}

// EC returns the halves of a key pair on a curve as objects.
func EC(key *ecdh.PrivateKey, id, label string) (private, public Object) {
	name := ID(curveNames[key.Curve()])
	point := key.PublicKey().Bytes()
	wrapped := append([]byte{4, byte(len(point))}, point...)
	if len(point) >= 0x80 {
		wrapped = append([]byte{4, 0x81, byte(len(point))}, point...)
	}
	private = Object{Private: key, Attributes: map[uint32][]byte{0: Number(3), 0x100: Number(3), 0x102: ID(id), 3: []byte(label),
		0x10c: {1}, 0x180: name}}
	public = Object{Attributes: map[uint32][]byte{0: Number(2), 0x100: Number(3), 0x102: ID(id), 3: []byte(label), 0x180: name, 0x181: wrapped}}
	return private, public
}

// Certificate returns a certificate for an RSA key as an object.
func Certificate(key *rsa.PrivateKey, id, label string) Object {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: label}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return Object{Attributes: map[uint32][]byte{0: Number(1), 0x80: Number(0), 0x102: ID(id), 3: []byte(label), 0x11: der}}
}

// decompress gives a point its second coordinate back.
func decompress(c ecdh.Curve, point []byte) ([]byte, error) {
	curve := map[ecdh.Curve]elliptic.Curve{ecdh.P256(): elliptic.P256(), ecdh.P384(): elliptic.P384(), ecdh.P521(): elliptic.P521()}[c]
	x, y := elliptic.UnmarshalCompressed(curve, point)
	if x == nil {
		return nil, errPoint
	}
	size := (len(point) - 1)
	full := append([]byte{4}, x.FillBytes(make([]byte, size))...)
	return append(full, y.FillBytes(make([]byte, size))...), nil
}
