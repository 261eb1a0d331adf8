//go:build vm

package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// explainedSlot is what `lockport explain --json` says of one keyslot.
type explainedSlot struct {
	Slot   int
	Kind   string
	Opens  *bool
	Blocks []string
	PCRs   []struct {
		PCR           int
		Enrolled, Now string
		Same          *bool
		Changes       []string
	}
	Signed  *struct{ Found bool }
	PCRLock *struct {
		PCRs []struct {
			PCR int
			Met bool
		}
	}
	Lockout *struct{ Failed int }
}

// explain tells of the volume's TPM2 keyslots, and returns the exit code as well.
func explain(t testing.TB, dev string, args ...string) (slots []explainedSlot, code int) {
	t.Helper()
	r := lockport(t, append([]string{"explain", "--json", dev}, args...)...)
	var out struct{ Slots []explainedSlot }
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatalf("explain: exit code %d, %v\n%s%s", r.code, err, r.stdout, r.stderr)
	}
	return slices.DeleteFunc(out.Slots, func(s explainedSlot) bool { return s.Kind != "tpm2" }), r.code
}

// onlySlot is the only TPM2 keyslot, which opens or does not.
func onlySlot(t testing.TB, dev string, opens bool, args ...string) explainedSlot {
	t.Helper()
	slots, code := explain(t, dev, args...)
	if len(slots) != 1 {
		t.Fatalf("%d TPM2 keyslots, expected one: %+v", len(slots), slots)
	}
	s := slots[0]
	if s.Opens == nil || *s.Opens != opens || (len(s.Blocks) == 0) != opens || (code == 0) != opens {
		t.Errorf("expected opens = %v: exit code %d, %+v", opens, code, s)
	}
	return s
}

// differing lists the PCRs that explain calls different, with what it says of them.
func (s explainedSlot) differing() (pcrs []int, changes string) {
	for _, p := range s.PCRs {
		if p.Same != nil && !*p.Same {
			pcrs = append(pcrs, p.PCR)
			changes += strings.Join(p.Changes, "\n")
		}
	}
	return pcrs, changes
}

// refresh brings TPM2 keyslots up to date, with the passphrase by key file.
func refresh(t testing.TB, key, dev string, args ...string) {
	t.Helper()
	mustLockport(t, append([]string{"refresh", "--unlock-key-file=" + key, dev}, args...)...)
}

// bothOpen attaches by the TPM with ours and with systemd's.
func bothOpen(t testing.TB, dev, options string) {
	t.Helper()
	for _, s := range sides {
		s.opens(t, dev, nil, options, nil)
	}
}

func bothRefuse(t testing.TB, dev, options string) {
	t.Helper()
	for _, s := range sides {
		s.refused(t, dev, nil, options)
	}
}

