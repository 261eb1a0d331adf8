package luks2

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

const keyringType = "luks2-keyring"

// keyringDescription returns the key that a luks2-keyring token names. Such a
// token has exactly three members; specification §3.5.2.
func keyringDescription(o object) (string, error) {
	var name string
	if err := json.Unmarshal(o.get("key_description"), &name); err != nil || name == "" || len(o) != 3 {
		return "", errors.New("is not a valid luks2-keyring token")
	}
	return name, nil
}

// KeyringDescription returns the description of the kernel key of type "user"
// whose payload is the passphrase, if t is a luks2-keyring token.
func (t Token) KeyringDescription() (string, bool) {
	if t.Type != keyringType {
		return "", false
	}
	o, err := parseObject(t.JSON)
	if err != nil {
		return "", false
	}
	name, err := keyringDescription(o)
	return name, err == nil
}

// KeyringToken returns the luks2-keyring token for a kernel key.
func KeyringToken(description string, keyslots ...int) json.RawMessage {
	return marshal(struct {
		Type     string   `json:"type"`
		Keyslots []string `json:"keyslots"`
		Key      string   `json:"key_description"`
	}{keyringType, names(keyslots), description})
}

// AddToken adds a token under the lowest free number. token is an object with
// the members "type" and "keyslots"; the rest belongs to its type.
func (h *Header) AddToken(token json.RawMessage) (id int, err error) {
	if id, err = freeID(h.meta.tokens, func(t Token) int { return t.ID }, MaxTokens); err != nil {
		return 0, fmt.Errorf("adding a token: %w", err)
	}
	return id, h.SetToken(id, token)
}

// SetToken adds or replaces the token with this number.
func (h *Header) SetToken(id int, token json.RawMessage) error {
	if id < 0 || id >= MaxTokens {
		return fmt.Errorf("%w: %d", ErrNoToken, id)
	}
	if !json.Valid(token) {
		return fmt.Errorf("token %d is not JSON", id)
	}
	return h.set(token, "tokens", strconv.Itoa(id))
}

// RemoveToken removes a token and leaves its keyslots alone.
func (h *Header) RemoveToken(id int) error {
	if _, err := h.Token(id); err != nil {
		return err
	}
	return h.set(nil, "tokens", strconv.Itoa(id))
}

// names returns numbers as the header writes them.
func names(ids []int) []string {
	list := make([]string, 0, len(ids))
	for _, id := range ids {
		list = append(list, strconv.Itoa(id))
	}
	return list
}

// without returns the names of ids but for one.
func without(ids []int, id int) json.RawMessage {
	return marshal(names(slices.DeleteFunc(slices.Clone(ids), func(i int) bool { return i == id })))
}
