package tpm2

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2/tpm2test"
	"github.com/lockport/lockport/volume/volumetest"
)

// TestOldTokens unlocks tokens as older releases wrote them.
func TestOldTokens(t *testing.T) {
	t.Parallel()
	tpm := startA(t)
	old := findSample(t, "v252", "3")
	old.Bank, old.PrimaryAlg = "", ""
	unlockToken(t, "248", keyFor(tpm), old, "")

	c := &conn{tpm}
	handle, p, err := c.createPrimary(t.Context(), template(algRSA, attrsLegacy))
	if err != nil {
		t.Fatal(err)
	}
	key := secret.Random(digestSize)
	defer key.Wipe()
	made, err := c.seal(t.Context(), handle, p, digest(old.Policies[0]), key, nil)
	if err := errors.Join(err, c.flush(t.Context(), handle)); err != nil {
		t.Fatal(err)
	}
	old.Blobs, old.PrimaryAlg = [][]byte{made.marshal()}, "rsa"
	unlockToken(t, "RSA parent of 253", keyFor(tpm), old, "")
	old.PrimaryAlg = "ecc"
	text, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyFor(tpm).Unlock(t.Context(), text, nil); !errors.Is(err, ErrOtherTPM) {
		t.Errorf("another parent: %v", err)
	}
	if left := tpm.Loaded(); len(left) > 0 {
		t.Errorf("%x are left in the TPM", left)
	}
}

func unlockToken(t *testing.T, name string, k *Key, tok *Token, pin string) {
	t.Helper()
	text, err := json.Marshal(tok)
	if err != nil {
		t.Fatal(err)
	}
	pass, err := k.Unlock(t.Context(), text, &volumetest.Asker{Answers: []string{pin}})
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	pass.Wipe()
}

