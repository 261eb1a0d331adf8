package verity

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// ErrUntrusted says that a signature was made by none of the certificates.
var ErrUntrusted = errors.New("signed by none of the trusted certificates")

const (
	maxPKCS7   = 1 << 20
	maxSigners = 8
)

// PKCS7 is a detached signature: SignedData of RFC 2315, section 9, in DER. It
// is what [Signature] has, and a .roothash.p7s file beside an image.
type PKCS7 struct{ signers []signer }

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type signedData struct {
	Version      int
	Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
	Content      contentInfo
	Certificates asn1.RawValue `asn1:"optional,tag:0"` // nobody has to believe these
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      []signerInfo  `asn1:"set"`
}

type signerInfo struct {
	Version int
	Issuer  struct {
		Name   asn1.RawValue
		Serial *big.Int
	}
	Digest       pkix.AlgorithmIdentifier
	Signed       asn1.RawValue `asn1:"optional,tag:0"`
	Algorithm    pkix.AlgorithmIdentifier
	Signature    []byte
	UnsignedAttr asn1.RawValue `asn1:"optional,tag:1"`
}

// signer is a signerInfo that is understood.
type signer struct {
	issuer     []byte // DER
	serial     *big.Int
	hash       crypto.Hash
	algorithm  x509.SignatureAlgorithm
	attributes []byte // DER of what is signed, or nil where that is the content itself
	digest     []byte // of the content, where there are attributes
	signature  []byte
}

// ParsePKCS7 reads a signature. Content and certificates in it are of no use
// here: a signature with content is refused, and certificates are ignored.
func ParsePKCS7(der []byte) (*PKCS7, error) {
	switch {
	case len(der) == 0:
		return nil, errors.New("an empty signature")
	case len(der) > maxPKCS7:
		return nil, fmt.Errorf("a signature of %d bytes", len(der))
	}
	var outer contentInfo
	if err := unmarshal(der, &outer, ""); err != nil {
		return nil, fmt.Errorf("parsing the signature: %w", err)
	}
	if !outer.Type.Equal(oidSignedData()) {
		return nil, fmt.Errorf("a signature of type %s", outer.Type)
	}
	var data signedData
	if err := unmarshal(outer.Content.Bytes, &data, ""); err != nil {
		return nil, fmt.Errorf("parsing the signed data: %w", err)
	}
	if data.Version != 1 || !data.Content.Type.Equal(oidData()) || len(data.Content.Content.FullBytes) > 0 {
		return nil, fmt.Errorf("signed data of version %d is not a detached signature of data", data.Version)
	}
	if n := len(data.Signers); n == 0 || n > maxSigners {
		return nil, fmt.Errorf("a signature with %d signers", n)
	}
	p := new(PKCS7)
	for i, info := range data.Signers {
		s, err := info.understand(data.Digests)
		if err != nil {
			return nil, fmt.Errorf("signer %d: %w", i+1, err)
		}
		p.signers = append(p.signers, s)
	}
	return p, nil
}

// unmarshal is asn1.Unmarshal of all of b.
func unmarshal(b []byte, to any, params string) error {
	rest, err := asn1.UnmarshalWithParams(b, to, params)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	return err
}

func (i *signerInfo) understand(digests []pkix.AlgorithmIdentifier) (signer, error) {
	if i.Version != 1 {
		return signer{}, fmt.Errorf("version %d", i.Version)
	}
	hash, err := hashOf(i.Digest)
	if err != nil {
		return signer{}, err
	}
	listed := false
	for _, d := range digests {
		h, err := hashOf(d)
		if err != nil {
			return signer{}, err
		}
		listed = listed || h == hash
	}
	if !listed {
		return signer{}, errors.New("its digest algorithm is not in the list of them")
	}
	algorithm, err := algorithmOf(i.Algorithm, hash)
	if err != nil {
		return signer{}, err
	}
	s := signer{issuer: i.Issuer.Name.FullBytes, serial: i.Issuer.Serial, hash: hash, algorithm: algorithm, signature: i.Signature}
	if len(i.Signed.FullBytes) > 0 {
		s.attributes, s.digest, err = parseAttributes(i.Signed)
	}
	return s, err
}

