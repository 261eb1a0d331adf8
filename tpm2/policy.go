package tpm2

import (
	"crypto/rsa"
	"crypto/sha256"
	"slices"
)

// Command codes that are part of policy digests or of the conversation.
const (
	ccEvictControl      = 0x120
	ccNVRead            = 0x14e
	ccCreatePrimary     = 0x131
	ccCreate            = 0x153
	ccImport            = 0x156
	ccLoad              = 0x157
	ccUnseal            = 0x15e
	ccFlushContext      = 0x165
	ccLoadExternal      = 0x167
	ccPolicyAuthorize   = 0x16a
	ccPolicyAuthValue   = 0x16b
	ccPolicyOR          = 0x171
	ccReadPublic        = 0x173
	ccStartAuthSession  = 0x176
	ccNVReadPublic      = 0x169
	ccVerifySignature   = 0x177
	ccGetCapability     = 0x17a
	ccPCRRead           = 0x17e
	ccPolicyPCR         = 0x17f
	ccPCRExtend         = 0x182
	ccPolicyGetDigest   = 0x189
	ccPolicyAuthorizeNV = 0x192
)

// digest is the state of a policy session: part 3, chapter 23.
type digest [digestSize]byte

// extend is one step of a policy.
func (d digest) extend(cc uint32, args ...[]byte) digest {
	h := sha256.New()
	h.Write(d[:])
	h.Write(put32(nil, cc))
	for _, a := range args {
		h.Write(a)
	}
	return digest(h.Sum(nil))
}

// selection is a TPML_PCR_SELECTION of one bank.
func selection(bank uint16, pcrs []int) []byte {
	var bits [3]byte
	for _, n := range pcrs {
		bits[n/8] |= 1 << (n % 8)
	}
	return append(append(put16(put32(nil, 1), bank), byte(len(bits))), bits[:]...)
}

// policyPCR binds to values; pcrs are ascending and each has a value.
func (d digest) policyPCR(bank uint16, pcrs []int, values map[int][]byte) digest {
	return d.extend(ccPolicyPCR, selection(bank, pcrs), pcrDigest(pcrs, values))
}

// pcrDigest is the hash over the values, ascending.
func pcrDigest(pcrs []int, values map[int][]byte) []byte {
	h := sha256.New()
	for _, n := range pcrs {
		h.Write(values[n])
	}
	return h.Sum(nil)
}

func (d digest) policyAuthValue() digest { return d.extend(ccPolicyAuthValue) }

// policyAuthorize is what any policy becomes that the key has signed. ref is nil
// or a digest.
func policyAuthorize(keyName, ref []byte) digest {
	d := digest{}.extend(ccPolicyAuthorize, keyName)
	h := sha256.New()
	h.Write(d[:])
	h.Write(ref)
	return digest(h.Sum(nil))
}

// policyAuthorizeNV is what any policy becomes whose digest is in the NV index.
func policyAuthorizeNV(nvName []byte) digest { return digest{}.extend(ccPolicyAuthorizeNV, nvName) }

func policyOR(branches []digest) digest {
	var args [][]byte
	for _, b := range branches {
		args = append(args, b[:])
	}
	return digest{}.extend(ccPolicyOR, args...)
}

// signerPublic is the TPMT_PUBLIC of a key that signs policies. Early releases
// of systemd 255 gave 0 as the exponent, which stands for 65537 but makes
// another name; those tokens are still about.
func signerPublic(key *rsa.PublicKey, exponent uint32) []byte {
	b := put32(put16(nil, algRSA, algSHA256), attrsSigner)
	b = put16(b, 0, algNull, algNull, uint16(key.N.BitLen()))
	return putSized(put32(b, exponent), key.N.Bytes())
}

// defaultExponent is the one that 0 can stand for.
const defaultExponent = 65537

// refDigest is how a policy reference goes into policies: nil for none.
func refDigest(ref *string) []byte {
	if ref == nil || *ref == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(*ref))
	return sum[:]
}

// shardPolicy says what one shard of a token asks for, in the order of the policy.
type shardPolicy struct {
	signed, locked bool
	pcrs           []int
	pin            bool
}

// shardPolicies splits a policy: PolicyAuthorize and PolicyAuthorizeNV both
// start from nothing, so each needs a shard of its own.
func (t *Token) shardPolicies() []shardPolicy {
	one := shardPolicy{signed: len(t.SignedPCRs) > 0, locked: t.PCRLock, pcrs: t.PCRs, pin: t.PIN}
	if !one.signed || !one.locked {
		return []shardPolicy{one}
	}
	first, second := one, one
	first.locked, second.signed = false, false
	return []shardPolicy{first, second}
}

// digest computes what the shard's policy comes to. signer and nv are names.
func (p shardPolicy) digest(signer, ref, nv []byte, bank uint16, values map[int][]byte) digest {
	var d digest
	if p.signed {
		d = policyAuthorize(signer, ref)
	}
	if p.locked {
		d = policyAuthorizeNV(nv)
	}
	if len(p.pcrs) > 0 {
		d = d.policyPCR(bank, p.pcrs, values)
	}
	if p.pin {
		d = d.policyAuthValue()
	}
	return d
}

// sortedPCRs returns the keys in order.
func sortedPCRs[T any](m map[int]T) []int {
	list := make([]int, 0, len(m))
	for n := range m {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// digestOf hashes the parts joined.
func digestOf(parts ...[]byte) digest {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return digest(h.Sum(nil))
}
