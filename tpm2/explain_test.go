package tpm2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/tpm2/eventlog"
	"github.com/lockport/lockport/tpm2/tpm2test"
)

// explained explains a token, and sees to it that nothing came of that but the
// report: nothing is left in the TPM, and no guess was counted.
func explained(t *testing.T, tpm *tpm2test.Software, k *Key, text []byte, o ExplainOptions) *Report {
	t.Helper()
	before := lockoutCounter(t, tpm)
	r, err := k.Explain(t.Context(), text, o)
	if err != nil {
		t.Fatal(err)
	}
	if after := lockoutCounter(t, tpm); after != before {
		t.Errorf("the TPM counts %d failures, was %d", after, before)
	}
	if left := tpm.Loaded(); len(left) > 0 {
		t.Errorf("%x are left in the TPM", left)
	}
	return r
}

// pcrsOf says how the bound PCRs stand, "7=same".
func pcrsOf(r *Report) string {
	var all []string
	for _, p := range r.PCRs {
		all = append(all, fmt.Sprintf("%d=%s", p.Index, map[Match]string{Unknown: "unknown", Same: "same", Differs: "differs"}[p.Match]))
	}
	return strings.Join(all, " ")
}

// onlyBlock tells whether this and nothing else is in the way.
func onlyBlock(r *Report, want error) bool {
	if want == nil {
		return r.Unlocks()
	}
	return len(r.Blocks) == 1 && errors.Is(r.Blocks[0], want)
}

// measuredLog is the log of events of text that [tpm2test.Software.Event] measures.
func measuredLog(events ...any) *eventlog.Log {
	l := &eventlog.Log{Banks: []string{"sha256"}}
	for i := 0; i < len(events); i += 2 {
		sum := sha256.Sum256([]byte(events[i+1].(string)))
		l.Events = append(l.Events, eventlog.Event{PCR: events[i].(int), Type: 5, Data: []byte(events[i+1].(string)),
			Digests: map[string][]byte{"sha256": sum[:]}})
	}
	return l
}

// sampleTPM starts the TPM of a sample volume in the state of its enrolment, with
// the log of what came to that, but for PCR 11.
func sampleTPM(t *testing.T, volume string) (*tpm2test.Software, []any) {
	if volume == "v252" {
		return startA(t), []any{0, "init0", 7, "init7"}
	}
	return startB(t), []any{0, "initB0", 4, "initB4", 7, "initB7"}
}

