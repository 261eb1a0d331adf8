package verity

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// Object identifiers of RFC 2985, sections 5.3.
const (
	oidContentType   = "1.2.840.113549.1.9.3"
	oidMessageDigest = "1.2.840.113549.1.9.4"
)

func oidData() asn1.ObjectIdentifier       { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1} }
func oidSignedData() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2} }

// hashOf returns the hash of a digest algorithm: RFC 5754, section 2. SHA-1 is
// refused.
func hashOf(a pkix.AlgorithmIdentifier) (crypto.Hash, error) {
	hash, ok := map[string]crypto.Hash{
		"2.16.840.1.101.3.4.2.1": crypto.SHA256,
		"2.16.840.1.101.3.4.2.2": crypto.SHA384,
		"2.16.840.1.101.3.4.2.3": crypto.SHA512,
	}[a.Algorithm.String()]
	if !ok || !plain(a) {
		return 0, fmt.Errorf("digest algorithm %s", a.Algorithm)
	}
	return hash, nil
}

// plain tells whether an algorithm has no parameters, which is spelt in two ways.
func plain(a pkix.AlgorithmIdentifier) bool {
	return len(a.Parameters.FullBytes) == 0 || bytes.Equal(a.Parameters.FullBytes, asn1.NullBytes)
}

// algorithmOf returns the algorithm of a signature, which may be named with the
// hash or without.
func algorithmOf(a pkix.AlgorithmIdentifier, hash crypto.Hash) (x509.SignatureAlgorithm, error) {
	rsa := map[crypto.Hash]x509.SignatureAlgorithm{
		crypto.SHA256: x509.SHA256WithRSA, crypto.SHA384: x509.SHA384WithRSA, crypto.SHA512: x509.SHA512WithRSA,
	}[hash]
	ecdsa := map[crypto.Hash]x509.SignatureAlgorithm{
		crypto.SHA256: x509.ECDSAWithSHA256, crypto.SHA384: x509.ECDSAWithSHA384, crypto.SHA512: x509.ECDSAWithSHA512,
	}[hash]
	algorithm, ok := map[string]x509.SignatureAlgorithm{
		"1.2.840.113549.1.1.1":  rsa, // rsaEncryption
		"1.2.840.113549.1.1.11": x509.SHA256WithRSA,
		"1.2.840.113549.1.1.12": x509.SHA384WithRSA,
		"1.2.840.113549.1.1.13": x509.SHA512WithRSA,
		"1.2.840.10045.2.1":     ecdsa, // id-ecPublicKey
		"1.2.840.10045.4.3.2":   x509.ECDSAWithSHA256,
		"1.2.840.10045.4.3.3":   x509.ECDSAWithSHA384,
		"1.2.840.10045.4.3.4":   x509.ECDSAWithSHA512,
	}[a.Algorithm.String()]
	if !ok || algorithm != rsa && algorithm != ecdsa || !plain(a) {
		return 0, fmt.Errorf("signature algorithm %s with that digest", a.Algorithm)
	}
	return algorithm, nil
}
