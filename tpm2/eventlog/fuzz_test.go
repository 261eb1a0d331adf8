package eventlog

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

// checkEvents wants every event to be fit for a terminal and for the PCRs.
func checkEvents(t *testing.T, events []Event) {
	t.Helper()
	for _, e := range events {
		s := e.String()
		if s == "" || len(s) > maxWords || !utf8.ValidString(s) {
			t.Errorf("%+v in words: %q", e, s)
		}
		for _, r := range s {
			if !unicode.IsPrint(r) {
				t.Errorf("%+v in words: %q", e, s)
			}
		}
		if e.extends() && (e.PCR < 0 || e.PCR > maxPCR) {
			t.Errorf("PCR %d", e.PCR)
		}
		for name, d := range e.Digests {
			if b, ok := bankByName(name); !ok || len(d) != b.size {
				t.Errorf("%d bytes in bank %s", len(d), name)
			}
		}
	}
}

func checkReplay(t *testing.T, l *Log) {
	t.Helper()
	for _, b := range banks() {
		for n, v := range l.Replay(b.name) {
			if len(v) != b.size || len(l.Of(n)) == 0 || n >= 17 && n <= 22 {
				t.Errorf("bank %s: PCR %d is %x", b.name, n, v)
			}
		}
	}
}

func FuzzFirmware(f *testing.F) {
	for _, name := range vectorNames {
		f.Add(vector(f, name+".bin"))
	}
	f.Add(agileLog(specEvent("sha256"), Event{Type: NoAction, Data: []byte(startupLocality + "\x03")}, measured(0, postCode2, "\x01a12345678123456781", "sha256")))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseFirmware(b)
		if err != nil {
			if l != nil {
				t.Error("a log comes with an error")
			}
			return
		}
		checkEvents(t, l.Events)
		checkReplay(t, l)
		l.SecureBoot()
		// The data of one event is as good as any other's.
		if len(l.Events) < 100 {
			for known := range sayers() {
				for _, e := range l.Events {
					e.Type = known
					checkEvents(t, []Event{e})
				}
			}
		}
	})
}

func FuzzSystemd(f *testing.F) {
	f.Add(vector(f, "ovmf-uki.measure.log"))
	f.Add([]byte("\x1e" + `{"pcr":1,"content_type":"cel","content":[1]}` + "\n\x1e" + `{"nv_index":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := ParseSystemd(b)
		if err != nil {
			if events != nil {
				t.Error("events come with an error")
			}
			return
		}
		checkEvents(t, events)
		checkReplay(t, &Log{Events: events})
	})
}