// TestExplainSamples explains what the originals enrolled, in the state of then.
func TestExplainSamples(t *testing.T) {
	t.Parallel()
	tpms := map[string]*tpm2test.Software{"v252": startA(t), "v257": startB(t)}
	tpms["v257b"] = tpms["v257"]
	for _, s := range sampleTokens(t) {
		name, tpm := s.volume+" slot "+s.slot, tpms[s.volume]
		r := explained(t, tpm, keyFor(tpm), s.text, ExplainOptions{})
		if !r.Unlocks() || r.stale || strings.Contains(pcrsOf(r), "differs") || strings.Contains(pcrsOf(r), "unknown") || len(r.PCRs) != len(r.Token.PCRs) {
			t.Errorf("%s: %s, %v", name, pcrsOf(r), r.Blocks)
		}
		now, err := ReadPCRs(t.Context(), tpm, "sha256", []int{0, 1, 2, 3, 7, 11})
		if err != nil {
			t.Fatal(err)
		}
		var given []PCR
		for _, p := range r.PCRs {
			if p.Bank != "sha256" || !bytes.Equal(p.Now, now[p.Index]) || !bytes.Equal(p.Enrolled, p.Now) || p.Changes != nil {
				t.Errorf("%s: %+v", name, p)
			}
			given = append(given, PCR{p.Index, "sha256", now[p.Index]})
		}
		signed := r.Token.SignedPCRs != nil
		if (r.Signed != nil) != signed || signed && (!r.Signed.Found || r.Signed.Key != readVectors(t).Signer.PKFP ||
			r.Signed.Policy != readVectors(t).Policies["PolicyPCR(11) = pol"] || !bytes.Equal(r.Signed.PCRs[0].Now, now[11])) {
			t.Errorf("%s: %+v", name, r.Signed)
		}
		if (r.Lock != nil) != r.Token.PCRLock || r.Lock != nil && (r.Lock.File != filepath.Join(vectorDir, "pcrlock.json") || len(r.Lock.PCRs) != 3 ||
			slices.ContainsFunc(r.Lock.PCRs, func(p LockedPCR) bool { return !p.Met || p.Allowed != 1 || !bytes.Equal(p.Now, now[p.Index]) })) {
			t.Errorf("%s: %+v", name, r.Lock)
		}
		if (r.Lockout != nil) != r.Token.PIN || r.Lockout != nil && (r.Lockout.Locked || r.Lockout.Most == 0) {
			t.Errorf("%s: %+v", name, r.Lockout)
		}
		if r = explained(t, tpm, keyFor(tpm), s.text, ExplainOptions{Values: given}); !r.Unlocks() || strings.Contains(pcrsOf(r), "differs") {
			t.Errorf("%s, given values: %s, %v", name, pcrsOf(r), r.Blocks)
		}
		for i := range given {
			other := slices.Clone(given)
			other[i].Value = bytes.Repeat([]byte{7}, 32)
			r := explained(t, tpm, keyFor(tpm), s.text, ExplainOptions{Values: other})
			if !r.stale || !r.blockedBy(ErrPolicy) || !bytes.Equal(r.PCRs[i].Now, other[i].Value) {
				t.Errorf("%s, another value of PCR %d: %s, %v", name, other[i].Index, pcrsOf(r), r.Blocks)
			}
		}
	}
}

// TestExplainChanged extends each PCR that a sample is bound to in some way.
func TestExplainChanged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		volume string
		pcr    int
	}{{"v252", 0}, {"v252", 7}, {"v252", 11}, {"v257", 0}, {"v257", 7}, {"v257", 11}, {"v257", 1}, {"v257", 3}} {
		tpm, events := sampleTPM(t, c.volume)
		tpm.Event(c.pcr, "other")
		log := measuredLog(append(events, c.pcr, "other")...)
		for _, s := range sampleTokens(t) {
			if !strings.HasPrefix(s.volume, c.volume) {
				continue
			}
			name := fmt.Sprintf("%s slot %s, PCR %d", s.volume, s.slot, c.pcr)
			tok := findSample(t, s.volume, s.slot)
			r := explained(t, tpm, keyFor(tpm), s.text, ExplainOptions{Log: log})
			var want error
			literal := slices.Contains(tok.PCRs, c.pcr)
			locked := tok.PCRLock && c.pcr >= 1 && c.pcr <= 3
			switch {
			case literal, locked:
				want = ErrPolicy
			case slices.Contains(tok.SignedPCRs, c.pcr):
				want = ErrNoSignature
			}
			if !onlyBlock(r, want) || r.stale != literal || want != nil && !strings.Contains(r.Blocks[0].Error(), fmt.Sprintf("PCR %d", c.pcr)) {
				t.Errorf("%s: %v, want %v", name, r.Blocks, want)
			}
			for _, p := range r.PCRs {
				match, changes := Same, 0
				if p.Index == c.pcr {
					match, changes = Differs, 1
				}
				if p.Match != match || len(p.Changes) != changes || bytes.Equal(p.Enrolled, p.Now) != (match == Same) || len(p.Enrolled) != 32 {
					t.Errorf("%s: %+v", name, p)
				}
				if changes > 0 && !strings.HasPrefix(p.Changes[0], "event 2 is new: action: other") {
					t.Errorf("%s: %q", name, p.Changes)
				}
			}
			if r.Lock != nil {
				for _, p := range r.Lock.PCRs {
					if p.Met == (p.Index == c.pcr) {
						t.Errorf("%s: %+v", name, p)
					}
				}
			}
			if r.Signed != nil && r.Signed.Found == (c.pcr == 11) {
				t.Errorf("%s: %+v", name, r.Signed)
			}
			// Without a log, which of two PCRs it was is not known.
			r = explained(t, tpm, keyFor(tpm), s.text, ExplainOptions{})
			if literal && len(tok.PCRs) == 2 && (pcrsOf(r) != "0=unknown 7=unknown" || !strings.HasSuffix(r.Blocks[0].Error(), "PCR 0+7")) {
				t.Errorf("%s, no log: %s, %v", name, pcrsOf(r), r.Blocks)
			}
			if literal && len(tok.PCRs) == 1 && pcrsOf(r) != fmt.Sprintf("%d=differs", c.pcr) {
				t.Errorf("%s, no log: %s, %v", name, pcrsOf(r), r.Blocks)
			}
		}
	}
}

