package luks2

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/lockport/lockport/secret"
)

// slotJSON has the members of a keyslot in the order of libcryptsetup.
type slotJSON struct {
	Type     string   `json:"type"`
	KeySize  int      `json:"key_size"`
	Priority *int     `json:"priority,omitempty"`
	AF       afJSON   `json:"af"`
	Area     areaJSON `json:"area"`
	KDF      any      `json:"kdf"`
	Note     any      `json:"lockport,omitempty"`
}

type afJSON struct {
	Type    string `json:"type"`
	Stripes int    `json:"stripes"`
	Hash    string `json:"hash"`
}

type areaJSON struct {
	Type       string `json:"type"`
	Offset     int64  `json:"offset,string"`
	Size       int64  `json:"size,string"`
	Encryption string `json:"encryption"`
	KeySize    int    `json:"key_size"`
}

type digestJSON struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations uint32   `json:"iterations"`
	Salt       []byte   `json:"salt"`
	Digest     []byte   `json:"digest"`
}

func (k Keyslot) json(note Note) json.RawMessage {
	j := slotJSON{
		Type: k.Type, KeySize: k.KeySize,
		AF:   afJSON{"luks1", afStripes, k.AFHash},
		Area: areaJSON{"raw", k.Area.Offset, k.Area.Size, k.Area.Encryption, k.Area.KeySize},
		KDF:  k.KDF.json(),
	}
	if k.Priority != PriorityNormal {
		p := int(k.Priority)
		j.Priority = &p
	}
	if n := note.json(); n != nil {
		j.Note = n
	}
	return marshal(j)
}

func (d Digest) json() json.RawMessage {
	return marshal(digestJSON{d.Type, names(d.Keyslots), names(d.Segments), d.Hash, d.Iterations, d.Salt, d.Value})
}

// newDigest makes the proof of a key. PBKDF2 is applied to a random key here,
// so that its cost matters little.
func newDigest(ctx context.Context, key *secret.Bytes, hashName string, iterations uint32) (Digest, error) {
	newHash, err := hashNamed(hashName)
	if err != nil {
		return Digest{}, err
	}
	d := Digest{Type: "pbkdf2", Hash: hashName, Iterations: iterations, Salt: newSalt()}
	k := KDF{Type: PBKDF2, Hash: hashName, Iterations: iterations, Salt: d.Salt}
	sum, err := k.derive(ctx, key, newHash().Size())
	if err != nil {
		return Digest{}, err
	}
	defer sum.Wipe()
	d.Value = slices.Clone(sum.Reveal())
	return d, nil
}

// addToMetadata enters a keyslot under its digest.
func (h *Header) addToMetadata(k Keyslot, note Note, digest int) error {
	var d Digest
	for _, d = range h.meta.digests {
		if d.ID == digest {
			break
		}
	}
	slots := marshal(names(append(slices.Clone(d.Keyslots), k.ID)))
	return h.edit(func(text json.RawMessage) (json.RawMessage, error) {
		text, err := edit(text, k.json(note), "keyslots", strconv.Itoa(k.ID))
		if err != nil {
			return nil, err
		}
		return edit(text, slots, "digests", strconv.Itoa(digest), "keyslots")
	})
}

// removeFromMetadata drops a keyslot and every mention of it, and a digest
// that proves nothing any more.
func (h *Header) removeFromMetadata(k Keyslot) error {
	return h.edit(func(text json.RawMessage) (json.RawMessage, error) {
		text, err := edit(text, nil, "keyslots", strconv.Itoa(k.ID))
		if err != nil {
			return nil, err
		}
		for _, d := range h.meta.digests {
			if !slices.Contains(d.Keyslots, k.ID) {
				continue
			}
			path := []string{"digests", strconv.Itoa(d.ID), "keyslots"}
			value := without(d.Keyslots, k.ID)
			if len(d.Keyslots) == 1 && len(d.Segments) == 0 {
				path, value = path[:2], nil
			}
			if text, err = edit(text, value, path...); err != nil {
				return nil, err
			}
		}
		for _, t := range h.meta.tokens {
			if !slices.Contains(t.Keyslots, k.ID) {
				continue
			}
			if text, err = edit(text, without(t.Keyslots, k.ID), "tokens", strconv.Itoa(t.ID), "keyslots"); err != nil {
				return nil, err
			}
		}
		return text, nil
	})
}

// overwrite fills a range with noise, a piece at a time.
func overwrite(s Store, offset, size int64) error {
	noise := make([]byte, min(size, 1<<20))
	for size > 0 {
		piece := noise[:min(size, int64(len(noise)))]
		// rand.Read never returns an error: it ends the program instead.
		_, _ = rand.Read(piece)
		if _, err := s.WriteAt(piece, offset); err != nil {
			return err
		}
		offset += int64(len(piece))
		size -= int64(len(piece))
	}
	return nil
}
