package tpm2

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/lockport/lockport/luks2"
)

// Bounds of a token. What systemd writes is far below.
const (
	maxToken  = 256 << 10 // the whole of it, in bytes
	maxShards = 8
	maxPCR    = 23
	maxMemory = 4 << 30 // of the PIN's derivation, in bytes, as for keyslots
	maxPasses = 1 << 20
	maxLanes  = 64
	saltSize  = 32
)

// Token is the content of a systemd-tpm2 token. Its members are those of the
// JSON text; format: systemd, src/shared/cryptsetup-tpm2.
type Token struct {
	Blobs      [][]byte // one per shard
	Policies   [][]byte // the policy digest of each shard; zeros for none
	PCRs       []int    // bound literally, ascending
	Bank       string   // of all PCRs, "" where not recorded
	PrimaryAlg string   // "ecc" or "rsa"
	PIN        bool
	Salt       []byte // of the PIN; nil before systemd 253
	Argon2     *PINCost
	PublicKey  []byte // PEM text of the key that signs PCR policies; nil for none
	SignedPCRs []int
	PolicyRef  *string // what signatures have to refer to; nil for nothing
	SRK        []byte  // the parent, serialised; nil before systemd 254
	PCRLock    bool
	PCRLockNV  []byte // the NV index, serialised; nil before systemd 256

	Record *Record // our own; nil for none
}

// PINCost is what deriving a key from the PIN with argon2id takes (systemd 262).
type PINCost struct {
	Memory     uint64 // bytes
	Iterations uint32
	Lanes      uint32
}

// WantsPIN tells whether a token asks for a PIN. One that can't be read does not.
func WantsPIN(text json.RawMessage) bool {
	t, err := ParseToken(text)
	return err == nil && t.PIN
}

// ParseToken reads a token. It refuses what it cannot honour by the member's
// name with an error wrapping luks2.ErrUnsupported: a member of the TPM's that is
// unknown may be a condition. Unknown members of others are passed over.
func ParseToken(text json.RawMessage) (*Token, error) {
	t, err := parseToken(text)
	if err != nil {
		return nil, fmt.Errorf("systemd-tpm2 token: %w", err)
	}
	return t, nil
}

func parseToken(text json.RawMessage) (*Token, error) {
	members, err := luks2.Members(text, maxToken)
	if err != nil {
		return nil, err
	}
	t := &Token{}
	cost := PINCost{}
	fields := t.fields(&cost)
	for name := range members {
		if _, known := fields[name]; !known && strings.HasPrefix(name, "tpm2") {
			return nil, fmt.Errorf("%w: member %q", luks2.ErrUnsupported, name)
		}
	}
	for name, read := range fields {
		if value, ok := members[name]; ok {
			if err := read(value); err != nil {
				return nil, fmt.Errorf("member %q: %w", name, err)
			}
		}
	}
	for _, name := range []string{"type", "tpm2-pcrs", "tpm2-blob", "tpm2-policy-hash"} {
		if _, ok := members[name]; !ok {
			return nil, fmt.Errorf("no member %q", name)
		}
	}
	if cost != (PINCost{}) {
		t.Argon2 = &cost
	}
	if text, ok := members[recordMember]; ok {
		t.Record = readRecord(text)
	}
	return t, t.check()
}

// fields lists what is known, and how to read it.
func (t *Token) fields(cost *PINCost) map[string]func(json.RawMessage) error {
	var lanes, passes uint64
	return map[string]func(json.RawMessage) error{
		"type":                     readType,
		"keyslots":                 readKeyslots,
		"tpm2-blob":                shards(&t.Blobs, decodeBase64),
		"tpm2-policy-hash":         shards(&t.Policies, hex.DecodeString),
		"tpm2-pcrs":                pcrs(&t.PCRs),
		"tpm2-pcr-bank":            name(&t.Bank, "sha1", "sha256", "sha384", "sha512"),
		"tpm2-primary-alg":         name(&t.PrimaryAlg, "ecc", "rsa"),
		"tpm2-pin":                 plain(&t.PIN),
		"tpm2_salt":                bytesOf(&t.Salt),
		"tpm2_pubkey":              bytesOf(&t.PublicKey),
		"tpm2_pubkey_pcrs":         pcrs(&t.SignedPCRs),
		"tpm2_pubkey_ref":          plain(&t.PolicyRef),
		"tpm2_srk":                 bytesOf(&t.SRK),
		"tpm2_pcrlock":             plain(&t.PCRLock),
		"tpm2_pcrlock_nv":          bytesOf(&t.PCRLockNV),
		"tpm2_argon2id_memcost":    number(&cost.Memory, maxMemory, func(uint64) {}),
		"tpm2_argon2id_iterations": number(&passes, maxPasses, func(n uint64) { cost.Iterations = uint32(n) }),
		"tpm2_argon2id_lanes":      number(&lanes, maxLanes, func(n uint64) { cost.Lanes = uint32(n) }),
	}
}