// parseAttributes returns what is signed in place of the content, and the
// content's digest in it: RFC 2315, section 9.2.
func parseAttributes(v asn1.RawValue) (signed, digest []byte, err error) {
	if !v.IsCompound {
		return nil, nil, errors.New("the attributes are no set")
	}
	signed = bytes.Clone(v.FullBytes)
	signed[0] = asn1.TagSet | 0x20
	var list []struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	if err := unmarshal(signed, &list, "set"); err != nil {
		return nil, nil, fmt.Errorf("parsing the attributes: %w", err)
	}
	values := map[string]asn1.RawValue{}
	for _, a := range list {
		if _, twice := values[a.Type.String()]; twice || len(a.Values) != 1 {
			return nil, nil, fmt.Errorf("attribute %s does not have one value", a.Type)
		}
		values[a.Type.String()] = a.Values[0]
	}
	var kind asn1.ObjectIdentifier
	if err := unmarshal(values[oidContentType].FullBytes, &kind, ""); err != nil || !kind.Equal(oidData()) {
		return nil, nil, errors.New("the attributes are not about data")
	}
	if err := unmarshal(values[oidMessageDigest].FullBytes, &digest, ""); err != nil {
		return nil, nil, errors.New("the attributes have no digest")
	}
	return signed, digest, nil
}

// Verify checks the signature over a root hash, as lower-case hex digits. Each
// signer must be one of the certificates, which are trusted as they are: like
// systemd's check, it follows no chains and looks at no dates. It returns the
// first signer's certificate, or [ErrUntrusted] when a signer has none there.
func (p *PKCS7) Verify(root []byte, trusted []*x509.Certificate) (*x509.Certificate, error) {
	text := []byte(hex.EncodeToString(root))
	var first *x509.Certificate
	for i, s := range p.signers {
		c, err := s.verify(text, trusted)
		if err != nil {
			return nil, fmt.Errorf("signer %d: %w", i+1, err)
		}
		if i == 0 {
			first = c
		}
	}
	if first == nil {
		return nil, ErrUntrusted
	}
	return first, nil
}

func (s *signer) verify(content []byte, trusted []*x509.Certificate) (*x509.Certificate, error) {
	if s.attributes != nil {
		if !bytes.Equal(s.sum(content), s.digest) {
			return nil, errors.New("the signature is for another root hash")
		}
		content = s.attributes
	}
	err := fmt.Errorf("%w: serial number %x", ErrUntrusted, s.serial)
	for _, c := range trusted {
		if c.SerialNumber.Cmp(s.serial) != 0 || !bytes.Equal(c.RawIssuer, s.issuer) {
			continue
		}
		bad := c.CheckSignature(s.algorithm, content, s.signature)
		if bad == nil {
			return c, nil
		}
		err = fmt.Errorf("checking the signature with certificate %x: %w", c.SerialNumber, bad)
	}
	return nil, err
}

func (s *signer) sum(b []byte) []byte {
	switch s.hash {
	case crypto.SHA384:
		sum := sha512.Sum384(b)
		return sum[:]
	case crypto.SHA512:
		sum := sha512.Sum512(b)
		return sum[:]
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

// ParseCertificate reads a *.crt file of a verity.d directory: the first PEM
// certificate in it, the only one that systemd takes too.
func ParseCertificate(b []byte) (*x509.Certificate, error) {
	if len(b) > maxPKCS7 {
		return nil, fmt.Errorf("a certificate file of %d bytes", len(b))
	}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return nil, errors.New("no PEM certificate")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parsing the certificate: %w", err)
		}
		return c, nil
	}
}
