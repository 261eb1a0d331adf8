package tpm2

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lockport/lockport/luks2"
)

// maxBranches is how many policies a TPM joins in one PolicyOR.
const maxBranches = 8

// pcrLock is a pcrlock policy: which values each PCR may have, and the NV index
// that vouches for it. Format: systemd, src/pcrlock.
type pcrLock struct {
	bank    bank
	allowed map[int][][]byte
	nv      *handleRecord
	srk     []byte // serialised parent
}

type pcrLockText struct {
	Bank   string `json:"pcrBank"`
	Values []struct {
		PCR    *int     `json:"pcr"`
		Values []string `json:"values"`
	} `json:"pcrValues"`
	Index  uint32 `json:"nvIndex"`
	Handle []byte `json:"nvHandle"`
	Public []byte `json:"nvPublic"`
	SRK    []byte `json:"srkHandle"`
}

func parsePCRLock(text []byte) (*pcrLock, error) {
	if len(text) > maxPolicyFile {
		return nil, fmt.Errorf("%d bytes", len(text))
	}
	var in pcrLockText
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	p := &pcrLock{allowed: map[int][][]byte{}, srk: in.SRK}
	var err error
	if p.bank, err = bankByName(in.Bank); err != nil {
		return nil, err
	}
	if p.nv, err = parseHandleRecord(in.Handle, resourceNV); err != nil {
		return nil, fmt.Errorf("member \"nvHandle\": %w", err)
	}
	if _, _, err := recordedParent(in.SRK); err != nil {
		return nil, fmt.Errorf("member \"srkHandle\": %w", err)
	}
	if name, err := nvName(p.nv.public); err != nil || p.nv.handle != in.Index || !bytes.Equal(name, p.nv.name) {
		return nil, errors.Join(errors.New("members \"nvIndex\" and \"nvHandle\" differ"), err)
	}
	for _, v := range in.Values {
		if v.PCR == nil {
			return nil, errors.New("member \"pcrValues\" without \"pcr\"")
		}
		if err := p.allow(*v.PCR, v.Values); err != nil {
			return nil, fmt.Errorf("PCR %d: %w", *v.PCR, err)
		}
	}
	return p, nil
}

func (p *pcrLock) allow(pcr int, values []string) error {
	if _, twice := p.allowed[pcr]; twice || pcr < 0 || pcr > maxPCR {
		return errors.New("given twice, or no such PCR")
	}
	if len(values) == 0 || len(values) > maxBranches {
		return fmt.Errorf("%w: %d permitted values", luks2.ErrUnsupported, len(values))
	}
	for _, text := range values {
		v, err := hex.DecodeString(text)
		if err != nil {
			return err
		}
		if len(v) != p.bank.size {
			return fmt.Errorf("value of %d bytes", len(v))
		}
		p.allowed[pcr] = append(p.allowed[pcr], v)
	}
	return nil
}

// step is one PolicyPCR and, where a PCR may have several values, the PolicyOR
// after it.
type step struct {
	pcrs     []int
	branches []digest
}

// steps lists what a session has to go through, and the digest at the end, which
// the NV index holds: first all PCRs with one value, then each of the others.
func (p *pcrLock) steps() ([]step, digest) {
	var list []step
	var d digest
	single, values := []int{}, map[int][]byte{}
	for _, n := range sortedPCRs(p.allowed) {
		if len(p.allowed[n]) == 1 {
			single = append(single, n)
			values[n] = p.allowed[n][0]
		}
	}
	if len(single) > 0 {
		list = append(list, step{pcrs: single})
		d = d.policyPCR(p.bank.alg, single, values)
	}
	for _, n := range sortedPCRs(p.allowed) {
		if len(p.allowed[n]) == 1 {
			continue
		}
		s := step{pcrs: []int{n}}
		for _, v := range p.allowed[n] {
			s.branches = append(s.branches, d.policyPCR(p.bank.alg, s.pcrs, map[int][]byte{n: v}))
		}
		list = append(list, s)
		d = policyOR(s.branches)
	}
	return list, d
}

// fits tells whether the policy is the one that the token was enrolled with.
func (p *pcrLock) fits(t *Token) bool {
	return (t.PCRLockNV == nil || sameRecord(t.PCRLockNV, p.nv.marshal(), resourceNV)) &&
		(t.SRK == nil || sameRecord(t.SRK, p.srk, resourceKey))
}

// sameRecord tells whether two serialised handles are of the same object.
func sameRecord(a, b []byte, kind uint32) bool {
	x, err := parseHandleRecord(a, kind)
	if err != nil {
		return false
	}
	y, err := parseHandleRecord(b, kind)
	return err == nil && x.handle == y.handle && bytes.Equal(x.name, y.name)
}
