package eventlog

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// recordSeparator begins each record (RFC 7464).
const recordSeparator = 0x1e

// record is one entry of systemd's log.
type record struct {
	PCR     *int `json:"pcr"`
	Digests []struct {
		Alg    string `json:"hashAlg"`
		Digest string `json:"digest"`
	} `json:"digests"`
	ContentType string          `json:"content_type"`
	Content     json.RawMessage `json:"content"`
}

// ParseSystemd reads systemd's log. Records of what went elsewhere than into a
// PCR, into an NV index, are left out.
func ParseSystemd(b []byte) ([]Event, error) {
	if len(b) > maxLog {
		return nil, fmt.Errorf("more than %d bytes", maxLog)
	}
	before, rest, found := bytes.Cut(b, []byte{recordSeparator})
	if len(bytes.TrimSpace(before)) > 0 {
		return nil, errors.New("does not begin with a record separator")
	}
	var events []Event
	for n := 0; found; n++ {
		if n == maxEvents {
			return nil, fmt.Errorf("more than %d events", maxEvents)
		}
		at := len(b) - len(rest)
		var text []byte
		text, rest, found = bytes.Cut(rest, []byte{recordSeparator})
		e, err := parseRecord(text)
		if err != nil {
			return nil, fmt.Errorf("event %d at offset %d: %w", n, at, err)
		}
		if e != nil {
			events = append(events, *e)
		}
	}
	return events, nil
}

// parseRecord returns nil for a record that is about no PCR.
func parseRecord(text []byte) (*Event, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	if r.PCR == nil {
		return nil, nil
	}
	if *r.PCR < 0 || *r.PCR > maxPCR {
		return nil, fmt.Errorf("PCR %d", *r.PCR)
	}
	e := &Event{PCR: *r.PCR, System: true, Digests: map[string][]byte{}}
	if err := r.digests(e.Digests); err != nil {
		return nil, err
	}
	return e, r.content(e)
}

func (r *record) digests(into map[string][]byte) error {
	for _, d := range r.Digests {
		known, ok := bankByName(d.Alg)
		if !ok {
			continue
		}
		digest, err := hex.DecodeString(d.Digest)
		if err != nil {
			return fmt.Errorf("digest of %s: %w", d.Alg, err)
		}
		if len(digest) != known.size || into[d.Alg] != nil {
			return fmt.Errorf("digest of %s of %d bytes, or a second one", d.Alg, len(digest))
		}
		into[d.Alg] = digest
	}
	return nil
}

// content takes what was measured; of records that are not systemd's, whose
// content may be anything, all of it.
func (r *record) content(e *Event) error {
	if r.ContentType != "systemd" {
		e.Kind, e.Data = r.ContentType, r.Content
		return nil
	}
	var c struct {
		Type string `json:"eventType"`
		Text string `json:"string"`
	}
	if err := json.Unmarshal(r.Content, &c); err != nil {
		return fmt.Errorf("content: %w", err)
	}
	e.Kind, e.Data = c.Type, []byte(c.Text)
	return nil
}
