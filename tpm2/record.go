package tpm2

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/lockport/lockport/tpm2/eventlog"
)

// Record is what a token remembers beyond what unlocking needs. It stands in the
// token's member "lockport", which systemd passes over and keeps. It is as little
// protected as the rest of the header: its PCR values are believed only where
// they come to the policy that the object is sealed to.
type Record struct {
	PCRs map[int]RecordedPCR // what the bound PCRs held; nil if that is not known
	// Pending is the boot in which the keyslot was made for PCR values of a later
	// one, Superseded the boot in which another keyslot took its place; see
	// [BootID]. "" for neither.
	Pending, Superseded string
	// Proof is made with the volume key over what the token asks for, so that a
	// refresh can tell its owner's terms from planted ones; nil for none.
	Proof []byte
}

// RecordedPCR is one PCR as it was.
type RecordedPCR struct {
	Value  []byte
	Events []Mark // that came to it, as far as there was a log; nil if not known
}

// Mark tells an event from others: the beginning of its digest, and its type.
type Mark struct {
	Digest uint32
	Type   eventlog.Type
}

const (
	recordMember = "lockport"
	markSize     = 8
	maxMarks     = 96   // of one PCR
	maxRecord    = 3072 // bytes of JSON; the whole header has about 12 KiB of it
)

type recordText struct {
	PCRs       map[string]recordedText `json:"pcrs,omitempty"`
	Pending    string                  `json:"pending,omitempty"`
	Superseded string                  `json:"superseded,omitempty"`
	Proof      []byte                  `json:"proof,omitempty"`
}

type recordedText struct {
	Value  string `json:"value"`
	Events string `json:"events,omitempty"`
}

// readRecord is lenient: what can't be read is not remembered.
func readRecord(text json.RawMessage) *Record {
	var in recordText
	if len(text) > 2*maxRecord || json.Unmarshal(text, &in) != nil {
		return nil
	}
	r := &Record{Pending: bootName(in.Pending), Superseded: bootName(in.Superseded), Proof: in.Proof}
	for name, p := range in.PCRs {
		n, err := strconv.ParseUint(name, 10, 8)
		value, bad := hex.DecodeString(p.Value)
		marks, worse := readMarks(p.Events)
		if errors.Join(err, bad, worse) != nil || n > maxPCR {
			return &Record{Pending: r.Pending, Superseded: r.Superseded, Proof: r.Proof}
		}
		if r.PCRs == nil {
			r.PCRs = map[int]RecordedPCR{}
		}
		r.PCRs[int(n)] = RecordedPCR{value, marks}
	}
	return r
}

// bootName is the name of a boot, or "" for what is none.
func bootName(text string) string {
	if b, err := hex.DecodeString(text); err != nil || len(b) != 16 {
		return ""
	}
	return text
}

func readMarks(text string) ([]Mark, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b)%markSize != 0 || len(b) > maxMarks*markSize {
		return nil, fmt.Errorf("%d bytes of events: %w", len(b), errors.Join(err))
	}
	var list []Mark
	for ; len(b) > 0; b = b[markSize:] {
		list = append(list, Mark{binary.BigEndian.Uint32(b), eventlog.Type(binary.BigEndian.Uint32(b[4:]))})
	}
	return list, nil
}

// marshal returns the member, nil for nothing to remember. What would take too
// much room is left out: first the events, then the values.
func (r *Record) marshal() json.RawMessage {
	if r == nil {
		return nil
	}
	for _, detail := range []int{2, 1, 0} {
		out := recordText{Pending: r.Pending, Superseded: r.Superseded, Proof: r.Proof}
		if detail > 0 && len(r.PCRs) > 0 {
			out.PCRs = map[string]recordedText{}
			for n, p := range r.PCRs {
				text := recordedText{Value: hex.EncodeToString(p.Value)}
				if detail == 2 {
					text.Events = p.marks()
				}
				out.PCRs[strconv.Itoa(n)] = text
			}
		}
		text, err := json.Marshal(out)
		if err == nil && string(text) != "{}" && len(text) <= maxRecord {
			return text
		}
	}
	return nil
}

func (p RecordedPCR) marks() string {
	if len(p.Events) > maxMarks {
		return ""
	}
	var b []byte
	for _, m := range p.Events {
		b = put32(b, m.Digest, uint32(m.Type))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// marksOf returns the marks of a PCR's events, nil if one has no digest in the
// bank.
func marksOf(events []eventlog.Event, bank string) []Mark {
	var list []Mark
	for _, e := range events {
		d := e.Digests[bank]
		if len(d) < 4 {
			return nil
		}
		list = append(list, Mark{binary.BigEndian.Uint32(d), e.Type})
	}
	return list
}

// recordPCRs remembers the values and, where the log comes to a value, the
// events behind it.
func recordPCRs(values map[int][]byte, bank string, log *eventlog.Log) map[int]RecordedPCR {
	if len(values) == 0 {
		return nil
	}
	replayed := map[int][]byte{}
	if log != nil {
		replayed = log.Replay(bank)
	}
	all := map[int]RecordedPCR{}
	for n, v := range values {
		p := RecordedPCR{Value: v}
		if r, ok := replayed[n]; ok && string(r) == string(v) {
			p.Events = marksOf(log.Of(n), bank)
		}
		all[n] = p
	}
	return all
}
