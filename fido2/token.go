package fido2

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/lockport/lockport/luks2"
)

// TokenType is the type of the tokens of this package.
const TokenType = "systemd-fido2"

// RelyingParty is the one that systemd makes credentials for, and that is meant
// where nothing else is said.
const RelyingParty = "io.systemd.cryptsetup"

// Bounds of a token.
const (
	maxToken = 64 << 10 // the whole of it, in bytes
	maxRP    = 253      // as a domain name, in bytes
)

// Token is the content of a systemd-fido2 token, or what crypttab says in its place.
// Format: systemd, src/shared/cryptsetup-fido2.
type Token struct {
	Credential []byte
	Salt       []byte // 32 bytes
	RP         string
	// What the secret was made with. Nil is what systemd 248 wrote: PIN and touch
	// as the device asks for them, verification not mentioned.
	PIN, UP, UV *bool

	AAGUID []byte // our own: the model; nil for unknown
}

// record is our own member of a token.
type record struct {
	AAGUID string `json:"fido2-aaguid,omitempty"`
}

// tokenText is a token as systemd 257 writes it, member by member.
type tokenText struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"` // filled in by whoever writes the header
	Credential string   `json:"fido2-credential"`
	Salt       string   `json:"fido2-salt"`
	RP         *string  `json:"fido2-rp,omitempty"`
	PIN        *bool    `json:"fido2-clientPin-required,omitempty"`
	UP         *bool    `json:"fido2-up-required,omitempty"`
	UV         *bool    `json:"fido2-uv-required,omitempty"`

	Record *record `json:"lockport,omitempty"`
}

// members lists the names of that.
var members = map[string]bool{"fido2-credential": true, "fido2-salt": true, "fido2-rp": true,
	"fido2-clientPin-required": true, "fido2-up-required": true, "fido2-uv-required": true}

// ParseToken reads a token. It refuses a member of FIDO2's that is unknown, which
// may be a condition, by its name with an error wrapping luks2.ErrUnsupported.
// Unknown members of others are passed over.
func ParseToken(text json.RawMessage) (*Token, error) {
	t, err := parseToken(text)
	if err != nil {
		return nil, fmt.Errorf("%s token: %w", TokenType, err)
	}
	return t, nil
}

func parseToken(text json.RawMessage) (*Token, error) {
	all, err := luks2.Members(text, maxToken)
	if err != nil {
		return nil, err
	}
	for name, value := range all {
		if strings.HasPrefix(name, "fido2-") && !members[name] {
			return nil, fmt.Errorf("%w: member %q", luks2.ErrUnsupported, name)
		}
		if members[name] && string(value) == "null" {
			return nil, fmt.Errorf("member %q is null", name)
		}
	}
	// Ours is a note, which may be as odd as it likes.
	delete(all, "lockport")
	rest, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	var x tokenText
	if err := json.Unmarshal(rest, &x); err != nil {
		return nil, err
	}
	t, err := x.token()
	if err != nil {
		return nil, err
	}
	t.AAGUID = readRecord(text)
	return t, nil
}

// readRecord reads our note of the model, nil for none that makes sense.
func readRecord(text json.RawMessage) []byte {
	var x struct {
		Record record `json:"lockport"`
	}
	if json.Unmarshal(text, &x) != nil {
		return nil
	}
	b, err := hex.DecodeString(x.Record.AAGUID)
	if err != nil || len(b) != aaguidSize {
		return nil
	}
	return b
}

func (x *tokenText) token() (*Token, error) {
	t := &Token{RP: RelyingParty, PIN: x.PIN, UP: x.UP, UV: x.UV}
	if x.Type != TokenType {
		return nil, errors.New("is of another type")
	}
	if len(x.Keyslots) > 1 {
		return nil, errors.New("names more than one keyslot")
	}
	var err error
	if t.Credential, err = decodeBase64(x.Credential, maxCredential); err != nil {
		return nil, fmt.Errorf("member \"fido2-credential\": %w", err)
	}
	if t.Salt, err = decodeBase64(x.Salt, saltSize); err != nil {
		return nil, fmt.Errorf("member \"fido2-salt\": %w", err)
	}
	if x.RP != nil {
		t.RP = *x.RP
	}
	return t, t.check()
}

func decodeBase64(s string, limit int) ([]byte, error) {
	if len(s) > base64.StdEncoding.EncodedLen(limit) {
		return nil, errors.New("too long")
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// check refuses what no device could take.
func (t *Token) check() error {
	switch {
	case len(t.Credential) == 0:
		return errors.New("the credential is missing")
	case len(t.Credential) > maxCredential:
		return fmt.Errorf("credential of %d bytes", len(t.Credential))
	case len(t.Salt) != saltSize:
		return fmt.Errorf("salt of %d bytes, it has to have %d", len(t.Salt), saltSize)
	case t.RP == "" || len(t.RP) > maxRP:
		return fmt.Errorf("relying party of %d bytes", len(t.RP))
	}
	return nil
}

// MarshalJSON writes the token as systemd 257 does. "keyslots" is empty.
func (t *Token) MarshalJSON() ([]byte, error) {
	x := tokenText{Type: TokenType, Keyslots: []string{}, Credential: base64.StdEncoding.EncodeToString(t.Credential),
		Salt: base64.StdEncoding.EncodeToString(t.Salt), RP: &t.RP, PIN: t.PIN, UP: t.UP, UV: t.UV}
	if t.AAGUID != nil {
		x.Record = &record{hex.EncodeToString(t.AAGUID)}
	}
	return json.Marshal(x)
}

// silent tells whether the token asks for nobody.
func (t *Token) silent() bool { return off(t.PIN) && off(t.UP) && off(t.UV) }

func on(b *bool) bool  { return b != nil && *b }
func off(b *bool) bool { return b != nil && !*b }

// ModelOf names the model of the security key that a token was made with, "" where
// that is not known.
func ModelOf(text json.RawMessage) string { return Model(readRecord(text)) }