// A PCR changes: neither side attaches, explain names the PCR, refresh mends.
func TestRefresh(t *testing.T) {
	resetPCRs(t)
	zero := strings.Repeat("0", 64)
	for _, enroller := range sides {
		dev, key := formatDisk(t)
		run(t, "tpm2_pcrreset", fmt.Sprint(debugPCR))
		enroller.enrollTPM(t, dev, nil, "--tpm2-device=auto", "--tpm2-pcrs=7+16")
		onlySlot(t, dev, true)
		header := run(t, "cryptsetup", "luksDump", "--dump-json-metadata", dev)
		refresh(t, key, dev)
		if now := run(t, "cryptsetup", "luksDump", "--dump-json-metadata", dev); now != header {
			t.Errorf("a refresh with nothing to do made the header\n%s\nof\n%s", now, header)
		}

		extend(t, debugPCR, "another state")
		for _, s := range sides {
			said := s.refused(t, dev, nil, "")
			if s.String() == ours.String() && !strings.Contains(said, "16") {
				t.Errorf("attach does not name the PCR that differs: %s", said)
			}
		}
		// What the PCR was before, systemd did not write down; it is guessed.
		slot := onlySlot(t, dev, false)
		if pcrs, _ := slot.differing(); !slices.Equal(pcrs, []int{debugPCR}) {
			t.Errorf("%v enrolled, explain calls PCRs %v different: %+v", enroller, pcrs, slot)
		}
		if text := lockport(t, "explain", dev); text.code != 1 || !strings.Contains(text.stdout, "PCR 16") {
			t.Errorf("explain: exit code %d\n%s%s", text.code, text.stdout, text.stderr)
		}
		// With the old value it would open again.
		if r := lockport(t, "explain", "--tpm2-pcrs=16:sha256="+zero, dev); r.code != 0 {
			t.Errorf("explain with the value of before: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}

		if r := lockport(t, "refresh", "--dry-run", dev); r.code != 0 || r.stdout == "" {
			t.Errorf("refresh --dry-run: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
		bothRefuse(t, dev, "")
		var adopt []string
		if enroller.String() == theirs.String() { // which proves nothing of its terms
			if r := lockport(t, "refresh", "--unlock-key-file="+key, dev); r.code != 1 || !strings.Contains(r.stderr, "not proven") {
				t.Errorf("refresh of what systemd enrolled: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			adopt = []string{"--adopt"}
		}
		refresh(t, key, dev, adopt...)
		onlySlot(t, dev, true)
		bothOpen(t, dev, "")
		if pin := tpmToken(t, dev)["tpm2-pcrs"]; fmt.Sprint(pin) != "[7 16]" {
			t.Errorf("refreshed to PCRs %v", pin)
		}
	}
	nothingLoaded(t)
	nothingLeft(t)
}

// The keyslot of before stays when it is told to, and opens the state of before.
func TestRefreshKeepPrevious(t *testing.T) {
	resetPCRs(t)
	dev, key := formatDisk(t)
	ours.enrollTPM(t, dev, nil, "--tpm2-device=auto", "--tpm2-pcrs=7+16")
	extend(t, debugPCR, "another state")
	refresh(t, key, dev, "--keep-previous")
	// That the old one does not open is in order.
	if slots, code := explain(t, dev); len(slots) != 2 || code != 0 {
		t.Errorf("exit code %d, %d TPM2 keyslots, expected the old and the new one: %+v", code, len(slots), slots)
	}
	bothOpen(t, dev, "")
	run(t, "tpm2_pcrreset", fmt.Sprint(debugPCR))
	bothOpen(t, dev, "")

	// For a state to come, nothing but the next boot can prove the new one.
	next := extended(pcr(t, "sha256", appPCR), make([]byte, 32))
	dev, key = formatDisk(t)
	ours.enrollTPM(t, dev, nil, "--tpm2-device=auto", "--tpm2-pcrs=7+23")
	refresh(t, key, dev, "--tpm2-pcrs=23:sha256="+next)
	bothOpen(t, dev, "")
	run(t, "tpm2_pcrextend", fmt.Sprintf("%d:sha256=%s", appPCR, strings.Repeat("0", 64)))
	bothOpen(t, dev, "")
	nothingLeft(t)
}

// With a PIN, the new keyslot has one as well.
func TestRefreshPIN(t *testing.T) {
	resetPCRs(t)
	tpmFailures(t)
	dev, key := formatDisk(t)
	env := []string{"NEWPIN=1234", "PIN=1234"}
	theirs.enrollTPM(t, dev, env, "--tpm2-device=auto", "--tpm2-pcrs=7+16", "--tpm2-with-pin=yes")
	extend(t, debugPCR, "another state")
	argv := []string{"lockport", "refresh", "--adopt", "--unlock-key-file=" + key, dev}
	if r := try(t, "", env, argv...); r.code != 0 {
		t.Fatalf("%v: exit code %d\n%s%s", argv, r.code, r.stdout, r.stderr)
	}
	for _, s := range sides {
		s.opens(t, dev, env, "", nil)
	}
	ours.refused(t, dev, []string{"PIN=1111"}, "")
	if s := onlySlot(t, dev, true); s.Lockout == nil || s.Lockout.Failed != 1 {
		t.Errorf("one wrong PIN, and explain counts %+v", s.Lockout)
	}
	nothingLeft(t)
}

// What explain says of policies that others keep up to date.
func TestExplainPolicies(t *testing.T) {
	resetPCRs(t)
	file := pcrlock(t, "0+7+16")
	private, public := signer(t)
	signature := write(t, "tpm2-pcr-signature.json", "")
	sign(t, signature, private, public, "")
	dev, _ := formatDisk(t)
	args := []string{"--tpm2-signature=" + signature, "--tpm2-pcrlock=" + file}
	for _, enroller := range sides {
		sign(t, signature, private, public, "")
		enroller.enrollTPM(t, dev, nil, append(args, "--tpm2-device=auto", "--tpm2-pcrs=", "--tpm2-public-key="+public)...)
		if s := onlySlot(t, dev, true, args...); s.Signed == nil || !s.Signed.Found || s.PCRLock == nil || len(s.PCRLock.PCRs) != 3 {
			t.Errorf("%v enrolled: %+v", enroller, s)
		}
		extend(t, debugPCR, "another state")
		s := onlySlot(t, dev, false, args...)
		for _, p := range s.PCRLock.PCRs {
			if p.Met != (p.PCR != debugPCR) {
				t.Errorf("%v enrolled, of pcrlock's PCRs: %+v", enroller, s.PCRLock.PCRs)
			}
		}
		if text := strings.Join(s.Blocks, "\n"); !strings.Contains(text, "16") {
			t.Errorf("%v enrolled, in the way: %s", enroller, text)
		}
		run(t, "tpm2_pcrreset", fmt.Sprint(debugPCR))
		extend(t, signedPCR, "enter-initrd")
		if s := onlySlot(t, dev, false, args...); s.Signed.Found || !strings.Contains(strings.Join(s.Blocks, "\n"), "11") {
			t.Errorf("%v enrolled, without a signature: %+v", enroller, s)
		}
	}
	nothingLoaded(t)
}

// An update of the firmware: volumes are bound to PCR 1 in the first boot, and
// the firmware of the second is another one.
func TestNewFirmware(t *testing.T) {
	disk := func(t *testing.T) (dev, key string) {
		attached(t, "tpm")
		return keptDisk(t), kept(t, "key")
	}
	boots(t, func(t *testing.T) {
		dev, key := disk(t)
		if err := os.WriteFile(key, []byte("first"), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", dev, key)
		ours.enrollTPM(t, dev, nil, "--tpm2-device=auto", "--tpm2-pcrs=1+7")
		onlySlot(t, dev, true)
		bothOpen(t, dev, "")
	}, func(t *testing.T) {
		dev, key := disk(t)
		bothRefuse(t, dev, "")
		pcrs, changes := onlySlot(t, dev, false).differing()
		if !slices.Equal(pcrs, []int{1}) || !strings.HasPrefix(changes, "event 1 differs:") || strings.Contains(changes, "\n") {
			t.Errorf("explain calls PCRs %v different: %s", pcrs, changes)
		}
		t.Log(lockport(t, "explain", dev).stdout)
		refresh(t, key, dev)
		onlySlot(t, dev, true)
		bothOpen(t, dev, "")
	}, func(t *testing.T) {
		dev, _ := disk(t)
		onlySlot(t, dev, true)
		bothOpen(t, dev, "")
	})
}

// The TPM of the machine is in order, and its values are those the kernel tells.
func TestDoctor(t *testing.T) {
	t.Log(mustLockport(t, "doctor"))
	var findings []struct{ Check, Result, Text string }
	if err := json.Unmarshal([]byte(mustLockport(t, "doctor", "--json")), &findings); err != nil {
		t.Fatal(err)
	}
	results := map[string]string{}
	for _, f := range findings {
		results[f.Check] = f.Result
	}
	for _, check := range []string{"tpm", "banks"} {
		if results[check] != "ok" {
			t.Errorf("%s: %s", check, results[check])
		}
	}
	nothingLoaded(t)
}

func TestPCRRead(t *testing.T) {
	out := mustLockport(t, "pcr", "read")
	for n := range 8 {
		if value := pcr(t, "sha256", n); !strings.Contains(strings.ToLower(out), value) {
			t.Errorf("PCR %d is %s, which is missing in\n%s", n, value, out)
		}
	}
	nothingLoaded(t)
}
