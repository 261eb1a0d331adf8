package pkcs11

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lockport/lockport/luks2"
)

// Bounds of a token, in bytes. An RSA key of 16384 bits encrypts 2048.
const (
	maxToken = 64 << 10
	minKey   = 32
	maxKey   = 2048
)

// Padding is how a secret is padded before it is encrypted with RSA.
type Padding string

// The paddings. Systemd up to 260 knows PKCS1 alone.
const (
	PKCS1      Padding = "pkcs1"
	OAEPSHA1   Padding = "oaep-sha1"
	OAEPSHA256 Padding = "oaep-sha256"
)

var paddings = []Padding{PKCS1, OAEPSHA1, OAEPSHA256}

// Token is the content of a systemd-pkcs11 token of a header. Format: systemd,
// src/cryptenroll/cryptenroll-pkcs11.c.
type Token struct {
	URI     URI
	Key     []byte  // with RSA the encrypted secret, with elliptic curves an uncompressed point
	Padding Padding // of RSA; never empty
}

// ParseToken reads a token. What it can't honour it refuses with an error wrapping
// luks2.ErrUnsupported: an unknown member of the mechanism's may be a condition.
// Unknown members of others are passed over.
func ParseToken(text json.RawMessage) (*Token, error) {
	t, err := parseToken(text)
	if err != nil {
		return nil, fmt.Errorf("%s token: %w", TokenType, err)
	}
	return t, nil
}

func parseToken(text json.RawMessage) (*Token, error) {
	members, err := luks2.Members(text, maxToken)
	if err != nil {
		return nil, err
	}
	t := &Token{Padding: PKCS1}
	known := map[string]func(string) error{"pkcs11-uri": t.readURI, "pkcs11-key": t.readKey, "pkcs11-padding": t.readPadding}
	for name, value := range members {
		read, ok := known[name]
		if !ok {
			if strings.HasPrefix(name, "pkcs11") {
				return nil, fmt.Errorf("%w: member %.64q", luks2.ErrUnsupported, name)
			}
			continue
		}
		s, err := readString(value)
		if err == nil {
			err = read(s)
		}
		if err != nil {
			return nil, fmt.Errorf("member %q: %w", name, err)
		}
	}
	for _, name := range []string{"pkcs11-uri", "pkcs11-key"} {
		if _, ok := members[name]; !ok {
			return nil, fmt.Errorf("no member %q", name)
		}
	}
	if kind, err := readString(members["type"]); err != nil || kind != TokenType {
		return nil, fmt.Errorf("member \"type\" is not %s", TokenType)
	}
	return t, nil
}

// readString refuses null, which json would pass over.
func readString(value json.RawMessage) (string, error) {
	var s *string
	if err := json.Unmarshal(value, &s); err != nil {
		return "", err
	}
	if s == nil {
		return "", errors.New("is null")
	}
	return *s, nil
}

func (t *Token) readURI(s string) (err error) {
	t.URI, err = ParseURI(s)
	return err
}

func (t *Token) readKey(s string) error {
	if len(s) > base64.StdEncoding.EncodedLen(maxKey) {
		return errors.New("too long")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return err
	}
	if len(b) < minKey {
		return fmt.Errorf("%d bytes are too few", len(b))
	}
	t.Key = b
	return nil
}

func (t *Token) readPadding(s string) error {
	if t.Padding = Padding(s); !slices.Contains(paddings, t.Padding) {
		return fmt.Errorf("%w: %.32q", luks2.ErrUnsupported, s)
	}
	return nil
}

// curve tells whether the key is a point of an elliptic curve: a mark and two
// numbers of the same size. What RSA encrypts has an even number of bytes.
func (t *Token) curve() bool { return len(t.Key)%2 == 1 && t.Key[0] == 4 }

// marshal writes the token for a header; the keyslot is added by who stores it.
func (t *Token) marshal() (json.RawMessage, error) {
	m := struct {
		Type     string   `json:"type"`
		Keyslots []string `json:"keyslots"`
		URI      string   `json:"pkcs11-uri"`
		Key      []byte   `json:"pkcs11-key"`
		Padding  Padding  `json:"pkcs11-padding,omitempty"`
	}{TokenType, []string{}, t.URI.String(), t.Key, t.Padding}
	if t.Padding == PKCS1 {
		m.Padding = ""
	}
	return json.Marshal(m)
}