// check refuses what does not fit together.
func (t *Token) check() error {
	for i, b := range t.Blobs {
		if _, err := parseBlob(b); err != nil {
			return fmt.Errorf("member \"tpm2-blob\", number %d: %w", i, err)
		}
	}
	for _, p := range t.Policies {
		if len(p) != digestSize {
			return fmt.Errorf("member \"tpm2-policy-hash\": digest of %d bytes", len(p))
		}
	}
	if len(t.Blobs) != len(t.Policies) {
		return fmt.Errorf("%d blobs for %d policies", len(t.Blobs), len(t.Policies))
	}
	// Only a signed policy and pcrlock together need a second shard.
	want := 1
	if len(t.SignedPCRs) > 0 && t.PCRLock {
		want = 2
	}
	if len(t.Blobs) != want {
		return fmt.Errorf("%w: %d shards where the policy needs %d", luks2.ErrUnsupported, len(t.Blobs), want)
	}
	if t.SRK != nil {
		if _, _, err := recordedParent(t.SRK); err != nil {
			return fmt.Errorf("member \"tpm2_srk\": %w", err)
		}
	}
	if t.PCRLockNV != nil {
		if _, err := parseHandleRecord(t.PCRLockNV, resourceNV); err != nil {
			return fmt.Errorf("member \"tpm2_pcrlock_nv\": %w", err)
		}
	}
	return errors.Join(t.checkPIN(), t.checkSigner())
}

func (t *Token) checkPIN() error {
	if t.Argon2 != nil && (!t.PIN || t.Salt == nil || t.Argon2.Iterations == 0 || t.Argon2.Lanes == 0 ||
		t.Argon2.Memory < uint64(8*1024*t.Argon2.Lanes)) {
		return errors.New("the members \"tpm2_argon2id_…\" are not complete")
	}
	if t.Salt != nil && len(t.Salt) == 0 {
		return errors.New("member \"tpm2_salt\" is empty")
	}
	return nil
}

func (t *Token) checkSigner() error {
	if len(t.SignedPCRs) > 0 {
		if t.PublicKey == nil {
			return errors.New("no member \"tpm2_pubkey\"")
		}
		if _, err := t.signer(); err != nil {
			return fmt.Errorf("member \"tpm2_pubkey\": %w", err)
		}
	}
	return nil
}

// signer returns the key that signs PCR policies.
func (t *Token) signer() (*rsa.PublicKey, error) { return parseSigner(t.PublicKey) }

// parseSigner reads a PEM file with a public key. The TPM is only ever asked to
// check RSASSA signatures, so a key of another kind could never unlock.
func parseSigner(text []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("no public key in PEM form")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	k, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: key of type %T; PCR policies are signed with RSA", luks2.ErrUnsupported, key)
	}
	if err := checkSigner(k); err != nil {
		return nil, err
	}
	return k, nil
}

// checkSigner refuses keys that no TPM could take.
func checkSigner(k *rsa.PublicKey) error {
	if k.Size() > 512 || k.E <= 0 || int64(k.E) > 1<<32-1 {
		return fmt.Errorf("%w: RSA key of %d bits", luks2.ErrUnsupported, 8*k.Size())
	}
	return nil
}

// parent returns the recorded parent, nil for tokens that record none.
func (t *Token) parent() (uint32, *parent, error) {
	if t.SRK == nil {
		return 0, nil, nil
	}
	return recordedParent(t.SRK)
}