// TestExplainElsewhere explains the samples to another TPM in the same state, and
// to none.
func TestExplainElsewhere(t *testing.T) {
	t.Parallel()
	other := tpm2test.Start(t, "")
	pass, _, err := (&Enroller{Open: opener(other), Unbound: true}).Enroll(t.Context(), nil) // which has a storage key of its own
	pass.Wipe()
	if err != nil {
		t.Fatal(err)
	}
	bare := tpm2test.Start(t, "")
	for i, s := range sampleTokens(t) {
		name := s.volume + " slot " + s.slot
		if s.volume == "v252" && i == 0 {
			for _, tpm := range []*tpm2test.Software{other, bare} {
				tpm.Event(0, "init0")
				tpm.Event(7, "init7")
				tpm.Boot(uki(), "enter-initrd")
			}
		}
		for _, tpm := range []*tpm2test.Software{other, bare} {
			r := explained(t, tpm, keyFor(tpm), s.text, ExplainOptions{})
			if r.Unlocks() || !r.blockedBy(ErrOtherTPM) || s.volume == "v252" && !onlyBlock(r, ErrOtherTPM) {
				t.Errorf("%s: %v", name, r.Blocks)
			}
		}
		k := keyFor(other)
		k.Open = func(context.Context) (Device, error) { return nil, fmt.Errorf("%w: here", ErrNoTPM) }
		r, err := k.Explain(t.Context(), s.text, ExplainOptions{})
		if err != nil || !onlyBlock(r, ErrNoTPM) || len(r.PCRs) != len(r.Token.PCRs) || r.Signed != nil || r.Lock != nil || r.Lockout != nil {
			t.Errorf("%s without a TPM: %+v, %v", name, r, err)
		}
		for _, p := range r.PCRs {
			if p.Match != Unknown || p.Now != nil || p.Enrolled != nil {
				t.Errorf("%s without a TPM: %+v", name, p)
			}
		}
	}
	if r, err := keyFor(other).Explain(t.Context(), []byte(`{"type":"systemd-tpm2"}`), ExplainOptions{}); err == nil || r != nil {
		t.Errorf("no token: %+v, %v", r, err)
	}
	broken := tpm2test.Func(func([]byte) ([]byte, error) { return nil, errors.New("cable") })
	if r, err := keyFor(broken).Explain(t.Context(), sampleText(t, "v257", "3"), ExplainOptions{}); err == nil || r != nil {
		t.Errorf("a TPM that does not speak: %+v, %v", r, err)
	}
}

