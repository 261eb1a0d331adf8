package tpm2

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
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

// startA and startB start the TPMs that the sample volumes were enrolled with, in
// the state in which they were.
func startA(t testing.TB) *tpm2test.Software {
	s := tpm2test.Start(t, filepath.Join(vectorDir, "swtpm-A.tar.gz"))
	s.Event(0, "init0")
	s.Event(7, "init7")
	s.Boot(uki(), "enter-initrd")
	return s
}

func startB(t testing.TB) *tpm2test.Software {
	s := tpm2test.Start(t, filepath.Join(vectorDir, "swtpm-B.tar.gz"))
	s.Event(0, "initB0")
	s.Event(4, "initB4")
	s.Event(7, "initB7")
	s.Boot(uki(), "enter-initrd")
	return s
}

func uki() [][2]string {
	return [][2]string{{"linux", "KERNEL"}, {"osrel", "ID=test\n"}, {"cmdline", "root=/dev/x\n"}, {"initrd", "INITRD"}}
}

// opener has each device guarded against secrets in the clear.
func opener(dev tpm2test.Device) func(context.Context) (Device, error) {
	return func(context.Context) (Device, error) { return tpm2test.Guard{Device: dev}, nil }
}

func keyFor(dev tpm2test.Device) *Key {
	return &Key{Open: opener(dev), Signatures: []string{filepath.Join(vectorDir, "tpm2-pcr-signature.json")},
		PCRLocks: []string{filepath.Join(vectorDir, "pcrlock.json")}}
}

func sampleText(t testing.TB, volume, slot string) json.RawMessage {
	t.Helper()
	for _, s := range sampleTokens(t) {
		if s.volume == volume && s.slot == slot {
			return s.text
		}
	}
	t.Fatalf("no token for slot %s of %s", slot, volume)
	return nil
}

// samplePINs are those of vectors.json.
func samplePIN(volume, slot string) []string {
	pin := map[string]string{"v252 4": "246810", "v252 6": "1357", "v257 4": "246810", "v257 6": "1357", "v257b 2": "9999"}[volume+" "+slot]
	if pin == "" {
		return nil
	}
	return []string{pin}
}

// TestSamples unlocks every keyslot that an original bound to a TPM, and counts
// what it took.
func TestSamples(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	passphrases := map[string]map[string]string{"v252": v.V252.Passphrases, "v257": v.V257.Passphrases, "v257b": v.V257b.Passphrases}
	tpms := map[string]*tpm2test.Software{"v252": startA(t), "v257": startB(t)}
	tpms["v257b"] = tpms["v257"]
	for _, s := range sampleTokens(t) {
		tap := &tpm2test.Tap{Device: tpms[s.volume]}
		k := keyFor(tap)
		pass, err := k.Unlock(t.Context(), s.text, &volumetest.Asker{Answers: samplePIN(s.volume, s.slot)})
		if err != nil {
			t.Errorf("%s slot %s: %v", s.volume, s.slot, err)
			continue
		}
		if want, known := passphrases[s.volume][s.slot]; known && string(pass.Reveal()) != want {
			t.Errorf("%s slot %s: another passphrase than expected", s.volume, s.slot)
		}
		opensSample(t, s, pass)
		raw, err := base64.StdEncoding.DecodeString(string(pass.Reveal()))
		if err != nil || len(raw) < 32 {
			t.Errorf("%s slot %s: %v", s.volume, s.slot, err)
		}
		if all := tap.Bytes(); bytes.Contains(all, raw[:16]) || bytes.Contains(all, raw[16:32]) || bytes.Contains(all, pass.Reveal()) {
			t.Errorf("%s slot %s: the secret crossed the bus", s.volume, s.slot)
		}
		pass.Wipe()
		if left := tpms[s.volume].Loaded(); len(left) > 0 {
			t.Errorf("%s slot %s: %x are left in the TPM", s.volume, s.slot, left)
		}
		limits := map[string]int{"v257 3": 7, "v257 4": 8, "v257 7": 5}
		if limit, ok := limits[s.volume+" "+s.slot]; ok && len(tap.Codes()) > limit {
			t.Errorf("%s slot %s: %d commands, want at most %d", s.volume, s.slot, len(tap.Codes()), limit)
		}
		t.Logf("%s slot %s: %d commands", s.volume, s.slot, len(tap.Codes()))
	}
}

