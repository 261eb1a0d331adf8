package tpm2

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2/eventlog"
	"github.com/lockport/lockport/tpm2/tpm2test"
	"github.com/lockport/lockport/volume"
)

// firmwareLog is a real log: of SeaBIOS, with five events of PCR 2.
func firmwareLog(t testing.TB) *eventlog.Log {
	t.Helper()
	l, err := eventlog.ParseFirmware(vector(t, "eventlog/seabios.bin"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// madeEvent is an event of text with its digests in all banks.
func madeEvent(pcr int, text string) eventlog.Event {
	a, b, c, d := sha1.Sum([]byte(text)), sha256.Sum256([]byte(text)), sha512.Sum384([]byte(text)), sha512.Sum512([]byte(text))
	return eventlog.Event{PCR: pcr, Type: 5, Data: []byte(text),
		Digests: map[string][]byte{"sha1": a[:], "sha256": b[:], "sha384": c[:], "sha512": d[:]}}
}

// eventBytes marshals an event of a crypto agile log.
func eventBytes(e eventlog.Event) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, uint32(e.PCR)), uint32(e.Type)), uint32(len(e.Digests)))
	for _, bank := range banks() {
		if d := e.Digests[bank.name]; d != nil {
			b = append(le.AppendUint16(b, bank.alg), d...)
		}
	}
	return append(le.AppendUint32(b, uint32(len(e.Data))), e.Data...)
}

