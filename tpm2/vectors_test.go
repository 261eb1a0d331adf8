package tpm2

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/secret/secrettest"
)

func TestMain(m *testing.M) {
	victim()
	secrettest.Main(m)
}

const vectorDir = "../testdata/vectors"

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type sampleVolume struct {
	Slots       map[string]string `json:"slots"`
	Passphrases map[string]string `json:"slot_passphrases"`
}

type vectorsFile struct {
	V252     sampleVolume      `json:"v252"`
	V257     sampleVolume      `json:"v257"`
	V257b    sampleVolume      `json:"v257b"`
	Policies map[string]string `json:"policy_digests"`
	PCRs     map[string]map[string]struct{ Event, SHA256 string }
	Signer   struct{ Name, PKFP string } `json:"signing_key"`
	SRKName  string                      `json:"srk_B_name"`
}

func readVectors(t testing.TB) vectorsFile {
	t.Helper()
	var v vectorsFile
	if err := json.Unmarshal(vector(t, "vectors.json"), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// sampleToken is one token that systemd wrote.
type sampleToken struct {
	volume string
	slot   string
	text   json.RawMessage
}

func sampleTokens(t testing.TB) []sampleToken {
	t.Helper()
	var list []sampleToken
	for _, volume := range []string{"v252", "v257", "v257b"} {
		var meta struct {
			Tokens map[string]json.RawMessage `json:"tokens"`
		}
		if err := json.Unmarshal(vector(t, volume+".metadata.json"), &meta); err != nil {
			t.Fatal(err)
		}
		for i := range len(meta.Tokens) {
			text := meta.Tokens[strconv.Itoa(i)]
			var head struct {
				Type     string
				Keyslots []string
			}
			if err := json.Unmarshal(text, &head); err != nil {
				t.Fatal(err)
			}
			if head.Type == TokenType {
				list = append(list, sampleToken{volume, head.Keyslots[0], text})
			}
		}
	}
	return list
}

func findSample(t testing.TB, volume, slot string) *Token {
	t.Helper()
	for _, s := range sampleTokens(t) {
		if s.volume == volume && s.slot == slot {
			tok, err := ParseToken(s.text)
			if err != nil {
				t.Fatal(err)
			}
			return tok
		}
	}
	t.Fatalf("no token for slot %s of %s", slot, volume)
	return nil
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRoundTrip reads each token of the originals and writes it again: what 257
// wrote comes out the same, but for the keyslots, which the header fills in.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	samples := sampleTokens(t)
	if len(samples) != 13 {
		t.Fatalf("%d sample tokens", len(samples))
	}
	for _, s := range samples {
		tok, err := ParseToken(s.text)
		if err != nil {
			t.Errorf("%s slot %s: %v", s.volume, s.slot, err)
			continue
		}
		out, err := json.Marshal(tok)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range tok.Blobs {
			if parsed, err := parseBlob(b); err != nil || !bytes.Equal(parsed.marshal(), b) {
				t.Errorf("%s slot %s: the blob changes: %v", s.volume, s.slot, err)
			}
		}
		if s.volume == "v252" {
			continue // wrote members that 257 leaves out
		}
		if got, want := members(t, out), members(t, s.text); !equalMembers(got, want) {
			t.Errorf("%s slot %s:\n got %v\nwant %v", s.volume, s.slot, got, want)
		}
	}
}

func members(t *testing.T, text []byte) map[string]string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for k, v := range m {
		if k != "keyslots" {
			var b bytes.Buffer
			if err := json.Compact(&b, v); err != nil {
				t.Fatal(err)
			}
			out[k] = b.String()
		}
	}
	return out
}

func equalMembers(a, b map[string]string) bool {
	for k := range a {
		if a[k] != b[k] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestParseTokenVersions(t *testing.T) {
	t.Parallel()
	base := findSample(t, "v257", "4")
	text, err := json.Marshal(base)
	if err != nil {
		t.Fatal(err)
	}
	with := func(changes ...any) json.RawMessage {
		var m map[string]any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(changes); i += 2 {
			if changes[i+1] == nil {
				delete(m, changes[i].(string))
			} else {
				m[changes[i].(string)] = changes[i+1]
			}
		}
		out, _ := json.Marshal(m)
		return out
	}
	const noPIN, salt = "tpm2-pin", "tpm2_salt"
	cases := []struct {
		name, wrong string
		text        json.RawMessage
	}{
		{"248", "", with("tpm2-pcr-bank", nil, "tpm2-primary-alg", nil, noPIN, nil, salt, nil, "tpm2_srk", nil)},
		{"250", "", with(noPIN, nil, salt, nil, "tpm2_srk", nil)},
		{"251, 252", "", with(salt, nil, "tpm2_srk", nil)},
		{"253", "", with("tpm2_srk", nil)},
		{"254, 255", "", with(noPIN, false, salt, nil)},
		{"algorithms in capitals", "", with("tpm2-pcr-bank", "SHA256", "tpm2-primary-alg", "Ecc")},
		{"257, one shard in a list", "", with("tpm2-blob", []string{base64.StdEncoding.EncodeToString(base.Blobs[0])},
			"tpm2-policy-hash", []string{hex.EncodeToString(base.Policies[0])})},
		{"262", "", with("tpm2_argon2id_memcost", 64<<20, "tpm2_argon2id_iterations", 8, "tpm2_argon2id_lanes", 4, "tpm2_pubkey_ref", "x")},
		{"somebody else's member", "", with("lockport", "x")},
		{"unknown condition", `member "tpm2_future"`, with("tpm2_future", 1)},
		{"other type", "is not systemd-tpm2", with("type", "systemd-fido2")},
		{"no blob", `no member "tpm2-blob"`, with("tpm2-blob", nil)},
		{"no policy", `no member "tpm2-policy-hash"`, with("tpm2-policy-hash", nil)},
		{"no PCRs", `no member "tpm2-pcrs"`, with("tpm2-pcrs", nil)},
		{"PCR 24", "there is no PCR 24", with("tpm2-pcrs", []int{24})},
		{"PCR twice", "PCR 7 is given twice", with("tpm2-pcrs", []int{7, 7})},
		{"bank", `member "tpm2-pcr-bank"`, with("tpm2-pcr-bank", "md5")},
		{"short policy", "digest of 2 bytes", with("tpm2-policy-hash", "00ff")},
		{"two shards for one policy", "2 shards where the policy needs 1", with("tpm2-blob",
			[]string{base64.StdEncoding.EncodeToString(base.Blobs[0]), base64.StdEncoding.EncodeToString(base.Blobs[0])},
			"tpm2-policy-hash", []string{strings.Repeat("0", 64), strings.Repeat("0", 64)})},
		{"half of argon2id", "are not complete", with("tpm2_argon2id_memcost", 64<<20)},
		{"too much memory", `member "tpm2_argon2id_memcost"`, with("tpm2_argon2id_memcost", 1<<40)},
		{"signed without key", `no member "tpm2_pubkey"`, with("tpm2_pubkey_pcrs", []int{11})},
		{"damaged blob", `member "tpm2-blob"`, with("tpm2-blob", "AAAA")},
		{"damaged parent", `member "tpm2_srk"`, with("tpm2_srk", "AAAA")},
		{"null", `member "tpm2-pin": is null`, json.RawMessage(strings.Replace(string(text), `"tpm2-pin":true`, `"tpm2-pin":null`, 1))},
		{"two keyslots", "more than one keyslot", with("keyslots", []string{"1", "2"})},
	}
	for _, c := range cases {
		tok, err := ParseToken(c.text)
		switch {
		case c.wrong == "" && (err != nil || tok == nil):
			t.Errorf("%s: %v", c.name, err)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.wrong)
		}
	}
	if _, err := ParseToken(with("tpm2_future", 1)); !errors.Is(err, luks2.ErrUnsupported) {
		t.Errorf("an unknown condition is not ErrUnsupported: %v", err)
	}
}

// TestPolicies computes every digest that was seen on volumes of the originals.
func TestPolicies(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	key, err := parseSigner(vector(t, "pcr-signing-pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	lock, err := parsePCRLock(vector(t, "pcrlock.json"))
	if err != nil {
		t.Fatal(err)
	}
	values := func(tpm string) map[int][]byte {
		m := map[int][]byte{}
		for n, p := range v.PCRs[tpm] {
			if i, err := strconv.Atoi(n); err == nil {
				m[i] = unhex(t, p.SHA256)
			}
		}
		return m
	}
	a, b := values("A"), values("B")
	signer := objectName(signerPublic(key, defaultExponent))
	signed := policyAuthorize(signer, nil)
	locked := policyAuthorizeNV(lock.nv.name)
	_, super := lock.steps()
	got := map[string]digest{
		"A PolicyPCR(7)":                                                digest{}.policyPCR(algSHA256, []int{7}, a),
		"A PolicyPCR(7)+AuthValue":                                      digest{}.policyPCR(algSHA256, []int{7}, a).policyAuthValue(),
		"PolicyAuthorize(signing key)":                                  signed,
		"A Authorize+PCR(0,7)+AuthValue":                                signed.policyPCR(algSHA256, []int{0, 7}, a).policyAuthValue(),
		"B Authorize+PCR(0,7)+AuthValue":                                signed.policyPCR(algSHA256, []int{0, 7}, b).policyAuthValue(),
		"PolicyAuthorize(signing key, exponent field 0: early-255 bug)": policyAuthorize(objectName(signerPublic(key, 0)), nil),
		"PolicyPCR(11) = pol":                                           digest{}.policyPCR(algSHA256, []int{11}, a),
		"PolicyAuthorizeNV(nv of B)":                                    locked,
		"B AuthorizeNV+PCR(7)+AuthValue":                                locked.policyPCR(algSHA256, []int{7}, b).policyAuthValue(),
		"super PCR (1,2,3 zero) = NV content behind 000b":               super,
	}
	for name, want := range v.Policies {
		if d, ok := got[name]; !ok || hex.EncodeToString(d[:]) != want {
			t.Errorf("%s: got %x (%v), want %s", name, d, ok, want)
		}
	}
	if hex.EncodeToString(signer) != v.Signer.Name || hex.EncodeToString(fingerprint(key)) != v.Signer.PKFP {
		t.Errorf("name %x, fingerprint %x", signer, fingerprint(key))
	}
	_, srk, err := recordedParent(findSample(t, "v257", "3").SRK)
	if err != nil || hex.EncodeToString(srk.name()) != v.SRKName {
		t.Errorf("name of the parent: %v, %v", srk, err)
	}
	if public := vector(t, "srk-B.tpm2b_public"); !bytes.Equal(public[2:], srk.raw) {
		t.Error("the parent is not the one that was exported")
	}
	if !lock.fits(findSample(t, "v257b", "1")) {
		t.Error("the pcrlock policy does not fit the token that was made with it")
	}
	other := findSample(t, "v257b", "1")
	other.PCRLockNV[3]++
	if lock.fits(other) {
		t.Error("the pcrlock policy fits a token with another NV index")
	}
}

// TestPolicyOR checks the order of a pcrlock policy with several values against
// the definition, written out.
func TestPolicyOR(t *testing.T) {
	t.Parallel()
	var in map[string]any
	if err := json.Unmarshal(vector(t, "pcrlock.json"), &in); err != nil {
		t.Fatal(err)
	}
	zero, one := strings.Repeat("00", 32), strings.Repeat("11", 32)
	in["pcrValues"] = []any{
		map[string]any{"pcr": 4, "values": []string{one, zero}},
		map[string]any{"pcr": 2, "values": []string{zero}},
		map[string]any{"pcr": 1, "values": []string{one}},
	}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := parsePCRLock(text)
	if err != nil {
		t.Fatal(err)
	}
	steps, got := lock.steps()
	z, o := make([]byte, 32), bytes.Repeat([]byte{0x11}, 32)
	d := digest{}.extend(ccPolicyPCR, selection(algSHA256, []int{1, 2}), pcrDigest([]int{1, 2}, map[int][]byte{1: o, 2: z}))
	b1 := d.extend(ccPolicyPCR, selection(algSHA256, []int{4}), pcrDigest([]int{4}, map[int][]byte{4: o}))
	b2 := d.extend(ccPolicyPCR, selection(algSHA256, []int{4}), pcrDigest([]int{4}, map[int][]byte{4: z}))
	if want := (digest{}).extend(ccPolicyOR, b1[:], b2[:]); got != want || len(steps) != 2 {
		t.Errorf("got %x after %d steps, want %x", got, len(steps), want)
	}
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	s, err := parseSignatures(vector(t, "tpm2-pcr-signature.json"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := parseSigner(vector(t, "pcr-signing-pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pol := digest(unhex(t, readVectors(t).Policies["PolicyPCR(11) = pol"]))
	ref := "x"
	for _, c := range []struct {
		name string
		bank string
		pcrs []int
		pol  digest
		ref  *string
		want bool
	}{
		{"the signed one", "sha256", []int{11}, pol, nil, true},
		{"other bank", "sha1", []int{11}, pol, nil, false},
		{"other PCRs", "sha256", []int{11, 12}, pol, nil, false},
		{"other state", "sha256", []int{11}, digest{}, nil, false},
		{"other reference", "sha256", []int{11}, pol, &ref, false},
	} {
		if _, ok := s.find(c.bank, c.pcrs, key, c.pol, c.ref); ok != c.want {
			t.Errorf("%s: %v", c.name, ok)
		}
	}
}

func TestPINKeys(t *testing.T) {
	t.Parallel()
	pin := secret.Copy([]byte("246810"))
	defer pin.Wipe()
	// RFC 7914 §11: PBKDF2-HMAC-SHA256("passwd", "salt", 1, 64), first block.
	pass := secret.Copy([]byte("passwd"))
	defer pass.Wipe()
	k := pbkdf2(pass, []byte("salt"), 1)
	defer k.Wipe()
	if got := hex.EncodeToString(k.Reveal()); got != "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc" {
		t.Errorf("PBKDF2: %s", got)
	}
	// A text whose hash ends in a zero byte is trimmed, one with a zero inside is not.
	for i, seen := 0, 0; seen < 1; i++ {
		text := secret.Copy([]byte(strconv.Itoa(i)))
		a := authValue(text)
		if a.Len() < digestSize {
			seen++
			if a.Len() == 0 || a.Reveal()[a.Len()-1] == 0 {
				t.Errorf("text %d: not trimmed to its end", i)
			}
		}
		text.Wipe()
		a.Wipe()
	}
	tok := &Token{Salt: make([]byte, 32), Argon2: &PINCost{Memory: 64 << 10, Iterations: 2, Lanes: 2}}
	keys, err := tok.pinKeys(context.Background(), pin)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.wipe()
	if keys.lock.Len() != 32 || keys.auth.Len() == 0 {
		t.Error("argon2id gives no two keys")
	}
	for _, bad := range []string{"", "1\x002"} {
		s := secret.Copy([]byte(bad))
		if _, err := (&Token{}).pinKeys(context.Background(), s); !errors.Is(err, ErrPIN) {
			t.Errorf("PIN %q: %v", bad, err)
		}
		s.Wipe()
	}
}

func TestParsePCRs(t *testing.T) {
	t.Parallel()
	zero := strings.Repeat("00", 32)
	got, err := ParsePCRs("7+secure-boot-policy,11:sha256=" + zero + "+23:SHA1")
	if err != nil || len(got) != 4 || got[1].Index != 7 || got[2].Bank != "sha256" || len(got[2].Value) != 32 || got[3].Bank != "sha1" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParsePCRs(""); err != nil || got == nil || len(got) != 0 {
		t.Errorf("empty: %v, %v", got, err)
	}
	for _, bad := range []string{"24", "-1", "foo", "7:md5", "7:sha256=00", "7=0011", "7:sha256=zz", ":sha256"} {
		if _, err := ParsePCRs(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