// opensSample opens the keyslot of the volume itself.
func opensSample(t *testing.T, s sampleToken, pass *secret.Bytes) {
	t.Helper()
	h := sampleHeader(t, s.volume)
	slot := int(s.slot[0] - '0')
	key, err := h.VolumeKey(t.Context(), slot, pass)
	if err != nil {
		t.Errorf("%s slot %s does not open: %v", s.volume, s.slot, err)
		return
	}
	key.Wipe()
}

// TestRefused has what must not unlock fail in the expected way, without a
// failure being counted by the TPM, and with nothing left in it.
func TestRefused(t *testing.T) {
	t.Parallel()
	changed, phase := startB(t), startB(t)
	changed.Event(7, "other")
	changed.Event(2, "other")
	phase.Extend(11, "leave-initrd")
	other := tpm2test.Start(t, "")
	for _, c := range []struct {
		name         string
		tpm          *tpm2test.Software
		volume, slot string
		want         error
	}{
		{"PCR 7 changed", changed, "v257", "3", ErrPolicy},
		{"PCR 7 changed, PIN", changed, "v257", "4", ErrPolicy},
		{"PCR 7 changed, signed", changed, "v257", "6", ErrPolicy},
		{"PCR 7 changed, sealed offline", changed, "v257b", "4", ErrPolicy},
		{"PCR 2 changed, pcrlock", changed, "v257b", "1", ErrPolicy},
		{"PCR 2 changed, both", changed, "v257b", "3", ErrPolicy},
		{"other TPM", other, "v257", "3", ErrOtherTPM},
		{"other TPM, PIN", other, "v257", "4", ErrOtherTPM},
		{"other TPM, no policy", other, "v257", "7", ErrOtherTPM},
		{"other TPM, sealed offline", other, "v257b", "4", ErrOtherTPM},
		{"other TPM, before 254", changed, "v252", "3", ErrPolicy},
	} {
		before := lockoutCounter(t, c.tpm)
		ask := &volumetest.Asker{Answers: []string{"246810"}}
		pass, err := keyFor(c.tpm).Unlock(t.Context(), sampleText(t, c.volume, c.slot), ask)
		pass.Wipe()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if len(ask.Asked) > 0 {
			t.Errorf("%s: a PIN was asked for in vain", c.name)
		}
		if after := lockoutCounter(t, c.tpm); after != before {
			t.Errorf("%s: the TPM counts %d failures, was %d", c.name, after, before)
		}
		if left := c.tpm.Loaded(); len(left) > 0 {
			t.Errorf("%s: %x are left in the TPM", c.name, left)
		}
	}
	// The second signature is for the phase after the initrd.
	pass, err := keyFor(phase).Unlock(t.Context(), sampleText(t, "v257", "5"), nil)
	if err != nil {
		t.Errorf("second phase: %v", err)
	}
	pass.Wipe()
	phase.Extend(11, "sysinit")
	if _, err := keyFor(phase).Unlock(t.Context(), sampleText(t, "v257", "5"), nil); !errors.Is(err, ErrNoSignature) {
		t.Errorf("third phase: %v", err)
	}
	k := keyFor(phase)
	k.PCRs = []int{7}
	if _, err := k.Unlock(t.Context(), sampleText(t, "v257", "5"), nil); err == nil || errors.Is(err, ErrNoSignature) {
		t.Errorf("bound to other PCRs: %v", err)
	}
	k.PCRs = []int{}
	k.Signatures, k.PCRLocks = nil, []string{filepath.Join(t.TempDir(), "none")}
	if _, err := k.Unlock(t.Context(), sampleText(t, "v257", "5"), nil); !errors.Is(err, ErrNoSignature) {
		t.Errorf("no signature file: %v", err)
	}
	if _, err := k.Unlock(t.Context(), sampleText(t, "v257b", "1"), nil); !errors.Is(err, ErrPolicy) {
		t.Errorf("no pcrlock file: %v", err)
	}
}

func lockoutCounter(t *testing.T, s *tpm2test.Software) uint32 {
	t.Helper()
	props, err := (&conn{s}).properties(t.Context(), propLockoutCounter, 1)
	if err != nil {
		t.Fatal(err)
	}
	return props[propLockoutCounter]
}