// TestExplainForged has a record that nothing bears out: without a TPM it is not
// shown either.
func TestExplainForged(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	root := t.TempDir()
	pass, text, err := (&Enroller{Open: opener(tpm), Root: root, PCRs: pcrList(t, "16")}).Enroll(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	pass.Wipe()
	k := keyFor(tpm)
	k.Open = func(context.Context) (Device, error) { return nil, ErrNoTPM }
	r, err := k.Explain(t.Context(), text, ExplainOptions{})
	if err != nil || len(r.PCRs) != 1 || len(r.PCRs[0].Enrolled) != 32 {
		t.Errorf("what was recorded: %+v, %v", r, err)
	}
	forged := (&Record{PCRs: map[int]RecordedPCR{16: {Value: bytes.Repeat([]byte{1}, 32)}}}).marshal()
	if text, err = luks2.SetMember(text, recordMember, forged); err != nil {
		t.Fatal(err)
	}
	r, err = k.Explain(t.Context(), text, ExplainOptions{})
	if err != nil || len(r.PCRs) != 1 || r.PCRs[0].Enrolled != nil {
		t.Errorf("what was forged: %+v, %v", r, err)
	}
}

// TestExplainNoKey has tokens whose parent is at the handle of something else.
func TestExplainNoKey(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	pass, text, err := (&Enroller{Open: opener(tpm), Unbound: true}).Enroll(t.Context(), nil)
	pass.Wipe()
	if err != nil {
		t.Fatal(err)
	}
	token, err := ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	at := func(handle uint32) []byte {
		text, err := luks2.SetMember(text, "tpm2_srk", append(put32(nil, handle), token.SRK[4:]...))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, handle := range []uint32{0x80000001, 0x81000009} {
		if r := explained(t, tpm, keyFor(tpm), at(handle), ExplainOptions{}); !onlyBlock(r, ErrOtherTPM) {
			t.Errorf("%#x: %v", handle, r.Blocks)
		}
		if _, err := keyFor(tpm).Unlock(t.Context(), at(handle), nil); !errors.Is(err, ErrOtherTPM) {
			t.Errorf("%#x: %v", handle, err)
		}
	}
	for _, handle := range []uint32{handleOwner, 0x01000001, 0x03000000, 0} {
		if _, err := ParseToken(at(handle)); !errors.Is(err, luks2.ErrUnsupported) {
			t.Errorf("%#x: %v", handle, err)
		}
	}
}

// TestExplainBank has a TPM without the bank that tokens name.
func TestExplainBank(t *testing.T) {
	t.Parallel()
	dev := withoutBank(startB(t))
	for _, slot := range []string{"3", "5"} {
		r, err := keyFor(dev).Explain(t.Context(), sampleText(t, "v257", slot), ExplainOptions{})
		if err != nil || !onlyBlock(r, ErrBank) || strings.Contains(pcrsOf(r), "same") || strings.Contains(pcrsOf(r), "differs") {
			t.Errorf("slot %s: %+v, %v", slot, r, err)
		}
	}
}

// withoutBank is the TPM without PCRs of SHA-256.
func withoutBank(tpm *tpm2test.Software) Device {
	none := append(put16(put32(nil, 1), algSHA256), 3, 0, 0, 0)
	banks := append(put16(append(put16(put32(nil, 2), algSHA256), 3, 0, 0, 0), algSHA1), 3, 0xff, 0xff, 0xff)
	return tpm2test.Func(func(command []byte) ([]byte, error) {
		var body []byte
		switch {
		case tpm2test.Code(command) == ccGetCapability && command[13] == capPCRs:
			body = append(put32([]byte{0}, capPCRs), banks...)
		case tpm2test.Code(command) == ccPCRRead && bytes.Equal(command[14:16], put16(nil, algSHA256)):
			body = put32(append(put32(nil, 1), none...), 0)
		default:
			return tpm.Send(command)
		}
		return append(put32(put16(nil, tagNoSessions), uint32(headerSize+len(body)), 0), body...), nil
	})
}

// TestExplainPCRLock goes through what can be wrong with a pcrlock policy.
func TestExplainPCRLock(t *testing.T) {
	t.Parallel()
	const index = 0x01bc9700 // that of writePCRLock
	pcr := readVectors(t).PCRs["B"]
	zero, one := strings.Repeat("00", 32), strings.Repeat("11", 32)
	choices := []any{
		map[string]any{"pcr": 1, "values": []string{zero}},
		map[string]any{"pcr": 4, "values": []string{one, pcr["4"].SHA256}},
	}
	vectorFile := filepath.Join(vectorDir, "pcrlock.json")
	for _, c := range []struct {
		name   string
		change func(t *testing.T, tpm *tpm2test.Software, k *Key)
		want   string // "" for nothing in the way
		file   bool   // it is known which policy belongs to the token
		unmet  []int
	}{
		{"as it was", func(*testing.T, *tpm2test.Software, *Key) {}, "", true, nil},
		{"the other permitted value is no event", func(_ *testing.T, tpm *tpm2test.Software, _ *Key) { tpm.Event(2, "x") }, "", true, nil},
		{"PCR 4 changed", func(_ *testing.T, tpm *tpm2test.Software, _ *Key) { tpm.Event(4, "x") }, "pcrlock permits other values of PCR 4", true, []int{4}},
		{"both changed", func(_ *testing.T, tpm *tpm2test.Software, _ *Key) { tpm.Event(4, "x"); tpm.Event(1, "x") },
			"pcrlock permits other values of PCR 1+4", true, []int{1, 4}},
		{"file of another enrolment", func(_ *testing.T, _ *tpm2test.Software, k *Key) { k.PCRLocks = []string{vectorFile} },
			"it belongs to another enrolment", false, nil},
		{"no file", func(_ *testing.T, _ *tpm2test.Software, k *Key) { k.PCRLocks = nil }, "needs a pcrlock policy", false, nil},
		{"no NV index", func(t *testing.T, tpm *tpm2test.Software, _ *Key) { undefineNV(t, tpm, index) }, "has no NV index 0x1bc9700", true, nil},
		{"another NV index", func(t *testing.T, tpm *tpm2test.Software, _ *Key) {
			undefineNV(t, tpm, index)
			defineNV(t, tpm, index, 1<<1|1<<17|1<<2)
		}, "is another than that of the pcrlock policy", true, nil},
		{"NV index never written", func(t *testing.T, tpm *tpm2test.Software, _ *Key) {
			undefineNV(t, tpm, index)
			defineNV(t, tpm, index, 1<<1|1<<17)
		}, "is another than that of the pcrlock policy", true, nil},
		{"NV index with another digest", func(t *testing.T, tpm *tpm2test.Software, _ *Key) {
			writeNV(t, tpm, index, put16(nil, algSHA256), make([]byte, 32))
		}, "vouches for another pcrlock policy", true, nil},
		{"NV index with rubbish", func(t *testing.T, tpm *tpm2test.Software, _ *Key) {
			writeNV(t, tpm, index, put16(nil, algSHA1), make([]byte, 32))
		}, "holds a digest of algorithm 0x4", true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tpm := startB(t)
			file := filepath.Join(t.TempDir(), "pcrlock.json")
			writePCRLock(t, tpm, file, choices)
			e := &Enroller{Open: opener(tpm), PCRLock: file, PCRs: pcrList(t, "7")}
			pass, text, err := e.Enroll(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			pass.Wipe()
			tap := &tpm2test.Tap{Device: tpm}
			k := keyFor(tap) // guarded: what is read from NV has to be encrypted
			k.PCRLocks = []string{vectorFile, file}
			c.change(t, tpm, k)
			r := explained(t, tpm, k, text, ExplainOptions{})
			if c.want == "" && !r.Unlocks() || c.want != "" && (len(r.Blocks) != 1 || !strings.Contains(r.Blocks[0].Error(), c.want)) {
				t.Errorf("%v, want %q", r.Blocks, c.want)
			}
			if (r.Lock.File == file) != c.file || r.stale || pcrsOf(r) != "7=same" {
				t.Errorf("%+v, %s", r.Lock, pcrsOf(r))
			}
			var unmet []int
			for _, p := range r.Lock.PCRs {
				if !p.Met {
					unmet = append(unmet, p.Index)
				}
			}
			if !slices.Equal(unmet, c.unmet) || c.file && len(r.Lock.PCRs) != 2 {
				t.Errorf("%+v", r.Lock)
			}
			lock, err := parsePCRLock(mustRead(t, file))
			if err != nil {
				t.Fatal(err)
			}
			if _, super := lock.steps(); bytes.Contains(tap.Bytes(), super[:]) {
				t.Error("what the NV index holds crossed the bus in the clear")
			}
			// An unlock agrees.
			got, err := k.Unlock(t.Context(), text, nil)
			got.Wipe()
			if (err == nil) != (c.want == "") {
				t.Errorf("explained %v, but unlocking: %v", r.Blocks, err)
			}
		})
	}
}

// TestExplainPCRLockValues explains a pcrlock policy with values of another boot.
func TestExplainPCRLockValues(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	text := sampleText(t, "v257b", "1")
	r := explained(t, tpm, keyFor(tpm), text, ExplainOptions{Values: []PCR{{2, "sha256", bytes.Repeat([]byte{1}, 32)}, {3, "sha1", make([]byte, 20)}}})
	if !onlyBlock(r, ErrPolicy) || !strings.HasSuffix(r.Blocks[0].Error(), "PCR 2") || r.Lock.PCRs[1].Met || !r.Lock.PCRs[2].Met {
		t.Errorf("%v, %+v", r.Blocks, r.Lock)
	}
	tpm.Event(2, "x")
	if r = explained(t, tpm, keyFor(tpm), text, ExplainOptions{Values: []PCR{{2, "sha256", make([]byte, 32)}}}); !r.Unlocks() {
		t.Errorf("the value of then: %v", r.Blocks)
	}
}

func mustRead(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onNV runs a command on an NV index as the owner.
func onNV(t *testing.T, tpm *tpm2test.Software, code uint32, params []byte, handles ...uint32) {
	t.Helper()
	k := call{code: code, auths: emptyAuth(), params: params}
	for _, h := range handles {
		k.handles = append(k.handles, fixed(h))
	}
	if _, _, err := (&conn{tpm}).run(t.Context(), k); err != nil {
		t.Fatal(err)
	}
}

func undefineNV(t *testing.T, tpm *tpm2test.Software, index uint32) {
	t.Helper()
	onNV(t, tpm, 0x122, nil, handleOwner, index)
}

func defineNV(t *testing.T, tpm *tpm2test.Software, index, attrs uint32) {
	t.Helper()
	onNV(t, tpm, 0x12a, putSized(put16(nil, 0), put16(put16(put32(put16(put32(nil, index), algSHA256), attrs), 0), 34)), handleOwner)
}

func writeNV(t *testing.T, tpm *tpm2test.Software, index uint32, data ...[]byte) {
	t.Helper()
	onNV(t, tpm, 0x137, put16(putSized(nil, data...), 0), handleOwner, index)
}

// TestExplainLegacyOther tells another TPM from another state where the token
// records no parent.
func TestExplainLegacyOther(t *testing.T) {
	t.Parallel()
	text := sampleText(t, "v252", "4") // PCRs, no parent recorded
	if tok, err := ParseToken(text); err != nil || tok.SRK != nil || len(tok.PCRs) == 0 {
		t.Fatalf("%+v, %v", tok, err)
	}
	own, other := startA(t), tpm2test.Start(t, "")
	own.Event(7, "another state")
	for _, c := range []struct {
		name string
		tpm  *tpm2test.Software
		want bool // another TPM
	}{{"its own", own, false}, {"another", other, true}} {
		r, err := keyFor(c.tpm).Explain(t.Context(), text, ExplainOptions{})
		if err != nil || r.blockedBy(ErrOtherTPM) != c.want || !r.blockedBy(ErrPolicy) {
			t.Errorf("%s: %v, %+v", c.name, err, r)
		}
		if left := c.tpm.Loaded(); len(left) > 0 {
			t.Errorf("%s: %x are left in the TPM", c.name, left)
		}
	}
}