// TestEarlyExponent unlocks a token whose policy names the signing key as early
// releases of 255 did, alone and with PCRs and a PIN.
func TestEarlyExponent(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	for _, e := range []*Enroller{{}, {PCRs: pcrList(t, "0+7"), PIN: true}} {
		e.Open, e.PublicKey, e.SignedPCRs = opener(tpm), vector(t, "pcr-signing-pub.pem"), []int{11}
		s, err := e.sealing(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		key, err := parseSigner(e.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		s.signer = objectName(signerPublic(key, 0))
		pass, text, err := s.enroll(t.Context(), &volumetest.Asker{Answers: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := keyFor(tpm).Unlock(t.Context(), text, &volumetest.Asker{Answers: []string{"x"}})
		if err != nil || !got.Equal(pass) {
			t.Error(err)
		}
		pass.Wipe()
		got.Wipe()
	}
	if left := tpm.Loaded(); len(left) > 0 {
		t.Errorf("%x are left in the TPM", left)
	}
}

// Test262 has a PIN derived with argon2id, and signatures with a reference.
func Test262(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	ref := "our fleet"
	file := filepath.Join(t.TempDir(), "signature.json")
	signPolicy(t, file, unhex(t, readVectors(t).Policies["PolicyPCR(11) = pol"]), ref)
	e := &Enroller{Open: opener(tpm), PublicKey: vector(t, "pcr-signing-pub.pem"), SignedPCRs: []int{11}, PolicyRef: &ref,
		Signatures: []string{file}, PIN: true, PINCost: &PINCost{Memory: 1 << 20, Iterations: 2, Lanes: 2}}
	pass, text, err := e.Enroll(t.Context(), &volumetest.Asker{Answers: []string{"pin"}})
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Wipe()
	m := members(t, text)
	if m["tpm2_argon2id_memcost"] != "1048576" || m["tpm2_pubkey_ref"] != `"our fleet"` {
		t.Errorf("%s", text)
	}
	k := keyFor(tpm)
	if _, err := k.Unlock(t.Context(), text, nil); !errors.Is(err, ErrNoSignature) {
		t.Errorf("signature without the reference: %v", err)
	}
	k.Signatures = []string{filepath.Join(t.TempDir(), "none"), file}
	got, err := k.Unlock(t.Context(), text, &volumetest.Asker{Answers: []string{"wrong", "pin"}})
	if err != nil || !got.Equal(pass) {
		t.Error(err)
	}
	got.Wipe()
}

// signPolicy writes a signature file as systemd-measure does.
func signPolicy(t *testing.T, file string, pol []byte, ref string) {
	t.Helper()
	block, _ := pem.Decode(vector(t, "pcr-signing-key.pem"))
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key := private.(*rsa.PrivateKey)
	sum := digestOf(pol, refDigest(&ref))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(signatures{"sha256": {{PCRs: []int{11}, Key: hex.EncodeToString(fingerprint(&key.PublicKey)),
		Pol: hex.EncodeToString(pol), Sig: sig, Ref: &ref}}})
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPCRLockChoices has a pcrlock policy that permits several values of two
// PCRs, vouched for by an NV index of a real TPM.
func TestPCRLockChoices(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	v := readVectors(t).PCRs["B"]
	zero, one := strings.Repeat("00", 32), strings.Repeat("11", 32)
	choices := []any{
		map[string]any{"pcr": 1, "values": []string{zero}},
		map[string]any{"pcr": 4, "values": []string{one, v["4"].SHA256}},
		map[string]any{"pcr": 7, "values": []string{v["7"].SHA256, zero, one}},
	}
	file := filepath.Join(t.TempDir(), "pcrlock.json")
	writePCRLock(t, tpm, file, choices)
	e := &Enroller{Open: opener(tpm), PCRLock: file, PCRs: pcrList(t, "0")}
	pass, text, err := e.Enroll(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Wipe()
	k := keyFor(tpm)
	k.PCRLocks = append(k.PCRLocks, file) // the first is of another enrolment
	got, err := k.Unlock(t.Context(), text, nil)
	if err != nil || !got.Equal(pass) {
		t.Error(err)
	}
	got.Wipe()
	tpm.Event(4, "not foreseen")
	if _, err := k.Unlock(t.Context(), text, nil); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), "PCR 4 has none of") {
		t.Errorf("a value that is not permitted: %v", err)
	}
	if left := tpm.Loaded(); len(left) > 0 {
		t.Errorf("%x are left in the TPM", left)
	}
}

// writePCRLock makes an NV index for the policy and writes the policy's file.
func writePCRLock(t *testing.T, tpm *tpm2test.Software, file string, choices []any) {
	t.Helper()
	const index, define, write = 0x01bc9700, 0x12a, 0x137
	const ownerWriteRead = 1<<1 | 1<<17
	public := func(attrs uint32) []byte {
		return put16(put16(put32(put16(put32(nil, index), algSHA256), attrs), 0), 34)
	}
	nv := &handleRecord{handle: index, name: objectName(public(ownerWriteRead | nvWritten)), kind: resourceNV, public: public(ownerWriteRead | nvWritten)}
	text, err := json.Marshal(map[string]any{"pcrBank": "sha256", "pcrValues": choices, "nvIndex": index,
		"nvHandle": base64.StdEncoding.EncodeToString(nv.marshal()), "srkHandle": base64.StdEncoding.EncodeToString(findSample(t, "v257", "3").SRK)})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := parsePCRLock(text)
	if err != nil {
		t.Fatal(err)
	}
	_, super := lock.steps()
	c := &conn{tpm}
	_, _, err = c.run(t.Context(), call{code: define, handles: []object{fixed(handleOwner)}, auths: emptyAuth(),
		params: putSized(put16(nil, 0), public(ownerWriteRead))})
	if err == nil {
		_, _, err = c.run(t.Context(), call{code: write, handles: []object{fixed(handleOwner), fixed(index)}, auths: emptyAuth(),
			params: put16(putSized(nil, put16(nil, algSHA256), super[:]), 0)})
	}
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