// TestPIN types wrong PINs before the right one, and then until the TPM locks.
func TestPIN(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	text := sampleText(t, "v257", "4")
	var failed []error
	k := keyFor(tpm)
	k.Failed = func(err error) { failed = append(failed, err) }
	ask := &volumetest.Asker{Answers: []string{"1", "", "246810"}}
	pass, err := k.Unlock(t.Context(), text, ask)
	if err != nil || len(failed) != 2 || !errors.Is(failed[0], ErrPIN) {
		t.Fatalf("%v after %v", err, failed)
	}
	pass.Wipe()
	if q := ask.Asked[1]; q.Attempt != 1 || q.Env != "PIN" || q.Credential != "cryptsetup.tpm2-pin" || q.Cache != "tpm2-pin" {
		t.Errorf("asked %+v", q)
	}
	ask = &volumetest.Asker{Answers: []string{"1", "246810"}, From: volume.FromEnvironment}
	if _, err := k.Unlock(t.Context(), text, ask); !errors.Is(err, ErrPIN) || len(ask.Asked) != 1 {
		t.Errorf("a wrong PIN from a script: %v after %d questions", err, len(ask.Asked))
	}
	if _, err := k.Unlock(t.Context(), text, &volumetest.Asker{}); !errors.Is(err, volume.ErrNoAnswer) {
		t.Errorf("nobody to ask: %v", err)
	}
	k.Tries = 2
	if _, err := k.Unlock(t.Context(), text, &volumetest.Asker{Answers: []string{"", "", "3"}}); !errors.Is(err, volume.ErrTries) {
		t.Errorf("all tries used: %v", err)
	}
	k.Tries = 100
	_, err = k.Unlock(t.Context(), text, &volumetest.Asker{Answers: slices.Repeat([]string{"1"}, 100)})
	var locked *LockedOut
	if !errors.As(err, &locked) || !errors.Is(err, ErrLockout) || locked.Wait <= 0 || !strings.Contains(err.Error(), "for up to") {
		t.Errorf("guessing without end: %v", err)
	}
	if left := tpm.Loaded(); len(left) > 0 {
		t.Errorf("%x are left in the TPM", left)
	}
}

// TestTransient has the TPM ask for patience, a PCR change on the way, and the
// context end.
func TestTransient(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	text := sampleText(t, "v257", "3")
	for _, c := range []struct {
		name string
		rc   uint32
		code uint32
		n    int
		want error
	}{
		{"retry", 0x922, tpm2test.Unseal, 3, nil},
		{"yielded", 0x908, tpm2test.Load, 1, nil},
		{"testing", 0x90a, ccStartAuthSession, 2, nil},
		{"PCR changed at Unseal", 0x128, tpm2test.Unseal, 3, nil},
		{"PCR changed at PolicyPCR", 0x128, ccPolicyPCR, 29, nil},
		{"PCR changes all the time", 0x128, ccPolicyPCR, 1000, ErrChanging},
		{"no room", 0x902, tpm2test.Load, 1, ErrFull},
		{"locked", 0x921, tpm2test.Unseal, 1, ErrLockout},
		{"policy at Unseal", 0x99d, tpm2test.Unseal, 1, ErrPolicy},
	} {
		left := c.n
		dev := tpm2test.Func(func(command []byte) ([]byte, error) {
			if tpm2test.Code(command) == c.code && left > 0 {
				left--
				return tpm2test.Refusal(c.rc), nil
			}
			return tpm.Send(command)
		})
		pass, err := keyFor(dev).Unlock(t.Context(), text, nil)
		pass.Wipe()
		if !errors.Is(err, c.want) || err == nil && left > 0 {
			t.Errorf("%s: %v, %d left", c.name, err, left)
		}
		if left := tpm.Loaded(); len(left) > 0 {
			t.Errorf("%s: %x are left in the TPM", c.name, left)
		}
	}
	for n := range 7 {
		ctx, cancel := context.WithCancel(t.Context())
		sent := 0
		dev := tpm2test.Func(func(command []byte) ([]byte, error) {
			if sent++; sent == n {
				cancel()
			}
			return tpm.Send(command)
		})
		if n == 0 {
			cancel()
		}
		pass, err := keyFor(dev).Unlock(ctx, text, nil)
		pass.Wipe()
		if n < 5 && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at command %d: %v", n, err)
		}
		if left := tpm.Loaded(); len(left) > 0 {
			t.Errorf("cancelled at command %d: %x are left in the TPM", n, left)
		}
		cancel()
	}
}

// TestTampering changes a byte of each response: nothing but the true secret
// ever comes out.
func TestTampering(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	text := sampleText(t, "v257", "3")
	want := readVectors(t).V257.Passphrases["3"]
	for _, code := range []uint32{ccStartAuthSession, ccUnseal} {
		for at := range 24 {
			dev := tpm2test.Func(func(command []byte) ([]byte, error) {
				response, err := tpm.Send(command)
				if err == nil && tpm2test.Code(command) == code {
					response[len(response)-1-at*3%len(response)] ^= 1
				}
				return response, err
			})
			pass, err := keyFor(dev).Unlock(t.Context(), text, nil)
			if err == nil && string(pass.Reveal()) != want {
				t.Errorf("command %#x, byte %d from the end: a false secret", code, at)
			}
			if err == nil && code == ccUnseal {
				t.Errorf("byte %d from the end of Unseal's response may be changed", at)
			}
			pass.Wipe()
			flushAll(t, tpm)
		}
	}
}

