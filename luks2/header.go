package luks2

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// UUID returns the volume's UUID as the header spells it.
func (h *Header) UUID() string { return h.bin.uuid }

// Label returns the label, "" for none.
func (h *Header) Label() string { return h.bin.label }

// Subsystem returns the subsystem label, "" for none.
func (h *Header) Subsystem() string { return h.bin.subsystem }

// SeqID returns the sequence number, which grows with every write.
func (h *Header) SeqID() uint64 { return h.bin.seqID }

// Size returns the length in bytes of one copy, JSON area included.
func (h *Header) Size() int64 { return h.bin.size }

// KeyslotsArea returns where the key material lives, in bytes.
func (h *Header) KeyslotsArea() (offset, size int64) { return 2 * h.bin.size, h.meta.keyslotsSize }

// JSON returns the metadata as text.
func (h *Header) JSON() json.RawMessage { return slices.Clone(h.json) }

// Keyslots returns all keyslots in the order of the header.
func (h *Header) Keyslots() []Keyslot { return slices.Clone(h.meta.keyslots) }

// Keyslot returns one keyslot, or an error wrapping [ErrNoKeyslot].
func (h *Header) Keyslot(id int) (Keyslot, error) {
	k, ok := h.meta.keyslot(id)
	if !ok {
		return k, fmt.Errorf("%w: %d", ErrNoKeyslot, id)
	}
	return k, nil
}

// Bound tells whether the keyslot holds the key of the data, and not some
// other key (an unbound keyslot).
func (h *Header) Bound(keyslot int) bool {
	d, ok := h.meta.segmentDigest()
	return ok && slices.Contains(d.Keyslots, keyslot)
}

// Tokens returns all tokens in the order of the header.
func (h *Header) Tokens() []Token { return slices.Clone(h.meta.tokens) }

// Token returns one token, or an error wrapping [ErrNoToken].
func (h *Header) Token(id int) (Token, error) {
	for _, t := range h.meta.tokens {
		if t.ID == id {
			return t, nil
		}
	}
	return Token{}, fmt.Errorf("%w: %d", ErrNoToken, id)
}

// Segments returns all segments by number.
func (h *Header) Segments() []Segment {
	list := slices.Clone(h.meta.segments)
	slices.SortFunc(list, func(a, b Segment) int { return a.ID - b.ID })
	return list
}

// Digests returns all digests in the order of the header.
func (h *Header) Digests() []Digest { return slices.Clone(h.meta.digests) }

// Flags returns the persistent activation flags.
func (h *Header) Flags() []string { return slices.Clone(h.meta.flags) }

// Requirements returns what the header demands of whoever uses it.
func (h *Header) Requirements() []string { return slices.Clone(h.meta.requirements) }

// Usable says whether this package may open keyslots and change the header.
// A header that demands something unknown, or that is in the middle of a
// reencryption, may only be looked at: anything else could destroy data. The
// error wraps [ErrUnsupported] and names what stands in the way.
func (h *Header) Usable() error {
	for _, r := range h.meta.requirements {
		return fmt.Errorf("%w: the header requires %q", ErrUnsupported, r)
	}
	for _, k := range h.meta.keyslots {
		if k.Type == "reencrypt" {
			return fmt.Errorf("%w: keyslot %d belongs to a reencryption under way", ErrUnsupported, k.ID)
		}
	}
	for _, s := range h.meta.segments {
		if s.backup() || slices.Contains(s.Flags, "in-reencryption") {
			return fmt.Errorf("%w: segment %d belongs to a reencryption under way", ErrUnsupported, s.ID)
		}
	}
	return nil
}

// Segment returns the one segment that holds the data, if it is of a kind that
// may be activated; see [Header.Usable] for why it may not.
func (h *Header) Segment() (Segment, error) {
	if err := h.Usable(); err != nil {
		return Segment{}, err
	}
	if n := len(h.meta.segments); n != 1 {
		return Segment{}, fmt.Errorf("%w: %d segments, only one can be activated", ErrUnsupported, n)
	}
	s := h.meta.segments[0]
	switch {
	case s.Type != "crypt":
		return s, fmt.Errorf("%w: segment of type %q", ErrUnsupported, s.Type)
	case s.Integrity != "":
		return s, fmt.Errorf("%w: segment with integrity %q", ErrUnsupported, s.Integrity)
	}
	return s, checkKernelCipher(s.Encryption)
}

// edit changes the metadata in memory. The result goes through the same strict
// reader as a header from disk, so that we never write what we would refuse.
func (h *Header) edit(change func(text json.RawMessage) (json.RawMessage, error)) error {
	if err := h.Usable(); err != nil {
		return err
	}
	text, err := change(h.json)
	if err != nil {
		return err
	}
	if room := h.bin.size - binarySize - 1; int64(len(text)) > room {
		return fmt.Errorf("%w: %d bytes of metadata, room for %d", ErrFull, len(text), room)
	}
	meta, err := parseMetadata(text, h.bin.size)
	if err != nil {
		return err
	}
	h.json, h.meta = text, meta
	return nil
}

// set replaces, adds or (nil) removes one member.
func (h *Header) set(value json.RawMessage, path ...string) error {
	return h.edit(func(text json.RawMessage) (json.RawMessage, error) { return edit(text, value, path...) })
}

// freeID returns the lowest number that is not taken.
func freeID[T any](list []T, id func(T) int, limit int) (int, error) {
	for i := range limit {
		if !slices.ContainsFunc(list, func(t T) bool { return id(t) == i }) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: all %d numbers are taken", ErrFull, limit)
}

// SetPriority changes when a keyslot is tried.
func (h *Header) SetPriority(keyslot int, p Priority) error {
	if _, err := h.Keyslot(keyslot); err != nil {
		return err
	}
	return h.set(marshal(int(p)), "keyslots", strconv.Itoa(keyslot), "priority")
}

// SetLabel changes the label, at most 47 bytes without NUL.
func (h *Header) SetLabel(label string) error {
	if err := checkLabel(label); err != nil {
		return err
	}
	h.bin.label = label
	return h.Usable()
}

// SetSubsystem changes the subsystem label, at most 47 bytes without NUL.
func (h *Header) SetSubsystem(label string) error {
	if err := checkLabel(label); err != nil {
		return err
	}
	h.bin.subsystem = label
	return h.Usable()
}

func checkLabel(label string) error {
	if len(label) >= labelSize {
		return fmt.Errorf("label of %d bytes, at most %d fit", len(label), labelSize-1)
	}
	for i := range len(label) {
		if label[i] == 0 {
			return errors.New("label contains a NUL byte")
		}
	}
	return nil
}

// SetFlags replaces the persistent activation flags, such as "allow-discards".
func (h *Header) SetFlags(flags ...string) error {
	var value json.RawMessage
	if len(flags) > 0 {
		value = marshal(flags)
	}
	return h.set(value, "config", "flags")
}
