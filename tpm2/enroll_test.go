package tpm2

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2/tpm2test"
	"github.com/lockport/lockport/volume"
	"github.com/lockport/lockport/volume/volumetest"
)

func pcrList(t testing.TB, list string) []PCR {
	t.Helper()
	p, err := ParsePCRs(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestEnroll enrols with each policy, compares what is written with what 257
// writes, and unlocks again.
func TestEnroll(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	signer := vector(t, "pcr-signing-pub.pem")
	signatures := []string{filepath.Join(vectorDir, "tpm2-pcr-signature.json")}
	lock := filepath.Join(vectorDir, "pcrlock.json")
	pcr7 := readVectors(t).PCRs["B"]["7"].SHA256
	for _, c := range []struct {
		name string
		e    Enroller
		pin  string
		like string // slot of v257 or v257b with the same policy
	}{
		{"PCR 7", Enroller{PCRs: pcrList(t, "7")}, "", "v257 3"},
		{"PCR 7 and PIN", Enroller{PCRs: pcrList(t, "secure-boot-policy"), PIN: true}, "246810", "v257 4"},
		{"signed", Enroller{PublicKey: signer, SignedPCRs: []int{11}, Signatures: signatures}, "", "v257 5"},
		{"signed without a signature", Enroller{PublicKey: signer, SignedPCRs: []int{11}}, "", "v257 5"},
		{"signed, PCRs and PIN", Enroller{PCRs: pcrList(t, "0+7"), PublicKey: signer, SignedPCRs: []int{11}, PIN: true}, "1357", "v257 6"},
		{"nothing", Enroller{Unbound: true}, "", "v257 7"},
		{"pcrlock", Enroller{PCRLock: lock}, "", "v257b 1"},
		{"pcrlock, PCR and PIN", Enroller{PCRLock: lock, PCRs: pcrList(t, "7"), PIN: true}, "9999", "v257b 2"},
		{"signed and pcrlock", Enroller{PCRLock: lock, PublicKey: signer, SignedPCRs: []int{11}}, "", "v257b 3"},
		{"given value", Enroller{PCRs: pcrList(t, "7:sha256="+pcr7)}, "", "v257 3"},
		{"offline", Enroller{ParentPublic: vector(t, "srk-B.tpm2b_public"), PCRs: pcrList(t, "7:sha256="+pcr7)}, "", "v257b 4"},
		{"offline with PIN", Enroller{ParentPublic: vector(t, "srk-B.tpm2b_public"), PCRs: pcrList(t, "7:sha256="+pcr7), PIN: true}, "1", "v257 4"},
	} {
		tap := &tpm2test.Tap{Device: tpm}
		c.e.Open = opener(tap)
		ask := &volumetest.Asker{Answers: []string{c.pin}}
		pass, text, err := c.e.Enroll(t.Context(), ask)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		raw, _ := base64.StdEncoding.DecodeString(string(pass.Reveal()))
		got, err := keyFor(tap).Unlock(t.Context(), text, &volumetest.Asker{Answers: []string{c.pin}})
		if err != nil || !got.Equal(pass) {
			t.Errorf("%s: unlocking: %v", c.name, err)
		}
		got.Wipe()
		if all := tap.Bytes(); bytes.Contains(all, raw[:16]) || bytes.Contains(all, raw[16:32]) {
			t.Errorf("%s: the secret crossed the bus", c.name)
		}
		compareTokens(t, c.name, text, c.like)
		if c.e.PIN && (len(ask.Asked) != 1 || ask.Asked[0].Env != "NEWPIN" || ask.Asked[0].Confirm == "") {
			t.Errorf("%s: asked %+v", c.name, ask.Asked)
		}
		if left := tpm.Loaded(); len(left) > 0 {
			t.Errorf("%s: %x are left in the TPM", c.name, left)
		}
		pass.Wipe()
	}
}

// compareTokens compares all but what is random.
func compareTokens(t *testing.T, name string, text json.RawMessage, like string) {
	t.Helper()
	volume, slot, _ := strings.Cut(like, " ")
	got, want := members(t, text), members(t, sampleText(t, volume, slot))
	if !SamePolicy(text, sampleText(t, volume, slot)) {
		t.Errorf("%s: another policy than slot %s", name, like)
	}
	for _, random := range []string{"tpm2-blob", "tpm2_salt"} {
		if (got[random] == "") != (want[random] == "") || len(got[random]) != len(want[random]) && !strings.HasPrefix(name, "offline") {
			t.Errorf("%s: member %s is %s", name, random, got[random])
		}
		delete(got, random)
		delete(want, random)
	}
	// Attributes, noDA above all: offset 4 of the public area.
	ours, theirs := publicArea(t, text), publicArea(t, sampleText(t, volume, slot))
	if attrs := theirs[4:8]; !bytes.Equal(ours[4:8], attrs) && name != "offline with PIN" {
		t.Errorf("%s: attributes %x, want %x", name, ours[4:8], attrs)
	}
	if !equalMembers(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", name, got, want)
	}
}

func publicArea(t *testing.T, text json.RawMessage) []byte {
	t.Helper()
	tok, err := ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := parseBlob(tok.Blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	return blob.public
}

// TestNewTPM enrols with a TPM that nobody has used, and again.
func TestNewTPM(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	e := Enroller{Open: opener(tpm), PCRs: pcrList(t, "7")}
	pass, text, err := e.Enroll(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	pass.Wipe()
	srk, err := (&conn{tpm}).readPublic(t.Context(), srkHandle)
	if err != nil || srk[1] != algECC || !bytes.Equal(srk[4:8], []byte{0, 3, 4, 0x72}) {
		t.Errorf("storage key %x: %v", srk, err)
	}
	e.Existing = []luks2.Token{{Type: TokenType, Keyslots: []int{4}, JSON: text}}
	_, _, err = e.Enroll(t.Context(), nil)
	var already *AlreadyEnrolled
	if !errors.As(err, &already) || already.Keyslot != 4 {
		t.Errorf("once more: %v", err)
	}
	tpm.Event(7, "other")
	pass, _, err = e.Enroll(t.Context(), nil)
	if err != nil {
		t.Errorf("after a change: %v", err)
	}
	pass.Wipe()
	if left := tpm.Loaded(); len(left) > 0 {
		t.Errorf("%x are left in the TPM", left)
	}
}

// TestRSA goes through the same with an RSA storage key, at a handle of its own.
func TestRSA(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	c := &conn{tpm}
	h, p, err := c.createPrimary(t.Context(), template(algRSA, attrsSRK))
	if err != nil {
		t.Fatal(err)
	}
	const handle = 0x81000055
	_, _, err = c.run(t.Context(), call{code: ccEvictControl, handles: []object{fixed(handleOwner), fixed(h)}, auths: emptyAuth(),
		params: put32(nil, handle)})
	if err := errors.Join(err, c.flush(t.Context(), h)); err != nil {
		t.Fatal(err)
	}
	for _, e := range []Enroller{
		{PCRs: pcrList(t, "7"), ParentHandle: handle, PIN: true},
		{PCRs: pcrList(t, "7:sha256="+strings.Repeat("00", 32)), ParentHandle: handle, ParentPublic: putSized(nil, p.raw)},
	} {
		e.Open = opener(tpm)
		pass, text, err := e.Enroll(t.Context(), &volumetest.Asker{Answers: []string{"pin"}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := keyFor(tpm).Unlock(t.Context(), text, &volumetest.Asker{Answers: []string{"pin"}})
		if err != nil || !got.Equal(pass) || !bytes.Contains(text, []byte(`"tpm2-primary-alg":"rsa"`)) {
			t.Errorf("%v", err)
		}
		got.Wipe()
		pass.Wipe()
	}
}

func TestEnrollRefused(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	other := tpm2test.Start(t, "")
	lock := filepath.Join(vectorDir, "pcrlock.json")
	zero := strings.Repeat("00", 32)
	for _, c := range []struct {
		name string
		e    Enroller
		want string
	}{
		{"nothing to bind to", Enroller{}, ErrUnbound.Error()},
		{"two banks", Enroller{PCRs: pcrList(t, "7:sha1+8:sha256")}, "two banks"},
		{"two values", Enroller{PCRs: pcrList(t, "7:sha256="+zero+"+7:sha256="+strings.Repeat("11", 32))}, "two values"},
		{"no key", Enroller{PublicKey: []byte("x"), SignedPCRs: []int{11}}, "no public key in PEM form"},
		{"offline without a value", Enroller{ParentPublic: vector(t, "srk-B.tpm2b_public"), PCRs: pcrList(t, "7")}, "PCR 7 needs a value"},
		{"offline with rubbish", Enroller{ParentPublic: []byte("xyz"), PIN: true}, "public part of the storage key"},
		{"offline with both", Enroller{ParentPublic: vector(t, "srk-B.tpm2b_public"), PublicKey: vector(t, "pcr-signing-pub.pem"),
			SignedPCRs: []int{11}, PCRLock: lock}, "needs the TPM at hand"},
		{"pcrlock of another TPM", Enroller{PCRLock: lock, Open: opener(other)}, ErrOtherTPM.Error()},
		{"no parent at the handle", Enroller{ParentHandle: 0x81000077, PIN: true}, "parent key 0x81000077"},
		{"empty PIN", Enroller{PIN: true}, ErrPIN.Error()},
		{"signature for another state", Enroller{PublicKey: vector(t, "pcr-signing-pub.pem"), SignedPCRs: []int{12},
			Signatures: []string{filepath.Join(vectorDir, "tpm2-pcr-signature.json")}}, ErrNoSignature.Error()},
	} {
		if c.e.Open == nil {
			c.e.Open = opener(tpm)
		}
		pass, text, err := c.e.Enroll(t.Context(), &volumetest.Asker{Answers: slices.Repeat([]string{""}, 9)})
		if err == nil || !strings.Contains(err.Error(), c.want) || pass != nil || text != nil {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		pass.Wipe()
	}
}

// TestStorageKey has the making of the storage key go wrong.
func TestStorageKey(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	for _, c := range []struct {
		name     string
		code, rc uint32
		want     string
		err      error
	}{
		{"no room to keep it", ccEvictControl, 0x14b, "no room in the TPM's NV memory", ErrFull},
		{"owner password", ccCreatePrimary, 0x9a2, "making the TPM's storage key: ", ErrOwnerAuth},
		{"no elliptic curves", ccCreatePrimary, 0x2c3, "", nil},
	} {
		refused := false
		dev := tpm2test.Func(func(command []byte) ([]byte, error) {
			if tpm2test.Code(command) == c.code && !refused {
				refused = true
				return tpm2test.Refusal(c.rc), nil
			}
			return tpm.Send(command)
		})
		pass, text, err := (&Enroller{Open: opener(dev), PCRs: pcrList(t, "7")}).Enroll(t.Context(), nil)
		if !errors.Is(err, c.err) || c.want != "" && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && !bytes.Contains(text, []byte(`"tpm2-primary-alg":"rsa"`)) {
			t.Errorf("%s: %s", c.name, text)
		}
		pass.Wipe()
		if left := tpm.Loaded(); len(left) > 0 {
			t.Errorf("%s: %x are left in the TPM", c.name, left)
		}
	}
}

// TestBank has a TPM that keeps no PCRs in the bank in question.
func TestBank(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	tpm.Event(7, "other")
	none := append(put16(put32(nil, 1), algSHA256), 3, 0, 0, 0)
	answers := map[uint32][]byte{
		ccGetCapability: append(put32([]byte{0}, capPCRs), none...),
		ccPCRRead:       put32(append(put32(nil, 1), none...), 0),
	}
	dev := tpm2test.Func(func(command []byte) ([]byte, error) {
		if body, ok := answers[tpm2test.Code(command)]; ok {
			return append(put32(put16(nil, tagNoSessions), uint32(headerSize+len(body)), 0), body...), nil
		}
		return tpm.Send(command)
	})
	if _, err := keyFor(dev).Unlock(t.Context(), sampleText(t, "v257", "3"), nil); !errors.Is(err, ErrBank) {
		t.Errorf("unlocking: %v", err)
	}
	for _, list := range []string{"7", "7:sha256"} {
		e := &Enroller{Open: opener(dev), PCRs: pcrList(t, list)}
		if _, _, err := e.Enroll(t.Context(), nil); !errors.Is(err, ErrBank) {
			t.Errorf("enrolling with %s: %v", list, err)
		}
	}
}

// TestPINWithZero has PINs whose value for the TPM ends in a zero byte, and has
// one inside: not to cut the one, or to cut the other, locks the owner out.
func TestPINWithZero(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	c := &conn{tpm}
	handle, p, err := c.storageKey(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	key := secret.Random(digestSize)
	defer key.Wipe()
	policy := digest{}.policyAuthValue()
	for _, value := range [][]byte{{1, 2, 0, 0}, {1, 0, 2}, {0, 7}, bytes.Repeat([]byte{9}, 32)} {
		auth := secret.Copy(bytes.TrimRight(value, "\x00"))
		made, err := c.seal(t.Context(), handle, p, policy, key, auth)
		if err != nil {
			t.Fatal(err)
		}
		tok := &Token{Blobs: [][]byte{made.marshal()}, Policies: [][]byte{policy[:]}, PIN: true,
			SRK: (&handleRecord{handle, p.name(), resourceKey, p.raw}).marshal()}
		u := &unsealer{c: c, t: tok}
		o, err := u.open(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := u.unseal(t.Context(), o, auth)
		if err != nil || !got.Equal(key) {
			t.Errorf("value %x: %v", value, err)
		}
		got.Wipe()
		auth.Wipe()
		if err := u.shut(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
}

// TestPeer has systemd-cryptenroll list and wipe what we enrol.
func TestPeer(t *testing.T) {
	t.Parallel()
	peer, err := exec.LookPath("systemd-cryptenroll")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("systemd-cryptenroll is needed")
		}
		t.Skip("systemd-cryptenroll is not installed")
	}
	tpm := startB(t)
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
	e := &Enroller{Open: opener(tpm), PCRs: pcrList(t, "0+4"), PIN: true}
	made, err := volume.Enroll(t.Context(), h, key.Volume, e, &volumetest.Asker{Answers: []string{"1234"}}, volume.EnrollOptions{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	made.Pass.Wipe()
	for _, tok := range h.Tokens() {
		if len(tok.Keyslots) != 1 || tok.Keyslots[0] != made.Keyslot {
			continue
		}
		pass, err := keyFor(tpm).Unlock(t.Context(), tok.JSON, &volumetest.Asker{Answers: []string{"1234"}})
		if err != nil {
			t.Fatal(err)
		}
		again, err := h.VolumeKey(t.Context(), made.Keyslot, pass)
		if err != nil || !again.Equal(key.Volume) {
			t.Errorf("the keyslot does not open: %v", err)
		}
		pass.Wipe()
		again.Wipe()
	}
	file := filepath.Join(t.TempDir(), "v.img")
	if err := os.WriteFile(file, storeBytes(t, store), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), peer, file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "   8 tpm2") || made.Keyslot != 8 {
		t.Errorf("keyslot %d: %v\n%s", made.Keyslot, err, out)
	}
	out, err = exec.CommandContext(t.Context(), peer, "--wipe-slot=tpm2", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Wiped slot 8") {
		t.Errorf("wiping: %v\n%s", err, out)
	}
}

func storeBytes(t *testing.T, s luks2.Store) []byte {
	t.Helper()
	if sized, ok := s.(luks2.Sizer); ok {
		size, err := sized.Size()
		b := make([]byte, size)
		if _, read := s.ReadAt(b, 0); err != nil || read != nil {
			t.Fatal(err, read)
		}
		return b
	}
	b, err := io.ReadAll(io.NewSectionReader(s, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
