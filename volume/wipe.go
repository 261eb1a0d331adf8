package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// The refusals of a wipe.
var (
	// ErrLastSlot: nothing would be left to open the volume with.
	ErrLastSlot = errors.New("no keyslot would be left")
	// ErrLastHuman: no passphrase and no recovery key would be left.
	ErrLastHuman = errors.New("no passphrase and no recovery key would be left")
)

// Selection says which keyslots to wipe: by number, by kind, or by these.
type Selection struct {
	All   bool
	Empty bool // those that open with the empty passphrase
	Kinds []Kind
	Slots []int
	Adds  Kind // of a keyslot that will have been added before; "" for none
}

// None tells a selection that selects nothing.
func (s Selection) None() bool {
	return !s.All && !s.Empty && len(s.Kinds) == 0 && len(s.Slots) == 0
}

// ParseSelection reads a list like "recovery,2,tpm2" and adds it to the
// selection; an empty text resets it. Format: systemd-cryptenroll(1), --wipe-slot=.
func (s *Selection) ParseSelection(text string) error {
	if text == "" {
		*s = Selection{}
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		switch {
		case item == "all":
			s.All = true
		case item == "empty":
			s.Empty = true
		case item == string(Password) || slices.Contains(tokenKinds, Kind(item)):
			s.Kinds = append(s.Kinds, Kind(item))
		default:
			n, err := strconv.ParseUint(item, 10, 31)
			if err != nil {
				return fmt.Errorf("%q is neither a keyslot number nor a kind of keyslot", item)
			}
			if n >= luks2.MaxKeyslots {
				return fmt.Errorf("keyslot number %d is out of range, the highest is %d", n, luks2.MaxKeyslots-1)
			}
			s.Slots = append(s.Slots, int(n))
		}
	}
	return nil
}

// WipePlan is what a wipe will remove, in the order in which it does.
type WipePlan struct {
	Slots   []Slot
	Tokens  []int
	Missing []int // asked for by number, but not there
	Kept    []int // asked for by number, but kept together with another slot
	// LosesHuman: the volume will have no passphrase and no recovery key left.
	LosesHuman bool
}

// None tells a plan that changes nothing.
func (p WipePlan) None() bool { return len(p.Slots) == 0 && len(p.Tokens) == 0 }

// PlanWipe computes what to wipe and writes nothing. The slots in keep, and
// those that share a token with them, are never part of it. The error wraps
// [ErrLastSlot] when nothing would be left.
//
// Rules: systemd, src/cryptenroll/cryptenroll-wipe.c.
func PlanWipe(ctx context.Context, h *luks2.Header, s Selection, keep ...int) (WipePlan, error) {
	if err := checkOurs(h); err != nil {
		return WipePlan{}, err
	}
	w := wipe{keep: set(keep...), wipe: set(s.Slots...), tokens: map[int]bool{}}
	if err := w.choose(ctx, h, s); err != nil {
		return WipePlan{}, err
	}
	w.followTokens(h)
	plan := WipePlan{}
	for id := range w.wipe {
		if _, err := h.Keyslot(id); err != nil {
			plan.Missing = append(plan.Missing, id)
		}
	}
	slices.Sort(plan.Missing)
	for _, id := range s.Slots {
		if _, err := h.Keyslot(id); err == nil && w.keep[id] && !slices.Contains(plan.Kept, id) {
			plan.Kept = append(plan.Kept, id)
		}
	}
	left, human, hadHuman := 0, s.Adds.Human(), false
	if s.Adds != "" {
		left++
	}
	for _, slot := range slices.Backward(List(h)) {
		// A slot with another key does not open the data.
		opens := slot.Bound && slot.Type == "luks2"
		hadHuman = hadHuman || opens && slot.Kind.Human()
		if w.wipe[slot.ID] && !w.keep[slot.ID] {
			plan.Slots = append(plan.Slots, slot)
			continue
		}
		if opens {
			left++
			human = human || slot.Kind.Human()
		}
	}
	plan.LosesHuman = hadHuman && !human
	plan.Tokens = descending(w.tokens)
	if left == 0 {
		return plan, ErrLastSlot
	}
	return plan, nil
}

// Wipe carries out a plan made for this very header: key material of the
// highest slot first, then one write of the header. Nothing is written when the
// header has changed since.
func Wipe(ctx context.Context, h *luks2.Header, p WipePlan) error {
	for _, slot := range p.Slots {
		if err := h.RemoveSlot(slot.ID); err != nil {
			return err
		}
	}
	for _, id := range p.Tokens {
		if err := h.RemoveToken(id); err != nil {
			return err
		}
	}
	return h.Commit(ctx)
}

// wipe holds the sets that grow while a plan is made.
type wipe struct{ keep, wipe, tokens map[int]bool }

func set(ids ...int) map[int]bool {
	m := map[int]bool{}
	for _, id := range ids {
		m[id] = true
	}
	return m
}

// choose adds what the selection names. Slots that hold another key than that of
// the data are only meant when they are named by number or by a token.
func (w *wipe) choose(ctx context.Context, h *luks2.Header, s Selection) error {
	for _, slot := range List(h) {
		if !slot.Bound {
			continue
		}
		switch {
		case w.keep[slot.ID]:
		case s.All:
			w.wipe[slot.ID] = true
		case s.Empty:
			empty, err := opensEmpty(ctx, h, slot)
			if err != nil {
				return err
			}
			if empty {
				w.wipe[slot.ID] = true
			}
		}
		if slot.Kind == Password && slices.Contains(s.Kinds, Password) && !w.keep[slot.ID] {
			w.wipe[slot.ID] = true
		}
	}
	for _, t := range h.Tokens() {
		if kind := tokenKind(t.Type); kind != Other && slices.Contains(s.Kinds, kind) {
			for _, id := range t.Keyslots {
				w.wipe[id] = true
			}
		}
	}
	return nil
}

// opensEmpty tries the empty passphrase. Only a real try can tell.
func opensEmpty(ctx context.Context, h *luks2.Header, slot Slot) (bool, error) {
	empty := secret.New(0)
	defer empty.Wipe()
	key, err := h.VolumeKey(ctx, slot.ID, empty)
	switch {
	case err == nil:
		key.Wipe()
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, luks2.ErrPassphrase), errors.Is(err, luks2.ErrUnsupported):
		return false, nil
	}
	return false, err
}

// followTokens keeps or wipes the slots of a token together, by number of the
// token. The slots of a token that nobody chose are kept as well, against the
// tokens behind it.
func (w *wipe) followTokens(h *luks2.Header) {
	tokens := h.Tokens()
	slices.SortFunc(tokens, func(a, b luks2.Token) int { return a.ID - b.ID })
	for _, t := range tokens {
		set := w.keep
		kept := slices.ContainsFunc(t.Keyslots, func(id int) bool { return w.keep[id] })
		if !kept && slices.ContainsFunc(t.Keyslots, func(id int) bool { return w.wipe[id] }) {
			set = w.wipe
			w.tokens[t.ID] = true
		}
		for _, id := range t.Keyslots {
			set[id] = true
		}
	}
}

func descending(m map[int]bool) []int {
	var list []int
	for id := range m {
		list = append(list, id)
	}
	slices.SortFunc(list, func(a, b int) int { return b - a })
	return list
}
