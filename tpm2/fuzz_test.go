package tpm2

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2/tpm2test"
	"github.com/lockport/lockport/volume/volumetest"
)

func FuzzToken(f *testing.F) {
	for _, s := range sampleTokens(f) {
		f.Add([]byte(s.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		volumetest.Reread(t, text, ParseToken, func(t *Token) ([]byte, error) { return json.Marshal(t) })
	})
}

func FuzzBlob(f *testing.F) {
	for _, s := range sampleTokens(f) {
		tok, err := ParseToken(s.text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(tok.Blobs[0])
		f.Add(tok.SRK)
		f.Add(tok.PCRLockNV)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseBlob(b); err == nil && !bytes.Equal(s.marshal(), b) && !bytes.Equal(s.marshal(), bytes.TrimSuffix(b, []byte{0, 0})) {
			t.Errorf("blob %x becomes %x", b, s.marshal())
		}
		for _, kind := range []uint32{resourceKey, resourceNV} {
			if h, err := parseHandleRecord(b, kind); err == nil && !bytes.Equal(h.marshal(), b) {
				t.Errorf("record %x becomes %x", b, h.marshal())
			}
		}
		if _, p, err := recordedParent(b); err == nil {
			s, _, err := p.share(labelSession)
			if err != nil {
				t.Errorf("parent %x shares nothing: %v", b, err)
			}
			s.Wipe()
		}
	})
}

func FuzzSignatures(f *testing.F) {
	f.Add(vector(f, "tpm2-pcr-signature.json"))
	key, err := parseSigner(vector(f, "pcr-signing-pub.pem"))
	if err != nil {
		f.Fatal(err)
	}
	pol := digest(unhex(f, readVectors(f).Policies["PolicyPCR(11) = pol"]))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseSignatures(text)
		if err != nil {
			return
		}
		if sig, ok := s.find("sha256", []int{11}, key, pol, nil); ok && len(sig) != key.Size() {
			t.Errorf("signature of %d bytes", len(sig))
		}
	})
}

// FuzzAppend adds signatures to files of any kind: what was in there stays, and
// adding once more changes nothing.
func FuzzAppend(f *testing.F) {
	f.Add(vector(f, "tpm2-pcr-signature.json"))
	f.Add([]byte(`{"sha256":[{"pcrs":[7],"new":"<&>"}],"x":[null],"":[]}`))
	signer := vectorSigner(f)
	state := []PCRState{{"sha256", map[int][]byte{11: make([]byte, 32)}}}
	f.Fuzz(func(t *testing.T, existing []byte) {
		got, err := signer.Sign(state, nil, existing)
		if err != nil {
			return
		}
		again, err := signer.Sign(state, nil, got)
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("%v\n%s\n%s", err, got, again)
		}
		var before, after map[string][]any
		if err := json.Unmarshal(existing, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatal(err)
		}
		for bank, list := range before {
			if len(after[bank]) < len(list) {
				t.Errorf("%s\n%s", existing, got)
			}
		}
	})
}

func FuzzPCRLock(f *testing.F) {
	f.Add(vector(f, "pcrlock.json"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parsePCRLock(text)
		if err != nil {
			return
		}
		steps, _ := p.steps()
		for _, s := range steps {
			if len(s.pcrs) == 0 || len(s.branches) == 1 || len(s.branches) > maxBranches {
				t.Errorf("step %+v", s)
			}
		}
	})
}

func FuzzPCRs(f *testing.F) {
	f.Add("7+secure-boot-policy,11:sha256=00+23:SHA1")
	f.Fuzz(func(t *testing.T, list string) {
		pcrs, err := ParsePCRs(list)
		for _, p := range pcrs {
			if err != nil || p.Index < 0 || p.Index > maxPCR {
				t.Errorf("%+v, %v", p, err)
			}
		}
	})
}

// FuzzResponses lets a TPM answer with anything: nothing may come of it but an
// error, for want of the parent's private key.
func FuzzResponses(f *testing.F) {
	f.Add(0, []byte{})
	f.Add(0, append(put32(nil, 0x03000000), putSized(nil, make([]byte, 32))...))
	f.Add(1, putSized(nil, make([]byte, 32)))
	log := firmwareLog(f)
	key := secret.Copy([]byte("key"))
	f.Cleanup(key.Wipe)
	var tokens []*Token
	var texts []json.RawMessage
	for _, s := range sampleTokens(f) {
		tok, err := ParseToken(s.text)
		if err != nil {
			f.Fatal(err)
		}
		tokens, texts = append(tokens, tok), append(texts, s.text)
	}
	f.Fuzz(func(t *testing.T, which int, stream []byte) {
		tok := tokens[uint(which)%uint(len(tokens))]
		left := stream
		// Bodies of successful responses, each after its length; the header fits.
		dev := tpm2test.Func(func(command []byte) ([]byte, error) {
			if len(left) == 0 {
				return tpm2test.Refusal(0x101), nil
			}
			n := min(int(left[0]), len(left)-1)
			body := left[1 : 1+n]
			left = left[1+n:]
			if n == 3 { // or nothing but bytes
				return body, nil
			}
			return append(put32(put16(nil, tagSessions), uint32(headerSize+n), 0), body...), nil
		})
		k := keyFor(dev)
		pass, err := k.unlock(context.Background(), &conn{dev}, tok, &volumetest.Asker{Answers: []string{"1"}})
		if err == nil {
			t.Errorf("a secret out of nothing: token %d, %x", which, stream)
		}
		pass.Wipe()
		e := &Enroller{Open: opener(dev), PCRs: []PCR{{Index: 7}}}
		left = stream
		pass, _, err = e.Enroll(context.Background(), nil)
		if err == nil {
			t.Errorf("enrolled with nothing: %x", stream)
		}
		pass.Wipe()
		left = stream
		if r, err := k.Explain(context.Background(), texts[uint(which)%uint(len(texts))], ExplainOptions{Log: log}); (r == nil) != (err != nil) {
			t.Errorf("%+v comes with %v", r, err)
		}
		left = stream
		if s, err := Examine(context.Background(), dev); (s == nil) != (err != nil) || s != nil && (s.NVIndices > maxHandles || len(s.Model) > 16) {
			t.Errorf("%+v comes with %v", s, err)
		}
		left = stream
		root := t.TempDir()
		err = Measure(context.Background(), dev, Measurement{PCR: 15, Key: key, Root: root})
		if _, logged := os.Stat(filepath.Join(root, measureLog)); (err == nil) != (logged == nil) {
			t.Errorf("%v, but the log: %v", err, logged)
		}
	})
}

