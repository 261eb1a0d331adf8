package tpm2

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// leastKey is the size of the smallest key that signs, in bits.
const leastKey = 2048

// What is wrong with a key that is to sign policies.
var (
	ErrEncryptedKey = errors.New("the private key is encrypted")
	ErrOtherKey     = errors.New("the public key is not that of the private key")
)

// PCRState is the state of some PCRs in one bank.
type PCRState struct {
	Bank   string
	Values map[int][]byte // by PCR
}

// policy is what binds to the state.
func (s PCRState) policy() (digest, error) {
	b, err := bankByName(s.Bank)
	if err != nil {
		return digest{}, err
	}
	if len(s.Values) == 0 {
		return digest{}, errors.New("a state of no PCRs")
	}
	for n, v := range s.Values {
		if n < 0 || n > maxPCR || len(v) != b.size {
			return digest{}, fmt.Errorf("PCR %d with a value of %d bytes in bank %s", n, len(v), b.name)
		}
	}
	return digest{}.policyPCR(b.alg, sortedPCRs(s.Values), s.Values), nil
}

// PolicySigner signs PCR policies. Tokens that know its public key unlock in each
// state that it has signed.
type PolicySigner struct {
	key    crypto.Signer
	public *rsa.PublicKey
}

// NewPolicySigner signs with a key that may be kept elsewhere. It has to be an RSA
// key of 2048 bits or more, since TPMs are asked for nothing but RSASSA.
func NewPolicySigner(key crypto.Signer) (*PolicySigner, error) {
	public, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: %s key; PCR policies are signed with RSA", luks2.ErrUnsupported, keyKind(key.Public()))
	}
	if err := checkSigner(public); err != nil {
		return nil, err
	}
	if n := public.N.BitLen(); n < leastKey {
		return nil, fmt.Errorf("%w: RSA key of %d bits, PCR policies are signed with %d or more", luks2.ErrUnsupported, n, leastKey)
	}
	return &PolicySigner{key, public}, nil
}

// keyKind is what people call a kind of key.
func keyKind(public crypto.PublicKey) string {
	name := strings.TrimSuffix(fmt.Sprintf("%T", public), ".PublicKey")
	return strings.ToUpper(strings.TrimLeft(name, "*"))
}

// ParsePolicySigner reads a PEM file with a private key, in the form of PKCS#1 or
// PKCS#8. The caller wipes the text. What is decoded on the way is wiped here,
// but the key itself lives in Go's big numbers, which nothing can wipe: it stays
// in memory until that is used for something else.
func ParsePolicySigner(text *secret.Bytes) (*PolicySigner, error) {
	for rest := text.Reveal(); ; {
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, errors.New("no private key in PEM form")
		}
		defer clear(block.Bytes)
		if rest = after; !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		key, err := parsePrivate(block)
		if err != nil {
			return nil, err
		}
		return NewPolicySigner(key)
	}
}

// parsePrivate reads the first private key of a file.
func parsePrivate(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, ErrEncryptedKey
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%w: PEM file with %.40q", luks2.ErrUnsupported, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: %T, which does not sign", luks2.ErrUnsupported, key)
	}
	return signer, nil
}

// Matches returns [ErrOtherKey] unless a PEM file, with a public key or a
// certificate, is about the signer's key.
func (s *PolicySigner) Matches(text []byte) error {
	public, err := parsePublic(text)
	if err != nil {
		return err
	}
	if !s.public.Equal(public) {
		return ErrOtherKey
	}
	return nil
}

func parsePublic(text []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return parseSigner(text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	public, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: certificate of an %s key", luks2.ErrUnsupported, keyKind(c.PublicKey))
	}
	return public, nil
}

// signedPolicy is an entry as it is written. Format: systemd, src/measure.
type signedPolicy struct {
	PCRs []int   `json:"pcrs"`
	Key  string  `json:"pkfp"`
	Pol  string  `json:"pol"`
	Sig  []byte  `json:"sig"`
	Ref  *string `json:"ref,omitempty"`
}

// Sign signs one policy for each state and returns a signature file with them, as
// tokens look for it. ref is the reference that tokens want to see in signatures,
// which systemd has from 262 on, nil for none. The entries of an existing file,
// nil for none, stay as they are and where they are; what is in there already is
// not added again.
func (s *PolicySigner) Sign(states []PCRState, ref *string, existing []byte) ([]byte, error) {
	file := map[string][]json.RawMessage{}
	if existing != nil {
		if _, err := parseSignatures(existing); err != nil {
			return nil, fmt.Errorf("existing signatures: %w", err)
		}
		if err := json.Unmarshal(existing, &file); err != nil || file == nil {
			return nil, errors.Join(errors.New("existing signatures: no object with a list for each bank"), err)
		}
	}
	for _, state := range states {
		entry, err := s.sign(state, ref)
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		if !slices.ContainsFunc(file[state.Bank], func(e json.RawMessage) bool { return sameJSON(e, entry) }) {
			file[state.Bank] = append(file[state.Bank], entry)
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(file); err != nil {
		return nil, err
	}
	if out.Len() > maxPolicyFile {
		return nil, fmt.Errorf("signatures of %d bytes, more than the %d that are read", out.Len(), maxPolicyFile)
	}
	return out.Bytes(), nil
}

func (s *PolicySigner) sign(state PCRState, ref *string) (json.RawMessage, error) {
	pol, err := state.policy()
	if err != nil {
		return nil, err
	}
	if ref != nil && *ref == "" {
		ref = nil
	}
	sum := digestOf(pol[:], refDigest(ref))
	sig, err := s.key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	if err := rsa.VerifyPKCS1v15(s.public, crypto.SHA256, sum[:], sig); err != nil {
		return nil, fmt.Errorf("checking the signature: %w", err)
	}
	return json.Marshal(signedPolicy{sortedPCRs(state.Values), hex.EncodeToString(fingerprint(s.public)),
		hex.EncodeToString(pol[:]), sig, ref})
}

// sameJSON tells whether two texts have one meaning.
func sameJSON(a, b []byte) bool {
	x, errX := canonical(a)
	y, errY := canonical(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func canonical(text []byte) ([]byte, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