// flushAll removes what a tampered conversation may leave.
func flushAll(t *testing.T, tpm *tpm2test.Software) {
	t.Helper()
	for _, h := range tpm.Loaded() {
		if err := (&conn{tpm}).flush(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGuard sees to it that the guard of the other tests guards.
func TestGuard(t *testing.T) {
	t.Parallel()
	fake := tpm2test.Func(func([]byte) ([]byte, error) { return tpm2test.Refusal(1), nil })
	password := []byte{0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0xff, 0, 0}
	for _, code := range []uint32{tpm2test.Create, tpm2test.Unseal} {
		_, err := tpm2test.Guard{Device: fake}.Send(tpm2test.Command(code, append([]byte{0x80, 0, 0, 1}, password...)))
		if err == nil {
			t.Errorf("command %#x passes in the clear", code)
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if _, err := Open(t.Context(), root, "auto"); !errors.Is(err, ErrNoTPM) || Present(root) {
		t.Errorf("no TPM: %v", err)
	}
	if _, err := Open(t.Context(), root, "/dev/tpmrm0"); !errors.Is(err, ErrNoTPM) {
		t.Errorf("no node: %v", err)
	}
	for _, n := range []string{"tpmrm0", "tpmrm1"} {
		if err := os.MkdirAll(filepath.Join(root, "sys/class/tpmrm", n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(t.Context(), root, "auto"); err == nil || errors.Is(err, ErrNoTPM) || !Present(root) {
		t.Errorf("two TPMs: %v", err)
	}
	link := filepath.Join(root, "sys/class/tpmrm/tpmrm0/device")
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "sys/MSFT0101:00"), 0o755), os.Symlink("../../../MSFT0101:00", link),
		os.Symlink("../bus/tpm_tis", filepath.Join(root, "sys/MSFT0101:00/driver"))); err != nil {
		t.Fatal(err)
	}
	if list, err := List(root); err != nil || len(list) != 2 || list[0] != (Found{"/dev/tpmrm0", "MSFT0101:00", "tpm_tis"}) {
		t.Errorf("%v, %v", list, err)
	}
	for _, name := range []string{"x", "device:tpm0", "swtpm:foo=1", "libtpms:"} {
		if _, err := Open(t.Context(), root, name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if _, err := Open(t.Context(), root, "swtpm:path="+filepath.Join(root, "none")); !errors.Is(err, ErrNoTPM) {
		t.Errorf("no socket: %v", err)
	}
	tpm := tpm2test.Start(t, "")
	dev, err := Open(t.Context(), root, "swtpm:path="+tpm.Socket())
	if err != nil {
		t.Fatal(err)
	}
	counted := &Counter{Device: dev}
	defer counted.Close()
	if banks, err := (&conn{counted}).activeBanks(t.Context()); err != nil || len(banks[algSHA256]) != 24 || counted.Count() != 1 {
		t.Errorf("%v, %v, %d commands", banks, err, counted.Count())
	}
}

// TestWait waits for a TPM that the firmware has, and for no other.
func TestWait(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if _, err := Wait(t.Context(), root, "auto"); !errors.Is(err, ErrNoTPM) {
		t.Errorf("no TPM: %v", err)
	}
	put := func(path string) {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Error(err)
		}
	}
	put("sys/firmware/acpi/tables/TPM2")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Wait(ctx, root, "auto"); !errors.Is(err, ErrNoTPM) || !errors.Is(err, context.Canceled) {
		t.Errorf("it does not come: %v", err)
	}
	done := make(chan error)
	go func() {
		dev, err := Wait(t.Context(), root, "auto")
		if err == nil {
			err = closeDevice(dev)
		}
		done <- err
	}()
	put("dev/tpmrm0")
	put("sys/class/tpmrm/tpmrm0/dev")
	if err := <-done; err != nil {
		t.Errorf("it comes: %v", err)
	}
}

func sampleHeader(t testing.TB, volume string) *luks2.Header {
	t.Helper()
	h, err := luks2.Open(t.Context(), sampleStore(t, volume))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func sampleStore(t testing.TB, volume string) luks2.Store {
	t.Helper()
	f, err := os.Open(filepath.Join(vectorDir, volume+".img.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return luks2.NewMemory(b)
}
