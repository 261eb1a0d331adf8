package eventlog

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unknownAlg is an algorithm (SM3) that we skip: the writer gives each event a
// digest of it.
const unknownAlg, unknownSize = 0x12, 32

func le32(b []byte, v ...uint32) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

func le16(b []byte, v ...uint16) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint16(b, x)
	}
	return b
}

func le64(b []byte, v ...uint64) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

// oldForm writes an event of the form with SHA-1 alone.
func oldForm(b []byte, e Event) []byte {
	b = le32(b, uint32(e.PCR), uint32(e.Type))
	b = append(b, e.Digests["sha1"]...)
	return append(le32(b, uint32(len(e.Data))), e.Data...)
}

// agile writes an event of the crypto agile form.
func agile(b []byte, e Event) []byte {
	b = le32(b, uint32(e.PCR), uint32(e.Type), uint32(len(e.Digests)+1))
	b = append(le16(b, unknownAlg), bytes.Repeat([]byte{0xaa}, unknownSize)...)
	for _, k := range banks() {
		if d := e.Digests[k.name]; d != nil {
			b = append(le16(b, k.alg), d...)
		}
	}
	return append(le32(b, uint32(len(e.Data))), e.Data...)
}

// specEvent is the first event of an agile log of these banks.
func specEvent(names ...string) Event {
	data := append([]byte(specID2), 0, 0, 0, 0, 0, 2, 0, 2)
	data = le32(data, uint32(len(names)+1))
	data = le16(data, unknownAlg, unknownSize)
	for _, n := range names {
		b, _ := bankByName(n)
		data = le16(data, b.alg, uint16(b.size))
	}
	return Event{Type: NoAction, Digests: map[string][]byte{"sha1": make([]byte, 20)}, Data: append(data, 0)}
}

// measured makes an event with the digests of its data.
func measured(pcr int, t Type, data string, names ...string) Event {
	e := Event{PCR: pcr, Type: t, Digests: map[string][]byte{}, Data: []byte(data)}
	for _, n := range names {
		b, _ := bankByName(n)
		h := b.hash()
		h.Write(e.Data)
		e.Digests[n] = h.Sum(nil)
	}
	return e
}

// extended is a PCR after these digests, from a start value.
func extended(name string, start []byte, events ...Event) []byte {
	b, _ := bankByName(name)
	for _, e := range events {
		h := b.hash()
		h.Write(append(bytes.Clone(start), e.Digests[name]...))
		start = h.Sum(nil)
	}
	return start
}

func agileLog(events ...Event) []byte {
	out := oldForm(nil, events[0])
	for _, e := range events[1:] {
		out = agile(out, e)
	}
	return out
}

func TestAgileLog(t *testing.T) {
	t.Parallel()
	all := []string{"sha1", "sha256", "sha384", "sha512"}
	first := measured(0, crtmVersion, "1\x00", all...)
	second := measured(0, Separator, "\x00\x00\x00\x00", "sha256", "sha512")
	locality := Event{Type: NoAction, Digests: map[string][]byte{}, Data: []byte(startupLocality + "\x03")}
	nowhere := Event{PCR: -1, Type: NoAction, Digests: map[string][]byte{}, Data: []byte("x")}
	late := measured(17, action, "late", all...)
	only1 := measured(8, ipl, "a", "sha1")
	events := []Event{specEvent(all...), locality, first, nowhere, late, second, only1}
	l, err := ParseFirmware(agileLog(events...))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&Log{Events: events, Banks: all}, l); d != "" {
		t.Error(d)
	}
	start := make([]byte, 32)
	start[31] = 3
	if d := cmp.Diff(map[int][]byte{0: extended("sha256", start, first, second)}, l.Replay("sha256")); d != "" {
		t.Error(d)
	}
	start = append(make([]byte, 19), 3)
	want := map[int][]byte{0: extended("sha1", start, first), 8: extended("sha1", make([]byte, 20), only1)}
	if d := cmp.Diff(want, l.Replay("sha1")); d != "" {
		t.Error(d)
	}
	if got := l.Replay("sm3"); len(got) != 0 {
		t.Errorf("%x", got)
	}
	if got := l.Of(0); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func TestOldLog(t *testing.T) {
	t.Parallel()
	events := []Event{measured(4, ipl, "a", "sha1"), measured(4, action, "b", "sha1"), measured(5, ipl, "", "sha1")}
	var b []byte
	for _, e := range events {
		b = oldForm(b, e)
	}
	l, err := ParseFirmware(append(b, make([]byte, 7)...))
	if err != nil {
		t.Fatal(err)
	}
	want := &Log{Events: events, Banks: []string{"sha1"}}
	if d := cmp.Diff(want, l); d != "" {
		t.Error(d)
	}
	zero := make([]byte, 20)
	pcrs := map[int][]byte{4: extended("sha1", zero, events[:2]...), 5: extended("sha1", zero, events[2])}
	if d := cmp.Diff(pcrs, l.Replay("sha1")); d != "" {
		t.Error(d)
	}
	if got := l.Replay("sha256"); len(got) != 0 {
		t.Errorf("%x", got)
	}
}

