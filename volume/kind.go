package volume

import (
	"errors"
	"slices"
	"strings"

	"github.com/lockport/lockport/luks2"
)

// Kind is what a keyslot is for, as its tokens tell.
type Kind string

// The kinds of keyslots, named as systemd-cryptenroll names them.
const (
	Password Kind = "password" // named by no token
	Recovery Kind = "recovery"
	PKCS11   Kind = "pkcs11"
	FIDO2    Kind = "fido2"
	TPM2     Kind = "tpm2"
	Other    Kind = "other"    // named by a token of somebody else's
	Conflict Kind = "conflict" // named by more than one token
)

// tokenPrefix begins the type of every token of systemd.
const tokenPrefix = "systemd-"

// tokenKinds lists the kinds that have a token type of their own.
var tokenKinds = []Kind{Recovery, PKCS11, FIDO2, TPM2}

// Human tells the kinds that a person can use with no device at hand.
func (k Kind) Human() bool { return k == Password || k == Recovery }

// tokenKind returns the kind of slot that a token of this type makes.
func tokenKind(tokenType string) Kind {
	for _, k := range tokenKinds {
		if tokenType == tokenPrefix+string(k) {
			return k
		}
	}
	return Other
}

// slotKind returns the kind of one keyslot.
func slotKind(h *luks2.Header, keyslot int) Kind {
	kind := Password
	for _, t := range h.Tokens() {
		if !slices.Contains(t.Keyslots, keyslot) {
			continue
		}
		if kind != Password {
			return Conflict
		}
		kind = tokenKind(t.Type)
	}
	return kind
}

// ErrHomed: the volume belongs to systemd-homed, which keeps its own record of
// its keyslots.
var ErrHomed = errors.New("the volume is managed by systemd-homed")

// CheckOwner returns [ErrHomed] for volumes that somebody else keeps the books
// of.
func CheckOwner(h *luks2.Header) error {
	for _, t := range h.Tokens() {
		if t.Type == "systemd-homed" {
			return ErrHomed
		}
	}
	return nil
}

// checkOurs refuses to change what is not ours to change.
func checkOurs(h *luks2.Header) error {
	if err := CheckOwner(h); err != nil {
		return err
	}
	return h.Usable()
}

// Slot is one keyslot as a person sees it.
type Slot struct {
	luks2.Keyslot
	Kind   Kind
	Bound  bool // it holds the key of the data
	Tokens []luks2.Token
	Policy string // what the tokens ask for, "" for nothing
}

// List returns the keyslots by number.
func List(h *luks2.Header) []Slot {
	var list []Slot
	for _, k := range h.Keyslots() {
		s := Slot{Keyslot: k, Kind: slotKind(h, k.ID), Bound: h.Bound(k.ID)}
		var policies []string
		for _, t := range h.Tokens() {
			if slices.Contains(t.Keyslots, k.ID) {
				s.Tokens = append(s.Tokens, t)
				if p := Policy(t); p != "" {
					policies = append(policies, p)
				}
			}
		}
		s.Policy = strings.Join(policies, "; ")
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Slot) int { return a.ID - b.ID })
	return list
}

// SetName names a keyslot, or takes its name for "". The caller
// commits the header.
func SetName(h *luks2.Header, keyslot int, name string) error {
	k, err := h.Keyslot(keyslot)
	if err != nil {
		return err
	}
	if err := checkOurs(h); err != nil {
		return err
	}
	k.Note.Name = name
	return h.SetNote(keyslot, k.Note)
}
