package tpm2

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	unified "github.com/lockport/lockport/tpm2/uki"
)

func vectorSigner(t testing.TB) *PolicySigner {
	t.Helper()
	text := secret.Copy(vector(t, "pcr-signing-key.pem"))
	defer text.Wipe()
	s, err := ParsePolicySigner(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// vectorStates are PCR 11 of the vectors' image, in phases.
func vectorStates(t *testing.T, bank string, phases ...string) []PCRState {
	t.Helper()
	var v struct {
		Sections map[string]string `json:"uki_sections"`
	}
	if err := json.Unmarshal(vector(t, "vectors.json"), &v); err != nil {
		t.Fatal(err)
	}
	var sections []unified.Section
	for name, content := range v.Sections {
		if name != "phase" {
			sections = append(sections, unified.Section{Name: name, Content: strings.NewReader(content)})
		}
	}
	m, err := unified.Measure(t.Context(), sections, bank)
	if err != nil {
		t.Fatal(err)
	}
	var states []PCRState
	for _, phase := range phases {
		value, err := m.PCR11(bank, unified.ParsePhase(phase))
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, PCRState{bank, map[int][]byte{unified.PCR: value}})
	}
	return states
}

// TestSignVector writes what systemd-measure wrote, byte for byte.
func TestSignVector(t *testing.T) {
	t.Parallel()
	s := vectorSigner(t)
	want := string(vector(t, "tpm2-pcr-signature.json"))
	got, err := s.Sign(vectorStates(t, "sha256", "enter-initrd", "enter-initrd:leave-initrd"), nil, nil)
	if diff := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(string(got))); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	again, err := s.Sign(vectorStates(t, "sha256", "enter-initrd:leave-initrd", "enter-initrd"), nil, got)
	if err != nil || string(again) != string(got) {
		t.Errorf("signing again: %v\n%s", err, again)
	}
}