func TestEmptyLog(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{nil, make([]byte, 100)} {
		if l, err := ParseFirmware(b); err != nil || len(l.Events) != 0 || len(l.Replay("sha256")) != 0 {
			t.Errorf("%v, %v", l, err)
		}
	}
}

// headed is the start of an agile log with SHA-256, and bytes after it.
func headed(b ...byte) []byte { return append(oldForm(nil, specEvent("sha256")), b...) }

// spec is a log of nothing but a first event with this list of algorithms.
func spec(count uint32, list ...uint16) []byte {
	data := le16(le32(append([]byte(specID2), make([]byte, 8)...), count), list...)
	return oldForm(nil, Event{Type: NoAction, Digests: map[string][]byte{"sha1": make([]byte, 20)}, Data: data})
}

func TestBadFirmwareLogs(t *testing.T) {
	t.Parallel()
	twice := le16(nil, 0xb)
	twice = append(append(le16(append(twice, make([]byte, 32)...), 0xb), make([]byte, 32)...), 0, 0, 0, 0)
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"short", []byte{1}, "event 0 at offset 0: 1 bytes where 4 are needed"},
		{"data beyond the end", le32(append(le32(nil, 0, 5), make([]byte, 20)...), 0xffffffff), "event 0 at offset 0: 0 bytes where 4294967295 are needed"},
		{"PCR", le32(append(le32(nil, 24, 5), make([]byte, 20)...), 0), "event 0 at offset 0: PCR 24"},
		{"PCR below zero", le32(append(le32(nil, 0xfffffffe, 5), make([]byte, 20)...), 0), "event 0 at offset 0: PCR 4294967294"},
		{"number of algorithms", spec(33), "event 0 at offset 0: 33 algorithms"},
		{"few algorithms", spec(2, 0xb, 32), "event 0 at offset 0: 0 bytes where 2 are needed"},
		{"wrong size", spec(1, 0xb, 20), "event 0 at offset 0: algorithm 0xb is there twice, or has digests of 20 bytes"},
		{"algorithm twice", spec(2, 0x12, 32, 0x12, 32), "event 0 at offset 0: algorithm 0x12 is there twice, or has digests of 32 bytes"},
		{"many digests", headed(le32(nil, 1, 5, 0xffffffff)...), "event 1 at offset 69: 4294967295 digests in a log of 2 algorithms"},
		{"unknown algorithm", headed(le16(le32(nil, 1, 5, 1), 0xc)...), "event 1 at offset 69: digest of algorithm 0xc, which the log does not announce"},
		{"two digests", headed(append(le32(nil, 1, 5, 2), twice...)...), "event 1 at offset 69: two digests of one algorithm"},
		{"cut in a digest", headed(append(le32(nil, 1, 5, 1), 0xb, 0, 1, 2)...), "event 1 at offset 69: 2 bytes where 32 are needed"},
		{"too many", bytes.Repeat(oldForm(nil, measured(1, ipl, "", "sha1")), maxEvents+1), "event 65536 at offset 2097152: more than 65536 events"},
		{"too long", make([]byte, maxLog+1), "more than 16777216 bytes"},
	} {
		l, err := ParseFirmware(c.b)
		if l != nil || err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, %v\nwant %s", c.name, l, err, c.want)
		}
	}
}

// Of the digests that are not understood nothing is left, but the event is.
func TestUnknownBanksAreSkipped(t *testing.T) {
	t.Parallel()
	l, err := ParseFirmware(agileLog(specEvent(), measured(3, action, "x")))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Events) != 2 || len(l.Events[1].Digests) != 0 || len(l.Banks) != 0 {
		t.Errorf("%+v", l)
	}
}
