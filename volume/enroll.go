package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// Coster is an [Enroller] whose passphrases can be guessed and that therefore
// asks for a slow derivation. The others make secrets with the entropy of a
// key, for which the minimum will do.
type Coster interface {
	KDF(ctx context.Context) (luks2.KDF, error)
}

// Binder is an [Enroller] that adds to its token what only who has the volume key
// can make, once the keyslot is known. The key stays the caller's.
type Binder interface {
	Bind(token json.RawMessage, keyslot int, key *secret.Bytes) (json.RawMessage, error)
}

// EnrollOptions is what a person wants to remember of a new keyslot.
type EnrollOptions struct {
	Name    string    // "" for none
	Created time.Time // zero for unknown
}

// Enrolled is a keyslot that was added and proven.
type Enrolled struct {
	Keyslot int
	Kind    Kind
	Pass    *secret.Bytes // what opens it; the caller wipes it
}

// Enroll adds a keyslot for the volume key, which stays the caller's. Slot and
// token go to disk in one write; then the slot is read back and opened as a
// later boot would open it, and removed again if it does not open.
func Enroll(ctx context.Context, h *luks2.Header, key *secret.Bytes, with Enroller, ask Asker, o EnrollOptions) (*Enrolled, error) {
	if err := checkOurs(h); err != nil {
		return nil, err
	}
	if err := luks2.CheckName(o.Name); err != nil {
		return nil, err
	}
	kdf := luks2.Minimal()
	pass, token, err := with.Enroll(ctx, ask)
	if err != nil {
		return nil, err
	}
	if slow, ok := with.(Coster); ok {
		kdf, err = slow.KDF(ctx)
	}
	kind := KindOf(with)
	slot := -1
	if err == nil {
		slot, err = add(ctx, h, key, pass, token, with, luks2.SlotOptions{ID: luks2.AnySlot, KDF: kdf,
			Note: luks2.Note{Name: o.Name, Created: o.Created, Method: "enrolled as " + string(kind)}})
	}
	if err == nil {
		err = prove(ctx, h, slot, pass, key)
	}
	if err != nil {
		pass.Wipe()
		return nil, err
	}
	return &Enrolled{Keyslot: slot, Kind: kind, Pass: pass}, nil
}

// KindOf returns the kind of keyslot that an enroller makes.
func KindOf(e Enroller) Kind {
	if e.TokenType() == "" {
		return Password
	}
	return tokenKind(e.TokenType())
}

// add writes slot and token.
func add(ctx context.Context, h *luks2.Header, key, pass *secret.Bytes, token json.RawMessage, with Enroller, o luks2.SlotOptions) (int, error) {
	slot, err := h.AddSlot(ctx, key, pass, o)
	if err != nil {
		return slot, err
	}
	if token != nil {
		if token, err = luks2.SetMember(token, "keyslots", []string{strconv.Itoa(slot)}); err != nil {
			return slot, err
		}
		if b, ok := with.(Binder); ok {
			if token, err = b.Bind(token, slot, key); err != nil {
				return slot, err
			}
		}
		if _, err := h.AddToken(token); err != nil {
			return slot, err
		}
	}
	return slot, h.Commit(ctx)
}

// prove opens the new slot from what is on disk now, and takes it away again
// if that fails.
func prove(ctx context.Context, h *luks2.Header, slot int, pass, key *secret.Bytes) error {
	fresh, err := h.Reopen(ctx)
	if err == nil {
		err = fresh.Opens(ctx, slot, pass, key)
	}
	if err == nil {
		return nil
	}
	// The context may be why it failed; cleaning up goes on without it.
	ctx = context.WithoutCancel(ctx)
	undo := removeWithTokens(h, []int{slot})
	if undo == nil {
		undo = h.Commit(ctx)
	}
	return errors.Join(fmt.Errorf("proving the new keyslot %d: %w", slot, err), undo)
}

// Withdraw removes a keyslot that was just added, with its token: when the
// owner could not be told what opens it, say.
func Withdraw(ctx context.Context, h *luks2.Header, slot int) error {
	if err := removeWithTokens(h, []int{slot}); err != nil {
		return err
	}
	return h.Commit(ctx)
}

// removeWithTokens removes slots, and tokens that name no other slot.
func removeWithTokens(h *luks2.Header, slots []int) error {
	for _, slot := range slots {
		for _, t := range h.Tokens() {
			if len(t.Keyslots) == 1 && t.Keyslots[0] == slot {
				if err := h.RemoveToken(t.ID); err != nil {
					return err
				}
			}
		}
		if err := h.RemoveSlot(slot); err != nil {
			return err
		}
	}
	return nil
}
