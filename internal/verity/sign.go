package verity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// What [Sign] writes: the types above without what is left out.
type (
	madeContentInfo struct {
		Type    asn1.ObjectIdentifier
		Content madeSignedData `asn1:"explicit,tag:0"`
	}
	madeSignedData struct {
		Version int
		Digests []pkix.AlgorithmIdentifier `asn1:"set"`
		Content struct{ Type asn1.ObjectIdentifier }
		Signers []madeSignerInfo `asn1:"set"`
	}
	madeSignerInfo struct {
		Version int
		Issuer  struct {
			Name   asn1.RawValue
			Serial *big.Int
		}
		Digest    pkix.AlgorithmIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Signature []byte
	}
)

// Sign makes a detached signature of a root hash, for [Signature] or a file
// .roothash.p7s: in DER, with SHA-256, by one signer, without certificates and
// attributes, which is the form that the kernel reads as well. Equal arguments
// give equal bytes. The key is one of RSA or ECDSA, and that of the certificate.
func Sign(root []byte, key crypto.Signer, certificate *x509.Certificate) ([]byte, error) {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(certificate.PublicKey) {
		return nil, errors.New("the key is not that of the certificate")
	}
	digest := sha256.Sum256([]byte(hex.EncodeToString(root)))
	null := asn1.RawValue{FullBytes: asn1.NullBytes}
	hash := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: null}
	s := madeSignerInfo{Version: 1, Digest: hash}
	s.Issuer.Name.FullBytes, s.Issuer.Serial = certificate.RawIssuer, certificate.SerialNumber
	var err error
	switch key.(type) {
	case *rsa.PrivateKey:
		s.Algorithm = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: null}
		s.Signature, err = key.Sign(rand.Reader, digest[:], crypto.SHA256)
	case *ecdsa.PrivateKey:
		s.Algorithm = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
		s.Signature, err = key.Sign(nil, digest[:], crypto.SHA256) // RFC 6979
	default:
		err = fmt.Errorf("a key of type %T", key)
	}
	if err != nil {
		return nil, fmt.Errorf("signing the root hash: %w", err)
	}
	data := madeSignedData{Version: 1, Digests: []pkix.AlgorithmIdentifier{hash}, Signers: []madeSignerInfo{s}}
	data.Content.Type = oidData()
	return asn1.Marshal(madeContentInfo{oidSignedData(), data})
}

// ParsePrivateKey reads a PEM file with a private key of RSA or ECDSA: PKCS#8,
// PKCS#1 or SEC 1. One with a passphrase is refused. The text stays the caller's.
func ParsePrivateKey(text []byte) (crypto.Signer, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("no PEM private key")
		}
		text = rest
		key, err := parseKey(block)
		clear(block.Bytes)
		if err != nil || key != nil {
			return key, err
		}
	}
}

// parseKey returns nil for a block of another kind.
func parseKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY", bytes.Contains([]byte(block.Headers["Proc-Type"]), []byte("ENCRYPTED")):
		return nil, errors.New("the private key is encrypted")
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("parsing the private key: %w", err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("a private key of type %T", key)
}
