package tpm2

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/tpm2/tpm2test"
	unified "github.com/lockport/lockport/tpm2/uki"
)

// TestPeerSign compares signatures with those that systemd-measure makes, which
// early on computes the policies in a TPM.
func TestPeerSign(t *testing.T) {
	t.Parallel()
	const measure = "/usr/lib/systemd/systemd-measure"
	if _, err := os.Stat(measure); err != nil {
		peerMissing(t, measure)
	}
	tpm := tpm2test.Start(t, "")
	signer := vectorSigner(t)
	for range 3 {
		dir := t.TempDir()
		args := []string{"sign", "--tpm2-device=swtpm:path=" + tpm.Socket(), "--private-key=../testdata/vectors/pcr-signing-key.pem",
			"--public-key=../testdata/vectors/pcr-signing-pub.pem", "--phase=enter-initrd", "--phase=x:y"}
		var sections []unified.Section
		for _, name := range []string{"linux", "osrel", "cmdline", "initrd", "pcrpkey"}[:1+rand.IntN(5)] {
			content := bytes.Repeat([]byte{byte(rand.Uint32())}, 1+rand.IntN(5000))
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--"+name+"="+path)
			sections = append(sections, unified.Section{Name: name, Content: bytes.NewReader(content)})
		}
		want := peerSigns(t, measure, args)
		m, err := unified.Measure(t.Context(), sections)
		if err != nil {
			t.Fatal(err)
		}
		var states []PCRState
		for _, phase := range []string{"enter-initrd", "x:y"} {
			for _, bank := range unified.Banks() {
				value, err := m.PCR11(bank, unified.ParsePhase(phase))
				if err != nil {
					t.Fatal(err)
				}
				states = append(states, PCRState{bank, map[int][]byte{11: value}})
			}
		}
		got, err := signer.Sign(states, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		comparePeer(t, signer, got, want)
		// What the original has made is known as ours.
		again, err := signer.Sign(states[1:2], nil, want)
		if err != nil || states[1].Bank != "sha256" || !sameJSON(again, want) {
			t.Errorf("added once more: %v\n%s", err, again)
		}
	}
}

// comparePeer wants the same entries in the same order. Early releases hash what
// they sign as the bank does, which no TPM was ever asked to accept: in banks other
// than SHA-256 that, too, counts as the same.
func comparePeer(t *testing.T, signer *PolicySigner, got, want []byte) {
	t.Helper()
	hashes := map[string]crypto.Hash{"sha1": crypto.SHA1, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}
	ours, err := parseSignatures(got)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := parseSignatures(want)
	if err != nil {
		t.Fatal(err)
	}
	for bank, list := range theirs {
		for i, e := range list {
			h := hashes[bank].New()
			h.Write(unhex(t, e.Pol))
			if i < len(ours[bank]) && rsa.VerifyPKCS1v15(signer.public, hashes[bank], h.Sum(nil), e.Sig) == nil && bank != "sha256" {
				list[i].Sig = ours[bank][i].Sig
			}
		}
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Error(diff)
	}
}

func peerMissing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is needed", what)
	}
	t.Skipf("%s is not installed", what)
}

// peerSigns runs the original, which loads the TPM2 software stack if it is there.
func peerSigns(t *testing.T, measure string, args []string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(measure, args...)
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=debug")
	out, err := cmd.Output()
	if err != nil && strings.Contains(stderr.String(), "libtss2-") && strings.Contains(stderr.String(), "is not installed") {
		peerMissing(t, "the TPM2 software stack")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	return out
}
