package verity

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	maxSignaturePartition = 4 << 20
	signatureAlign        = 4096
	minRootHash           = 16 // what two partition UUIDs can be made of
	maxRootHash           = 64
)

// Signature is what the signature partition of an image says: UAPI.2, section
// "Verity". It is a claim until [PKCS7.Verify] has said otherwise.
type Signature struct {
	RootHash    []byte
	PKCS7       []byte // DER; see [ParsePKCS7]
	Fingerprint []byte // SHA-256 of the signer's certificate, or nil: a hint where to look for it
}

// ParseSignature reads the content of a whole signature partition: a JSON
// object, and NULs behind it. Members that are not known are left alone.
func ParseSignature(b []byte) (*Signature, error) {
	if len(b) > maxSignaturePartition {
		return nil, fmt.Errorf("a signature partition of %d bytes", len(b))
	}
	text, rest, _ := bytes.Cut(b, []byte{0})
	if len(bytes.Trim(rest, "\x00")) > 0 {
		return nil, errors.New("the signature partition has something behind its first NUL")
	}
	members, err := parseObject(text)
	if err != nil {
		return nil, fmt.Errorf("parsing the signature partition: %w", err)
	}
	s := new(Signature)
	for _, m := range []struct {
		name   string
		needed bool
		decode func(string) ([]byte, error)
		to     *[]byte
	}{
		{"rootHash", true, decodeHash, &s.RootHash},
		{"signature", true, decodeBase64, &s.PKCS7},
		{"certificateFingerprint", false, decodeFingerprint, &s.Fingerprint},
	} {
		raw, ok := members[m.name]
		if !ok && !m.needed {
			continue
		}
		var text string
		if err := json.Unmarshal(raw, &text); !ok || err != nil || string(raw) == "null" {
			return nil, fmt.Errorf("the signature partition has no string %s", m.name)
		}
		if *m.to, err = m.decode(text); err != nil {
			return nil, fmt.Errorf("%s of the signature partition: %w", m.name, err)
		}
	}
	return s, nil
}

// parseObject reads one JSON object. Names that are there twice, of which others
// might take the other one, are refused.
func parseObject(b []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("no JSON object")
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		if _, ok := members[name]; ok {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		members[name] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something behind the JSON object")
	}
	return members, nil
}

// decodeLowerHex takes no capitals: the text itself is what is signed.
func decodeLowerHex(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil || hex.EncodeToString(b) != s {
		return nil, errors.New("not lower-case hex digits")
	}
	return b, nil
}

func decodeHash(s string) ([]byte, error) {
	b, err := decodeLowerHex(s)
	if err != nil {
		return nil, err
	}
	return b, checkHashSize(b)
}

func checkHashSize(b []byte) error {
	if len(b) < minRootHash || len(b) > maxRootHash {
		return fmt.Errorf("a root hash of %d bytes", len(b))
	}
	return nil
}

func decodeFingerprint(s string) ([]byte, error) {
	b, err := decodeLowerHex(s)
	if err == nil && len(b) != 32 {
		err = fmt.Errorf("a fingerprint of %d bytes", len(b))
	}
	return b, err
}

func decodeBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err == nil && len(b) == 0 {
		err = errors.New("it is empty")
	}
	return b, err
}

// Marshal makes the content of a signature partition, padded as the
// specification wants it. It is the reverse of [ParseSignature].
func (s *Signature) Marshal() ([]byte, error) {
	if err := checkHashSize(s.RootHash); err != nil {
		return nil, err
	}
	b, err := json.Marshal(struct {
		RootHash    string `json:"rootHash"`
		Fingerprint string `json:"certificateFingerprint,omitempty"`
		Signature   []byte `json:"signature"`
	}{hex.EncodeToString(s.RootHash), hex.EncodeToString(s.Fingerprint), s.PKCS7})
	if err != nil {
		return nil, err
	}
	b = append(b, make([]byte, (signatureAlign-len(b)%signatureAlign)%signatureAlign)...)
	if _, err := ParseSignature(b); err != nil {
		return nil, err
	}
	return b, nil
}

// ParseRootHash reads the text of a .roothash or .usrhash file beside an image,
// or of the extended attribute that is used in its place: hex digits in one line.
func ParseRootHash(b []byte) ([]byte, error) {
	text := bytes.TrimSpace(b[:min(len(b), 4*maxRootHash)])
	if len(text) > 2*maxRootHash || len(b) > 4*maxRootHash {
		return nil, fmt.Errorf("a root hash in %d bytes of text", len(b))
	}
	hash := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(hash, text); err != nil {
		return nil, errors.New("a root hash that is not hex digits")
	}
	if err := checkHashSize(hash); err != nil {
		return nil, err
	}
	return hash, nil
}
