package tpm2

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// maxPolicyFile bounds signature and pcrlock files, in bytes.
const maxPolicyFile = 4 << 20

// signatures is a PCR signature file: by bank, the policies that were signed.
// Format: systemd, src/measure.
type signatures map[string][]signatureEntry

type signatureEntry struct {
	PCRs []int   `json:"pcrs"`
	Key  string  `json:"pkfp"` // fingerprint of the key
	Pol  string  `json:"pol"`
	Sig  []byte  `json:"sig"`
	Ref  *string `json:"ref"`
}

func parseSignatures(text []byte) (signatures, error) {
	if len(text) > maxPolicyFile {
		return nil, fmt.Errorf("%d bytes", len(text))
	}
	var banks map[string][]signatureEntry
	if err := json.Unmarshal(text, &banks); err != nil {
		return nil, err
	}
	return banks, nil
}

// fingerprint is how the file names a key.
func fingerprint(key *rsa.PublicKey) []byte {
	sum := sha256.Sum256(x509.MarshalPKCS1PublicKey(key))
	return sum[:]
}

// find returns the signature of a policy. Entries that lack a member match
// nothing.
func (s signatures) find(bank string, pcrs []int, key *rsa.PublicKey, pol digest, ref *string) ([]byte, bool) {
	fp := fingerprint(key)
	for _, e := range s[bank] {
		list := slices.Clone(e.PCRs)
		slices.Sort(list)
		if slices.Equal(slices.Compact(list), pcrs) && hexEqual(e.Key, fp) && hexEqual(e.Pol, pol[:]) &&
			len(e.Sig) == key.Size() && sameRef(e.Ref, ref) {
			return e.Sig, true
		}
	}
	return nil, false
}

func sameRef(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func hexEqual(text string, want []byte) bool {
	got, err := hex.DecodeString(text)
	return err == nil && bytes.Equal(got, want)
}
