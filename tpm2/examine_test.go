package tpm2

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/tpm2/tpm2test"
	"github.com/lockport/lockport/volume/volumetest"
)

func examined(t *testing.T, dev Device) *State {
	t.Helper()
	s, err := Examine(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestExamine asks a software TPM what it is, before and after it is used.
func TestExamine(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	s := examined(t, tpm)
	if s.Manufacturer != "IBM" || s.Model == "" || !strings.HasPrefix(s.Firmware, "8217.") && strings.Count(s.Firmware, ".") != 3 || !s.AES || s.OwnerAuth {
		t.Errorf("%+v", s)
	}
	for _, b := range []string{"sha1", "sha256", "sha384", "sha512"} {
		if len(s.Banks[b]) != 24 {
			t.Errorf("bank %s keeps %d", b, s.Banks[b])
		}
	}
	if s.StorageKey != "" || s.Persistent != 0 || s.PersistentFree < 1 || s.NVIndices != 0 || len(s.Banks) != 4 {
		t.Errorf("%+v", s)
	}
	if l := s.Lockout; l.Locked || l.Failed != 0 || l.Most < 1 || l.Interval <= 0 || !l.Open {
		t.Errorf("%+v", l)
	}
	pass, _, err := (&Enroller{Open: opener(tpm), Unbound: true}).Enroll(t.Context(), nil)
	pass.Wipe()
	if err != nil {
		t.Fatal(err)
	}
	defineNV(t, tpm, 0x01bc9700, 1<<1|1<<17)
	used := examined(t, tpm)
	if used.StorageKey != "ecc" || used.Persistent != 1 || used.PersistentFree >= s.PersistentFree || used.NVIndices != 1 {
		t.Errorf("%+v, before %+v", used, s)
	}
	tpm.Run(0x129, 0x4000000a, putSized(nil, []byte("secret"))) // TPM2_HierarchyChangeAuth of the lockout hierarchy
	if examined(t, tpm).Lockout.Open {
		t.Error("the lock has a password, but is open")
	}
	if left := tpm.Loaded(); len(left) > 0 {
		t.Errorf("%x are left in the TPM", left)
	}
	if s := examined(t, startB(t)); s.StorageKey != "ecc" || s.NVIndices == 0 { // that of pcrlock.json
		t.Errorf("%+v", s)
	}
}

// TestExamineKeys has odd keys where the shared storage key belongs.
func TestExamineKeys(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	c := &conn{tpm}
	for _, k := range []struct {
		template []byte
		want     string
	}{
		{template(algRSA, attrsSRK), "rsa"},
		// A signing key: restricted and sign, with a scheme and no symmetric cipher.
		{append(put16(put32(put16(nil, algECC, algSHA256), 0x00050472), 0, algNull, 0x0018, algSHA256, curveP256, algNull), 0, 0, 0, 0), "of a kind that is not usable"},
	} {
		params := putSized(putSized(nil, put16(nil, 0, 0)), k.template)
		h, _, err := c.run(t.Context(), call{code: ccCreatePrimary, handles: []object{fixed(handleOwner)}, auths: emptyAuth(),
			params: put32(put16(params, 0), 0), returns: true})
		if err != nil {
			t.Fatal(err)
		}
		onNV(t, tpm, ccEvictControl, put32(nil, srkHandle), handleOwner, h)
		if err := c.flush(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if s := examined(t, tpm); s.StorageKey != k.want || s.Persistent != 1 {
			t.Errorf("%+v, want %q", s, k.want)
		}
		onNV(t, tpm, ccEvictControl, put32(nil, srkHandle), handleOwner, srkHandle)
	}
}

// TestExamineOwner has a password set for the owner, without which no key is
// made or kept.
func TestExamineOwner(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	tpm.Run(0x129, handleOwner, putSized(nil, []byte("secret")))
	s := examined(t, tpm)
	if !s.OwnerAuth || s.StorageKey != "" || s.Lockout.Locked {
		t.Errorf("%+v", s)
	}
	for _, e := range []*Enroller{{PCRs: pcrList(t, "7")}, {PIN: true}} {
		e.Open = opener(tpm)
		pass, text, err := e.Enroll(t.Context(), &volumetest.Asker{Answers: []string{"1111"}})
		if err == nil || pass != nil || text != nil || !errors.Is(err, ErrOwnerAuth) ||
			!strings.Contains(err.Error(), "storage key") {
			t.Errorf("enrolling: %v", err)
		}
		pass.Wipe()
	}
	if s := examined(t, tpm); s.Lockout.Failed != 0 || len(tpm.Loaded()) > 0 {
		t.Errorf("%+v, left are %x", s.Lockout, tpm.Loaded())
	}
	// Where the key is there, the password does not matter.
	tpm = startB(t)
	tpm.Run(0x129, handleOwner, putSized(nil, []byte("secret")))
	pass, _, err := (&Enroller{Open: opener(tpm), PCRs: pcrList(t, "7")}).Enroll(t.Context(), nil)
	pass.Wipe()
	if err != nil {
		t.Errorf("with a storage key: %v", err)
	}
	if r := explained(t, tpm, keyFor(tpm), sampleText(t, "v257", "3"), ExplainOptions{}); !r.Unlocks() {
		t.Errorf("with a storage key: %v", r.Blocks)
	}
	// Only the owner may read what pcrlock keeps in NV: unlocking fails too.
	k := keyFor(tpm)
	r := explained(t, tpm, k, sampleText(t, "v257b", "1"), ExplainOptions{})
	pass, err = k.Unlock(t.Context(), sampleText(t, "v257b", "1"), nil)
	pass.Wipe()
	if r.Unlocks() || err == nil {
		t.Errorf("pcrlock: explained %v, unlocking %v", r.Blocks, err)
	}
}

// TestLockedOut types wrong PINs until the TPM takes no more.
func TestLockedOut(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	text := sampleText(t, "v257", "4")
	// An end without TPM2_Shutdown may have been counted as a guess.
	first := examined(t, tpm).Lockout
	most := first.Most
	for n := first.Failed; n < most+2; n++ {
		k := keyFor(tpm)
		k.Tries = 1
		pass, err := k.Unlock(t.Context(), text, &volumetest.Asker{Answers: []string{"1"}})
		pass.Wipe()
		s := examined(t, tpm)
		if failed := min(n+1, most); s.Lockout.Failed != failed || s.Lockout.Locked != (failed == most) || !errors.Is(err, ErrPIN) && n < most {
			t.Fatalf("attempt %d of %d: %v, %+v", n+1, most, err, s.Lockout)
		}
	}
	r := explained(t, tpm, keyFor(tpm), text, ExplainOptions{})
	var locked *LockedOut
	if !onlyBlock(r, ErrLockout) || !errors.As(r.Blocks[0], &locked) || *r.Lockout != examined(t, tpm).Lockout || !r.onlyLocked() || pcrsOf(r) != "7=same" {
		t.Fatalf("%v, %+v", r.Blocks, r.Lockout)
	}
	// One attempt is forgotten in an interval, and then one may be made.
	if locked.Wait != r.Lockout.Interval || locked.Wait < time.Second || locked.Wait > 24*time.Hour {
		t.Errorf("to wait for %v, one attempt is forgotten in %v", locked.Wait, r.Lockout.Interval)
	}
	// Tokens without a PIN are not concerned.
	if r := explained(t, tpm, keyFor(tpm), sampleText(t, "v257", "3"), ExplainOptions{}); !r.Unlocks() || r.Lockout != nil {
		t.Errorf("%v, %+v", r.Blocks, r.Lockout)
	}
	for _, c := range []struct {
		l    Lockout
		want time.Duration
	}{
		{Lockout{Failed: 3, Most: 3, Interval: time.Minute}, time.Minute},
		{Lockout{Failed: 5, Most: 3, Interval: time.Minute}, 3 * time.Minute},
		{Lockout{Failed: 0, Most: 3, Interval: time.Minute}, time.Minute},
		{Lockout{Failed: 3, Most: 3}, 0},
		{Lockout{Failed: 1<<32 - 1, Interval: (1<<32 - 1) * time.Second}, 1<<63 - 1},
	} {
		if got := c.l.wait(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.l, got, c.want)
		}
	}
}

// TestExamineWords has a vendor that writes what no terminal should see.
func TestExamineWords(t *testing.T) {
	t.Parallel()
	for v, want := range map[uint32]string{0x49424d00: "IBM", 0x53572020: "SW  ", 0x1b5b326a: "[2j", 0: "", 0x41004200: "AB", 0xffc3a420: " "} {
		if got := letters(v); got != want {
			t.Errorf("%#x: %q, want %q", v, got, want)
		}
	}
	if _, err := Examine(t.Context(), tpm2test.Func(func([]byte) ([]byte, error) { return tpm2test.Refusal(0x101), nil })); err == nil {
		t.Errorf("a TPM that has failed: %v", err)
	}
}
