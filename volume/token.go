package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lockport/lockport/luks2"
)

// Tokens opens a volume with the tokens of one key mechanism: each is tried in
// the order of its number, and what is wrong with one keeps no other from being
// tried.
type Tokens struct {
	With    Unlocker
	Device  string                 // what the mechanism is called, "TPM2"
	Use     func(luks2.Token) bool // which tokens to try; nil for all of the type
	Keyslot int                    // luks2.AnySlot for all
	Person  bool                   // somebody may have to type or touch
}

var _ Method = Tokens{}

// Name is the mechanism's.
func (m Tokens) Name() string { return m.Device }

// Silent is false if somebody may have to type or touch.
func (m Tokens) Silent() bool { return !m.Person }

// VolumeKey tries every token. It makes one attempt.
func (m Tokens) VolumeKey(ctx context.Context, h *luks2.Header, ask Asker, _ int) (Key, bool, error) {
	var reasons []error
	for _, t := range m.Tokens(h) {
		key, err := m.try(ctx, h, t, ask)
		if err == nil {
			return key, true, nil
		}
		if ctx.Err() != nil {
			return Key{}, true, ctx.Err()
		}
		reasons = append(reasons, fmt.Errorf("keyslot %d: %w", t.Keyslots[0], err))
	}
	if len(reasons) == 0 {
		return Key{}, true, free{errNoTokens}
	}
	return Key{}, true, free{&UnlockError{reasons}}
}

var errNoTokens = errors.New("the volume has no keyslot for it")

// Tokens lists the tokens to try. One that names no keyslot, or several, is not
// of systemd's making, which passes such over too.
func (m Tokens) Tokens(h *luks2.Header) []luks2.Token {
	list := slices.DeleteFunc(h.Tokens(), func(t luks2.Token) bool {
		return t.Type != m.With.TokenType() || len(t.Keyslots) != 1 ||
			m.Keyslot != luks2.AnySlot && t.Keyslots[0] != m.Keyslot ||
			m.Use != nil && !m.Use(t)
	})
	slices.SortFunc(list, func(a, b luks2.Token) int { return a.ID - b.ID })
	return list
}

func (m Tokens) try(ctx context.Context, h *luks2.Header, t luks2.Token, ask Asker) (Key, error) {
	pass, err := m.With.Unlock(ctx, t.JSON, ask)
	if err != nil {
		return Key{}, err
	}
	defer pass.Wipe()
	return open(ctx, h, t.Keyslots[0], pass)
}