// FuzzRecord reads what a token may remember: what is read is written, within
// bounds, so that the same is read again.
func FuzzRecord(f *testing.F) {
	log := firmwareLog(f)
	values := log.Replay("sha256")
	for _, r := range []*Record{{}, {PCRs: recordPCRs(values, "sha256", log), Pending: strings.Repeat("0a", 16)},
		{PCRs: recordPCRs(map[int][]byte{2: values[2]}, "sha256", log), Superseded: strings.Repeat("b0", 16)},
		{PCRs: recordPCRs(log.Replay("sha1"), "sha1", nil)}} {
		f.Add([]byte(r.marshal()))
	}
	tok, err := ParseToken(sampleText(f, "v257", "3"))
	if err != nil {
		f.Fatal(err)
	}
	now := log.Replay("sha256")
	f.Fuzz(func(t *testing.T, text []byte) {
		r := readRecord(text)
		out := r.marshal()
		if len(out) > maxRecord {
			t.Fatalf("%d bytes", len(out))
		}
		if r == nil || out == nil {
			return
		}
		again := readRecord(out)
		if twice := again.marshal(); !bytes.Equal(twice, out) {
			t.Errorf("%s\n%s", out, twice)
		}
		// Nothing of it is believed that does not come to the policy.
		mine := *tok
		mine.Record = r
		x := &explainer{key: &Key{}, r: &Report{Token: &mine}, t: &mine, bank: bank{"sha256", algSHA256, 32}, o: ExplainOptions{Log: log}}
		if v := x.enrolled(map[int][]byte{7: now[7]}); v != nil && !x.comesTo(v) {
			t.Errorf("believed: %x", v)
		}
		for n, p := range r.PCRs {
			for _, words := range x.changes(n, now[n], p.Value) {
				if len(words) > 200 || strings.ContainsFunc(words, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("%q", words)
				}
			}
		}
	})
}

// TestAltered changes, cuts and lengthens each response of a real TPM: whatever
// comes of that, it ends, and is no panic.
func TestAltered(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	key := secret.Copy([]byte("key"))
	defer key.Wipe()
	explain := func(dev tpm2test.Device, text json.RawMessage) error {
		r, err := keyFor(dev).Explain(t.Context(), text, ExplainOptions{})
		if err != nil {
			return err
		}
		return errors.Join(r.Blocks...)
	}
	for _, c := range []struct {
		name string
		do   func(dev tpm2test.Device) error
	}{
		{"explain PCRs and PIN", func(dev tpm2test.Device) error {
			return explain(dev, sampleText(t, "v257", "6"))
		}},
		{"explain pcrlock", func(dev tpm2test.Device) error {
			return explain(dev, sampleText(t, "v257b", "2"))
		}},
		{"examine", func(dev tpm2test.Device) error { _, err := Examine(t.Context(), dev); return err }},
		{"measure", func(dev tpm2test.Device) error {
			return Measure(t.Context(), dev, Measurement{PCR: 23, Key: key})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tap := &tpm2test.Tap{Device: tpm}
			if err := c.do(tap); err != nil {
				t.Fatal(err)
			}
			failed := 0
			for n := range tap.Codes() {
				for change := range 14 {
					at := 0
					err := c.do(tpm2test.Func(func(command []byte) ([]byte, error) {
						response, err := tpm.Send(command)
						if at++; at-1 != n || err != nil {
							return response, err
						}
						body := response[headerSize:]
						switch {
						case change == 0:
							return nil, nil
						case change < 4: // shorter, with a header that fits
							response = response[:max(headerSize, len(response)-change)]
						case change == 4 || len(body) == 0:
							response = append(response, make([]byte, change)...)
						case change < 8: // the first bytes of what comes after the header
							body[min(change-5, len(body)-1)] ^= 0xff
						default:
							body[change*31%len(body)] ^= 1 << (change % 8)
						}
						copy(response[2:], put32(nil, uint32(len(response))))
						return response, nil
					}))
					if err != nil {
						failed++
					}
					flushAll(t, tpm)
				}
			}
			if failed == 0 {
				t.Error("nothing was noticed at all")
			}
			t.Logf("%d commands, %d errors", len(tap.Codes()), failed)
		})
	}
}