// putLog writes the events as the firmware's log under a root. The first is the
// vector's, which says what form the others have.
func putLog(t testing.TB, root string, events []eventlog.Event) *eventlog.Log {
	t.Helper()
	original := vector(t, "eventlog/seabios.bin")
	b := slices.Clone(original[:32+len(events[0].Data)])
	for _, e := range events[1:] {
		b = append(b, eventBytes(e)...)
	}
	putFile(t, filepath.Join(root, "sys/kernel/security/tpm0/binary_bios_measurements"), b)
	l, err := eventlog.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func putFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// startWith starts TPM B and has it measure what the log says.
func startWith(t *testing.T, l *eventlog.Log) *tpm2test.Software {
	t.Helper()
	tpm := tpm2test.Start(t, filepath.Join(vectorDir, "swtpm-B.tar.gz"))
	for _, e := range l.Events {
		if e.Type != eventlog.NoAction {
			tpm.Measure(e.PCR, e.Digests)
		}
	}
	return tpm
}

// enrolledWith enrols with a record of the real log.
func enrolledWith(t *testing.T, pcrs string) json.RawMessage {
	t.Helper()
	root := t.TempDir()
	l := putLog(t, root, firmwareLog(t).Events)
	if !bytes.Equal(mustRead(t, filepath.Join(root, "sys/kernel/security/tpm0/binary_bios_measurements")), vector(t, "eventlog/seabios.bin")) {
		t.Fatal("the log is not written as it was read")
	}
	tpm := startWith(t, l)
	pass, text, err := (&Enroller{Open: opener(tpm), PCRs: pcrList(t, pcrs), Root: root}).Enroll(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	pass.Wipe()
	return text
}

// TestRecordExplains enrols with the log of a real machine and explains after
// boots that went otherwise.
func TestRecordExplains(t *testing.T) {
	t.Parallel()
	text := enrolledWith(t, "0+2+4")
	enrolled := firmwareLog(t).Replay("sha256")
	real := firmwareLog(t).Events
	// Events 2 to 5 and 9 of the log are those of PCR 2.
	for _, c := range []struct {
		name   string
		change func(events []eventlog.Event) []eventlog.Event
		pcr    int
		want   []string // beginnings of the changes
	}{
		{"nothing", func(e []eventlog.Event) []eventlog.Event { return e }, -1, nil},
		{"altered", func(e []eventlog.Event) []eventlog.Event {
			e[3].Digests = madeEvent(2, "another ROM").Digests
			return e
		}, 2, []string{"event 2 differs: option ROM"}},
		{"inserted", func(e []eventlog.Event) []eventlog.Event { return slices.Insert(e, 4, madeEvent(2, "one more")) }, 2,
			[]string{"event 3 is new: action: one more"}},
		{"removed", func(e []eventlog.Event) []eventlog.Event { return slices.Delete(e, 2, 3) }, 2,
			[]string{"event 1 of enrolment is missing: EV_ACTION"}},
		{"appended", func(e []eventlog.Event) []eventlog.Event { return append(e, madeEvent(4, "late")) }, 4,
			[]string{"event 3 is new: action: late"}},
		{"two altered", func(e []eventlog.Event) []eventlog.Event {
			e[2] = madeEvent(2, "first")
			e[9] = madeEvent(2, "last")
			return e
		}, 2, []string{"event 1 differs: action: first", "event 5 differs: action: last"}},
		{"nothing left", func(e []eventlog.Event) []eventlog.Event {
			return slices.DeleteFunc(e, func(e eventlog.Event) bool { return e.PCR == 4 })
		}, 4, []string{"the event log has nothing about it", "event 1 of enrolment is missing: EV_ACTION", "event 2 of enrolment is missing: EV_SEPARATOR"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := putLog(t, t.TempDir(), c.change(slices.Clone(real)))
			tpm := startWith(t, l)
			r := explained(t, tpm, keyFor(tpm), text, ExplainOptions{Log: l})
			if r.Unlocks() != (c.pcr < 0) || c.pcr >= 0 && (!onlyBlock(r, ErrPolicy) || !strings.HasSuffix(r.Blocks[0].Error(), fmt.Sprintf("PCR %d", c.pcr))) {
				t.Errorf("%v", r.Blocks)
			}
			for _, p := range r.PCRs {
				if !bytes.Equal(p.Enrolled, enrolled[p.Index]) || (p.Match == Same) != (p.Index != c.pcr) {
					t.Errorf("%+v", p)
				}
				if p.Index != c.pcr && p.Changes != nil {
					t.Errorf("PCR %d: %q", p.Index, p.Changes)
				}
				if p.Index == c.pcr && !slices.EqualFunc(p.Changes, c.want, strings.HasPrefix) {
					t.Errorf("PCR %d: %q, want %q", p.Index, p.Changes, c.want)
				}
			}
			// Without the log of now the PCR is known, but not why.
			for _, p := range explained(t, tpm, keyFor(tpm), text, ExplainOptions{}).PCRs {
				if (p.Match == Same) != (p.Index != c.pcr) || p.Changes != nil {
					t.Errorf("without a log: %+v", p)
				}
			}
		})
	}
	// What the log does not have.
	tpm := startWith(t, &eventlog.Log{Events: append(slices.Clone(real), madeEvent(2, "unlogged"))})
	r := explained(t, tpm, keyFor(tpm), text, ExplainOptions{Log: firmwareLog(t)})
	if p := r.PCRs[1]; !slices.Equal(p.Changes, []string{"something that is not in the event log was measured after it"}) {
		t.Errorf("not in the log: %+v", p)
	}
	// Values of another boot are not those of this log.
	r = explained(t, tpm, keyFor(tpm), text, ExplainOptions{Log: firmwareLog(t), Values: []PCR{{2, "sha256", make([]byte, 32)}}})
	if p := r.PCRs[1]; p.Match != Differs || p.Changes != nil || !bytes.Equal(p.Enrolled, enrolled[2]) {
		t.Errorf("other values: %+v", p)
	}
	// Nor is there a TPM to compare with, but what was enrolled is on record.
	k := keyFor(tpm)
	k.Open = func(context.Context) (Device, error) { return nil, ErrNoTPM }
	if r, err := k.Explain(t.Context(), text, ExplainOptions{}); err != nil || !bytes.Equal(r.PCRs[1].Enrolled, enrolled[2]) || r.PCRs[1].Match != Unknown {
		t.Errorf("no TPM: %+v, %v", r, err)
	}
}

// withRecord replaces the record of a token.
func withRecord(t testing.TB, text json.RawMessage, r any) json.RawMessage {
	t.Helper()
	out, err := luks2.SetMember(text, recordMember, r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRecordForged has records that do not come to the policy.
func TestRecordForged(t *testing.T) {
	t.Parallel()
	two, one := enrolledWith(t, "2+4"), enrolledWith(t, "2")
	enrolled := firmwareLog(t).Replay("sha256")
	l := &eventlog.Log{Banks: []string{"sha256"}, Events: append(firmwareLog(t).Events, madeEvent(2, "late"), madeEvent(2, "later"))}
	tpm := startWith(t, l)
	marks := base64.StdEncoding.EncodeToString(make([]byte, markSize))
	v2, v4 := hex.EncodeToString(enrolled[2]), hex.EncodeToString(enrolled[4])
	type pcrs = map[string]recordedText
	for _, c := range []struct {
		name string
		text json.RawMessage
		pcrs pcrs
	}{
		{"other value", one, pcrs{"2": {Value: strings.Repeat("11", 32), Events: marks}}},
		{"no value", one, pcrs{"2": {Value: "", Events: marks}}},
		{"other PCR", one, pcrs{"4": {Value: v2, Events: marks}}},
		{"one of two", two, pcrs{"2": {Value: v2, Events: marks}, "4": {Value: v2, Events: marks}}},
		{"the other missing", two, pcrs{"2": {Value: v2, Events: marks}}},
		{"split at another place", two, pcrs{"2": {Value: v2 + v4, Events: marks}, "4": {Value: "", Events: marks}}},
		{"split one byte further", two, pcrs{"2": {Value: v2 + v4[:2], Events: marks}, "4": {Value: v4[2:], Events: marks}}},
	} {
		text := withRecord(t, c.text, recordText{PCRs: c.pcrs})
		r := explained(t, tpm, keyFor(tpm), text, ExplainOptions{})
		for _, p := range r.PCRs {
			if p.Enrolled != nil || p.Changes != nil {
				t.Errorf("%s, believed: %+v", c.name, p)
			}
		}
		// The log has the true value nevertheless.
		r = explained(t, tpm, keyFor(tpm), text, ExplainOptions{Log: l})
		for _, p := range r.PCRs {
			var want []string
			if p.Index == 2 {
				want = []string{"event 6 is new: action: late", "event 7 is new: action: later"}
			}
			if !bytes.Equal(p.Enrolled, enrolled[p.Index]) || !slices.Equal(p.Changes, want) {
				t.Errorf("%s, with the log: %+v", c.name, p)
			}
		}
		// And a false log has nothing at all.
		r = explained(t, tpm, keyFor(tpm), text, ExplainOptions{Log: &eventlog.Log{Events: []eventlog.Event{madeEvent(2, "x")}}})
		for _, p := range r.PCRs {
			if p.Enrolled != nil || slices.ContainsFunc(p.Changes, func(c string) bool { return strings.HasPrefix(c, "event ") }) {
				t.Errorf("%s, with a false log: %+v", c.name, p)
			}
		}
	}
}

// TestRecordGuess finds in the log what was enrolled, without a record.
func TestRecordGuess(t *testing.T) {
	t.Parallel()
	text := withRecord(t, enrolledWith(t, "0+2+4+5+7"), map[string]any{})
	enrolled := firmwareLog(t).Replay("sha256")
	late := func(pcrs ...int) []eventlog.Event {
		var list []eventlog.Event
		for i, n := range pcrs {
			list = append(list, madeEvent(n, fmt.Sprintf("late%d", i)))
		}
		return list
	}
	for _, c := range []struct {
		pcrs []int // measured after
		want string
	}{
		{[]int{2}, "0=same 2=differs 4=same 5=same 7=same"},
		{[]int{7, 7, 7}, "0=same 2=same 4=same 5=same 7=differs"},
		{[]int{0, 5, 0}, "0=differs 2=same 4=same 5=differs 7=same"},
		{[]int{0, 4, 7}, "0=unknown 2=unknown 4=unknown 5=unknown 7=unknown"}, // more than are guessed
	} {
		l := &eventlog.Log{Events: append(firmwareLog(t).Events, late(c.pcrs...)...)}
		tpm := startWith(t, l)
		r := explained(t, tpm, keyFor(tpm), text, ExplainOptions{Log: l})
		if pcrsOf(r) != c.want || !onlyBlock(r, ErrPolicy) {
			t.Errorf("%v: %s, %v", c.pcrs, pcrsOf(r), r.Blocks)
		}
		for _, p := range r.PCRs {
			if p.Match != Unknown && !bytes.Equal(p.Enrolled, enrolled[p.Index]) {
				t.Errorf("%v: %+v", c.pcrs, p)
			}
			if n := len(slices.DeleteFunc(slices.Clone(c.pcrs), func(n int) bool { return n != p.Index })); p.Match == Differs && len(p.Changes) != n {
				t.Errorf("%v: PCR %d: %q", c.pcrs, p.Index, p.Changes)
			}
		}
	}
}

// TestRecordGuessLocality has a TPM that was started from another locality, as
// one of the firmware's remarks says: PCR 0 does not begin with zeros.
func TestRecordGuessLocality(t *testing.T) {
	t.Parallel()
	remark := eventlog.Event{Type: eventlog.NoAction, Data: []byte("StartupLocality\x00\x03"), Digests: map[string][]byte{"sha256": make([]byte, 32)}}
	l := &eventlog.Log{Events: []eventlog.Event{remark, madeEvent(0, "a"), madeEvent(0, "b")}}
	enrolled := l.Replay("sha256")[0]
	l.Events = append(l.Events, madeEvent(0, "late"))
	tpm := startB(t)
	pass, text, err := (&Enroller{Open: opener(tpm), PCRs: []PCR{{0, "sha256", enrolled}, {Index: 7}}}).Enroll(t.Context(), nil)
	pass.Wipe()
	if err != nil {
		t.Fatal(err)
	}
	r := explained(t, tpm, keyFor(tpm), text, ExplainOptions{Log: l, Values: []PCR{{0, "sha256", l.Replay("sha256")[0]}}})
	if pcrsOf(r) != "0=differs 7=same" || !bytes.Equal(r.PCRs[0].Enrolled, enrolled) {
		t.Errorf("%s, %+v", pcrsOf(r), r.PCRs)
	}
}

// TestRecordText writes and reads records, and what is none.
func TestRecordText(t *testing.T) {
	t.Parallel()
	const boot = "0123456789abcdef0123456789abcdef"
	value := bytes.Repeat([]byte{1}, 32)
	events := func(n int) []Mark {
		var list []Mark
		for i := range n {
			list = append(list, Mark{uint32(i) << 20, eventlog.Type(i)})
		}
		return list
	}
	many := func(pcrs, n int) map[int]RecordedPCR {
		m := map[int]RecordedPCR{}
		for i := range pcrs {
			m[i] = RecordedPCR{Value: value, Events: events(n)}
		}
		return m
	}
	for _, c := range []struct {
		name     string
		in, want *Record // want nil: as it is
	}{
		{"boots", &Record{Pending: boot, Superseded: strings.Repeat("f", 32)}, nil},
		{"values", &Record{PCRs: many(24, 0)}, nil},
		{"events", &Record{PCRs: many(4, 20), Pending: boot}, nil},
		{"as many events as may be", &Record{PCRs: many(1, maxMarks)}, nil},
		{"one event too many", &Record{PCRs: many(1, maxMarks+1)}, &Record{PCRs: many(1, 0)}},
		{"too large with events", &Record{PCRs: many(3, maxMarks), Superseded: boot}, &Record{PCRs: many(3, 0), Superseded: boot}},
		{"too large with values", &Record{PCRs: map[int]RecordedPCR{1: {Value: make([]byte, maxRecord)}}, Pending: boot}, &Record{Pending: boot}},
	} {
		if c.want == nil {
			c.want = c.in
		}
		text := c.in.marshal()
		if got := readRecord(text); !reflect.DeepEqual(got, c.want) || len(text) > maxRecord {
			t.Errorf("%s: %d bytes, %+v", c.name, len(text), got)
		}
	}
	for _, r := range []*Record{nil, {}, {PCRs: map[int]RecordedPCR{}}, {PCRs: map[int]RecordedPCR{1: {Value: make([]byte, maxRecord)}}}} {
		if text := r.marshal(); text != nil {
			t.Errorf("%+v becomes %s", r, text)
		}
	}
	mark := base64.StdEncoding.EncodeToString(make([]byte, markSize))
	only := &Record{Pending: boot}
	for _, c := range []struct {
		name, text string
		want       *Record
	}{
		{"no JSON", `{`, nil},
		{"another's", `"x"`, nil},
		{"another's object", `{"x":1}`, &Record{}},
		{"too large", `{"pending":"` + boot + `","x":"` + strings.Repeat("x", 2*maxRecord) + `"}`, nil},
		{"broken boot names", `{"pending":"` + boot[1:] + `","superseded":"` + boot[1:] + `x"}`, &Record{}},
		{"boot name with escape codes", `{"pending":"\u001b[31m"}`, &Record{}},
		{"broken base64", `{"pending":"` + boot + `","pcrs":{"7":{"value":"00","events":"!"}}}`, only},
		{"half a mark", `{"pending":"` + boot + `","pcrs":{"7":{"value":"00","events":"AAAA"}}}`, only},
		{"too many marks", `{"pending":"` + boot + `","pcrs":{"7":{"value":"00","events":"` +
			base64.StdEncoding.EncodeToString(make([]byte, markSize*(maxMarks+1))) + `"}}}`, only},
		{"broken value", `{"pending":"` + boot + `","pcrs":{"7":{"value":"0"}}}`, only},
		{"PCR 24", `{"pending":"` + boot + `","pcrs":{"24":{"value":"00"}}}`, only},
		{"PCR -1", `{"pending":"` + boot + `","pcrs":{"-1":{"value":"00"}}}`, only},
		{"null", `null`, &Record{}},
		{"a mark", `{"pcrs":{"7":{"value":"00","events":"` + mark + `"}}}`, &Record{PCRs: map[int]RecordedPCR{7: {[]byte{0}, []Mark{{}}}}}},
	} {
		if got := readRecord(json.RawMessage(c.text)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		// None of that keeps a token from being read.
		if json.Valid([]byte(c.text)) {
			if _, err := ParseToken(withRecord(t, sampleText(t, "v257", "3"), json.RawMessage(c.text))); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// TestRecordKept has the record in a header that our own code and the originals
// read and write, at its largest.
func TestRecordKept(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	l := firmwareLog(t)
	for i := range 60 { // as many as a long log has
		l.Events = append(l.Events, madeEvent(i%8, fmt.Sprint(i)))
	}
	l = putLog(t, root, l.Events)
	tpm := startWith(t, l)
	store := sampleStore(t, "v257")
	h, err := luks2.Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	typed := secret.Copy([]byte("testpass"))
	defer typed.Wipe()
	key, err := volume.Open(t.Context(), h, luks2.AnySlot, typed)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Volume.Wipe()
	e := &Enroller{Open: opener(tpm), PCRs: pcrList(t, "0+1+2+3+4+5+7"), Root: root}
	made, err := volume.Enroll(t.Context(), h, key.Volume, e, nil, volume.EnrollOptions{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	made.Pass.Wipe()
	find := func(h *luks2.Header) luks2.Token {
		for _, tok := range h.Tokens() {
			if slices.Equal(tok.Keyslots, []int{made.Keyslot}) {
				return tok
			}
		}
		t.Fatal("the token is gone")
		return luks2.Token{}
	}
	tok := find(h)
	parsed, err := ParseToken(tok.JSON)
	if err != nil || parsed.Record == nil {
		t.Fatal(parsed, err)
	}
	if len(parsed.Record.PCRs) != 7 || len(parsed.Record.PCRs[2].Events) != len(l.Of(2)) || parsed.Record.Pending+parsed.Record.Superseded != "" {
		t.Errorf("%+v", parsed.Record)
	}
	changed := *parsed.Record
	changed.Superseded = strings.Repeat("ab", 16)
	text := withRecord(t, tok.JSON, changed.marshal())
	if err := h.SetToken(tok.ID, text); err != nil {
		t.Fatal(err)
	}
	if err := h.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	same := func(when string) {
		t.Helper()
		again, err := luks2.Open(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := ParseToken(find(again).JSON); err != nil || !reflect.DeepEqual(p.Record, &changed) {
			t.Errorf("%s: %v", when, err)
		}
	}
	same("read back")
	file := filepath.Join(t.TempDir(), "v.img")
	putFile(t, file, storeBytes(t, store))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"systemd-cryptenroll", file}, fmt.Sprintf("%4d tpm2", made.Keyslot)},
		{[]string{"cryptsetup", "luksDump", file}, "systemd-tpm2"},
		{[]string{"cryptsetup", "luksDump", "--dump-json-metadata", file}, `"superseded":"` + changed.Superseded},
		// A write of theirs, after which all is read again.
		{[]string{"cryptsetup", "config", "--label", "theirs", file}, ""},
		{[]string{"systemd-cryptenroll", "--wipe-slot=3", file}, "Wiped slot 3"},
	} {
		path, err := exec.LookPath(c.args[0])
		if err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Logf("%s is not installed", c.args[0])
			continue
		}
		out, err := exec.CommandContext(t.Context(), path, c.args[1:]...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%q: %v\n%s", c.args, err, out)
		}
		store = luks2.NewMemory(mustRead(t, file))
		same(strings.Join(c.args[:2], " "))
	}
}
