package luks2

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// Note is what we remember of a keyslot for the person who owns it. It stands
// in the member "lockport" of the keyslot, which other programs keep as it is
// and which goes when the slot goes. It is not authenticated: whoever can
// write the header can write anything here.
type Note struct {
	Name    string    // given by a person; "" for none
	Created time.Time // zero for unknown
	Method  string    // how the slot was made, "recovery key"; "" for unknown
}

const (
	noteMember  = "lockport"
	maxNameSize = 64 // bytes
)

type noteJSON struct {
	Name    string `json:"name,omitempty"`
	Created string `json:"created,omitempty"`
	Method  string `json:"method,omitempty"`
}

// readNote is lenient: a note that can't be read is no reason to refuse the
// keyslot that it stands in.
func readNote(n node) Note {
	var j noteJSON
	if raw := n.obj.get(noteMember); raw == nil || json.Unmarshal(raw, &j) != nil {
		return Note{}
	}
	note := Note{}
	if CheckName(j.Name) == nil {
		note.Name = j.Name
	}
	if CheckName(j.Method) == nil {
		note.Method = j.Method
	}
	if t, err := time.Parse(time.RFC3339, j.Created); err == nil {
		note.Created = t.UTC()
	}
	return note
}

// CheckName says whether a keyslot may be named so: up to 64 bytes of printable
// text.
func CheckName(name string) error {
	if len(name) > maxNameSize {
		return fmt.Errorf("name of %d bytes, at most %d are allowed", len(name), maxNameSize)
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("name %q is not text", name)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("name %q has a character that can't be printed", name)
		}
	}
	return nil
}

func (n Note) json() json.RawMessage {
	j := noteJSON{Name: n.Name, Method: n.Method}
	if !n.Created.IsZero() {
		j.Created = n.Created.UTC().Format(time.RFC3339)
	}
	if j == (noteJSON{}) {
		return nil
	}
	return marshal(j)
}

// SetNote replaces the note of a keyslot. An empty note removes it.
func (h *Header) SetNote(keyslot int, n Note) error {
	if _, err := h.Keyslot(keyslot); err != nil {
		return err
	}
	for _, text := range []string{n.Name, n.Method} {
		if err := CheckName(text); err != nil {
			return fmt.Errorf("keyslot %d: %w", keyslot, err)
		}
	}
	return h.set(n.json(), "keyslots", strconv.Itoa(keyslot), noteMember)
}
