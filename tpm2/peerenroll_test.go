package tpm2

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2/tpm2test"
	"github.com/lockport/lockport/volume/volumetest"
)

// TestPeerEnrolls lets the installed original enrol with a software TPM, and
// unlocks and explains what it made. Its tokens are those of its release.
func TestPeerEnrolls(t *testing.T) {
	t.Parallel()
	peer, err := exec.LookPath("systemd-cryptenroll")
	if err != nil {
		peerMissing(t, "systemd-cryptenroll")
	}
	tpm := tpm2test.Start(t, "")
	tpm.Event(7, "a machine")
	signer, err := filepath.Abs(filepath.Join(vectorDir, "pcr-signing-pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, args, pin string
		change          int   // a PCR that is measured to then
		err             error // of unlocking after that
	}{
		{"default", "", "", 7, ErrPolicy},
		{"PCRs", "--tpm2-pcrs=0+7+16", "", 16, ErrPolicy},
		{"PIN", "--tpm2-pcrs=16 --tpm2-with-pin=yes", "2468", 16, ErrPolicy},
		{"signed", "--tpm2-pcrs= --tpm2-public-key=" + signer, "", 11, ErrNoSignature},
	} {
		file := newVolumeFile(t)
		args := append(strings.Fields(c.args), "--tpm2-device=swtpm:path="+tpm.Socket(), file)
		cmd := exec.CommandContext(t.Context(), peer, args...)
		cmd.Env = append(os.Environ(), "PASSWORD=testpass", "NEWPIN="+c.pin)
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), "TPM2 support is not installed") {
			peerMissing(t, "the TPM2 software stack")
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, out)
		}
		flushAll(t, tpm) // which it leaves to a resource manager
		f, err := luks2.OpenFile(file, true)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		h, err := luks2.Open(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		all := h.Tokens()
		token := all[len(all)-1]
		k := keyFor(tpm)
		k.SignatureText = signedNow(t, tpm)
		pass, err := k.Unlock(t.Context(), token.JSON, &volumetest.Asker{Answers: []string{c.pin}})
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, token.JSON)
		}
		checkOpens(t, h, token.Keyslots[0], pass)
		pass.Wipe()
		tpm.Event(c.change, c.name)
		if _, err := k.Unlock(t.Context(), token.JSON, &volumetest.Asker{Answers: []string{c.pin}}); !errors.Is(err, c.err) {
			t.Errorf("%s, PCR %d changed: %v", c.name, c.change, err)
		}
		if r, err := k.Explain(t.Context(), token.JSON, ExplainOptions{}); err != nil || r.Unlocks() || !r.blockedBy(c.err) {
			t.Errorf("%s, explained: %v, %+v", c.name, err, r)
		}
	}
	if left := tpm.Loaded(); len(left) > 0 {
		t.Errorf("%x are left in the TPM", left)
	}
}

// newVolumeFile makes a volume with the passphrase testpass.
func newVolumeFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "v.img")
	image := make([]byte, 4<<20)
	pass := secret.Copy([]byte("testpass"))
	defer pass.Wipe()
	_, key, err := luks2.Format(t.Context(), luks2.NewMemory(image), pass, luks2.FormatOptions{
		DataOffset: 3 << 20, KeySize: 32, Fast: true, KDF: luks2.KDF{Type: luks2.Argon2id, Time: 4, Memory: 32, CPUs: 1}})
	if err != nil {
		t.Fatal(err)
	}
	key.Wipe()
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// signedNow is a signature file for what PCR 11 holds.
func signedNow(t *testing.T, tpm *tpm2test.Software) []byte {
	t.Helper()
	values, err := ReadPCRs(t.Context(), tpm, "sha256", []int{11})
	if err != nil {
		t.Fatal(err)
	}
	text, err := vectorSigner(t).Sign([]PCRState{{"sha256", values}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func checkOpens(t *testing.T, h *luks2.Header, slot int, pass *secret.Bytes) {
	t.Helper()
	key, err := h.VolumeKey(t.Context(), slot, pass)
	if err != nil {
		t.Errorf("keyslot %d: %v", slot, err)
	}
	key.Wipe()
}