// TestSignUnlocks has a TPM take the signatures, one of them with a reference.
func TestSignUnlocks(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	ref := "our fleet"
	for _, r := range []*string{nil, &ref} {
		text, err := vectorSigner(t).Sign(vectorStates(t, "sha256", "enter-initrd"), r, []byte(`{"sha1":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "signature.json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		e := &Enroller{Open: opener(tpm), PublicKey: vector(t, "pcr-signing-pub.pem"), SignedPCRs: []int{11}, PolicyRef: r, Signatures: []string{file}}
		pass, token, err := e.Enroll(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		k := keyFor(tpm)
		k.Signatures = []string{file}
		got, err := k.Unlock(t.Context(), token, nil)
		if err != nil || !got.Equal(pass) {
			t.Error(err)
		}
		got.Wipe()
		pass.Wipe()
	}
}

func TestSignAppends(t *testing.T) {
	t.Parallel()
	s := vectorSigner(t)
	// Another's entry, with members that nobody knows, stays as it is.
	existing := `{"sha256":[{"pcrs":[7],"new":"<&>","n":12345678901234567890}],"sm3":[{"x":1}],"sha1":[]}`
	got, err := s.Sign(vectorStates(t, "sha256", "a", "a"), nil, []byte(existing))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string][]json.RawMessage
	if err := json.Unmarshal(got, &m); err != nil {
		t.Fatal(err)
	}
	if len(m["sha256"]) != 2 || string(m["sha256"][0]) != `{"pcrs":[7],"new":"<&>","n":12345678901234567890}` ||
		len(m["sm3"]) != 1 || m["sha1"] == nil {
		t.Errorf("%s", got)
	}
	// The same entry is known however it is written.
	var loose any
	if err := json.Unmarshal(m["sha256"][1], &loose); err != nil {
		t.Fatal(err)
	}
	spaced, err := json.MarshalIndent(map[string]any{"sha256": []any{loose}}, " ", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if got, err = s.Sign(vectorStates(t, "sha256", "a"), nil, spaced); err != nil || strings.Count(string(got), "pkfp") != 1 {
		t.Errorf("%v: %s", err, got)
	}
	empty := ""
	if got, err = s.Sign(vectorStates(t, "sha256", "a"), &empty, nil); err != nil || strings.Contains(string(got), `"ref"`) {
		t.Errorf("%v: %s", err, got)
	}
	for _, bad := range []string{"", "null", "[]", `{"sha256":{}}`, `{"sha256":[1]}`, `{"sha256":[]} x`, `"` + strings.Repeat("x", maxPolicyFile) + `"`} {
		if got, err := s.Sign(nil, nil, []byte(bad)); err == nil || got != nil || !strings.HasPrefix(err.Error(), "existing signatures: ") {
			t.Errorf("%.20s: %v", bad, err)
		}
	}
}

func TestSignRefusesStates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state PCRState
		want  string
	}{
		{PCRState{"md5", map[int][]byte{11: make([]byte, 16)}}, `PCR bank "md5"`},
		{PCRState{"sha256", nil}, "a state of no PCRs"},
		{PCRState{"sha256", map[int][]byte{11: make([]byte, 20)}}, "PCR 11 with a value of 20 bytes in bank sha256"},
		{PCRState{"sha1", map[int][]byte{24: make([]byte, 20)}}, "PCR 24 with"},
		{PCRState{"sha1", map[int][]byte{-1: make([]byte, 20)}}, "PCR -1 with"},
	} {
		if got, err := vectorSigner(t).Sign([]PCRState{c.state}, nil, nil); err == nil || got != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, not %s", err, c.want)
		}
	}
}

func pemOf(kind string, der []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestPolicySignerKeys(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pemOf("PRIVATE KEY", der, err)
	}
	ecDER, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	good := vectorSigner(t).key.(*rsa.PrivateKey)
	pkcs1 := pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(good), nil)
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text, want string
		is         error
	}{
		{"", "no private key in PEM form", nil},
		{string(vector(t, "pcr-signing-pub.pem")), "no private key in PEM form", nil},
		{string(vector(t, "pcr-signing-pub.pem")) + pkcs1, "", nil},
		{pkcs1, "", nil},
		{pkcs8(good), "", nil},
		{pkcs8(small), "RSA key of 1024 bits, PCR policies are signed with 2048 or more", luks2.ErrUnsupported},
		{pkcs8(ec), "ECDSA key; PCR policies are signed with RSA", luks2.ErrUnsupported},
		{pemOf("EC PRIVATE KEY", ecDER, nil), "ECDSA key; PCR policies are signed with RSA", luks2.ErrUnsupported},
		{pkcs8(ed), "ED25519 key", luks2.ErrUnsupported},
		{pkcs8(x25519), "which does not sign", luks2.ErrUnsupported},
		{pemOf("OPENSSH PRIVATE KEY", []byte("x"), nil), `PEM file with "OPENSSH PRIVATE KEY"`, luks2.ErrUnsupported},
		{pemOf("ENCRYPTED PRIVATE KEY", []byte("x"), nil), "the private key is encrypted", ErrEncryptedKey},
		{strings.Replace(pkcs1, "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1), "the private key is encrypted", ErrEncryptedKey},
		{pemOf("PRIVATE KEY", []byte("x"), nil), "private key: ", nil},
	} {
		text := secret.Copy([]byte(c.text))
		s, err := ParsePolicySigner(text)
		text.Wipe()
		if c.want == "" {
			if err != nil || !s.public.Equal(&good.PublicKey) {
				t.Errorf("%.40s: %v", c.text, err)
			}
			continue
		}
		if err == nil || s != nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%.40s: %v, not %s", c.text, err, c.want)
		}
	}
}

func TestPolicySignerMatches(t *testing.T) {
	t.Parallel()
	s := vectorSigner(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		return pemOf("PUBLIC KEY", der, err)
	}
	cert := func(public, private any) string {
		c := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, c, c, public, private)
		return pemOf("CERTIFICATE", der, err)
	}
	mine := s.key.(*rsa.PrivateKey)
	for _, c := range []struct{ text, want string }{
		{string(vector(t, "pcr-signing-pub.pem")), ""},
		{cert(&mine.PublicKey, mine), ""},
		{public(&other.PublicKey), ErrOtherKey.Error()},
		{cert(&other.PublicKey, other), ErrOtherKey.Error()},
		{public(&ec.PublicKey), "PCR policies are signed with RSA"},
		{cert(&ec.PublicKey, ec), "certificate of an ECDSA key"},
		{pemOf("CERTIFICATE", []byte("x"), nil), "certificate: "},
		{"x", "no public key in PEM form"},
	} {
		err := s.Matches([]byte(c.text))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.60s: %v, not %s", c.text, err, c.want)
		}
	}
}
