package tpm2

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/lockport/lockport/luks2"
)

// Attributes of objects and NV indices.
const (
	attrFixedTPM    = 1 << 1
	attrFixedParent = 1 << 4
	attrUserAuth    = 1 << 6
	attrNoDA        = 1 << 10
	attrRestricted  = 1 << 16
	attrDecrypt     = 1 << 17
	nvWritten       = 1 << 29

	// The storage key that is shared by all who use the TPM: fixedTPM,
	// fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
	attrsSRK = 0x00030472
	// The same without noDA, as systemd made it for each use before 254.
	attrsLegacy = 0x00030072
	// A public key that signs policies: userWithAuth, decrypt, sign.
	attrsSigner = 0x00060040
)

// srkHandle is where the TCG's provisioning guidance keeps that key.
const srkHandle = 0x81000001

// parent is the public part of a storage key: a TPMT_PUBLIC.
type parent struct {
	raw   []byte // as marshalled
	alg   uint16 // algRSA or algECC
	curve uint16
	x, y  []byte
	n     []byte
	e     uint32
	aes   int // size of the key under which the parent's children are kept, in bits
}

// name is how the TPM calls an object with this public area.
func objectName(public []byte) []byte {
	sum := sha256.Sum256(public)
	return append(put16(nil, algSHA256), sum[:]...)
}

func (p *parent) name() []byte { return objectName(p.raw) }

// algName is the name that tokens use for the kind of key.
func (p *parent) algName() string {
	if p.alg == algRSA {
		return "rsa"
	}
	return "ecc"
}

// parseParent reads a TPMT_PUBLIC and refuses what is no storage key.
func parseParent(raw []byte) (*parent, error) {
	c := &cursor{b: raw}
	p := &parent{raw: bytes.Clone(raw), alg: c.u16()}
	nameAlg, attrs := c.u16(), c.u32()
	c.sized() // policy
	if c.err == nil && nameAlg != algSHA256 {
		return nil, fmt.Errorf("%w: parent key with name algorithm %#x", luks2.ErrUnsupported, nameAlg)
	}
	if c.err == nil && attrs&(attrRestricted|attrDecrypt) != attrRestricted|attrDecrypt {
		return nil, errors.New("the parent key is no storage key")
	}
	if symmetric, bits, mode := c.u16(), c.u16(), c.u16(); c.err == nil &&
		(symmetric != algAES || mode != algCFB || bits != 128 && bits != 192 && bits != 256) {
		return nil, fmt.Errorf("%w: parent key with cipher %#x in mode %#x", luks2.ErrUnsupported, symmetric, mode)
	} else {
		p.aes = int(bits)
	}
	if scheme := c.u16(); c.err == nil && scheme != algNull {
		return nil, fmt.Errorf("%w: parent key with scheme %#x", luks2.ErrUnsupported, scheme)
	}
	switch p.alg {
	case algRSA:
		c.u16()
		p.e, p.n = c.u32(), c.sized()
	case algECC:
		p.curve = c.u16()
		if kdf := c.u16(); c.err == nil && kdf != algNull {
			return nil, fmt.Errorf("%w: parent key with derivation %#x", luks2.ErrUnsupported, kdf)
		}
		p.x, p.y = c.sized(), c.sized()
	default:
		return nil, fmt.Errorf("%w: parent key of type %#x", luks2.ErrUnsupported, p.alg)
	}
	if err := c.end(); err != nil {
		return nil, fmt.Errorf("parent key: %w", err)
	}
	return p, p.check()
}

// template is the TPMT_PUBLIC that makes the TPM create a storage key.
func template(alg uint16, attrs uint32) []byte {
	t := put32(put16(nil, alg, algSHA256), attrs)
	t = put16(t, 0, algAES, 128, algCFB, algNull)
	if alg == algRSA {
		return put16(put32(put16(t, 2048), 0), 0)
	}
	return put16(t, curveP256, algNull, 0, 0)
}

// Kinds of resources in a serialised handle.
const (
	resourceKey = 1
	resourceNV  = 2
)

// handleRecord is what a token keeps of a persistent key or an NV index, in the
// serialisation of the TPM2 software stack's ESYS layer.
type handleRecord struct {
	handle uint32
	name   []byte
	kind   uint32
	public []byte // TPMT_PUBLIC or TPMS_NV_PUBLIC
}

func parseHandleRecord(b []byte, kind uint32) (*handleRecord, error) {
	c := &cursor{b: b}
	h := &handleRecord{handle: c.u32(), name: c.sized(), kind: c.u32(), public: c.sized()}
	if err := c.end(); err != nil {
		return nil, err
	}
	if h.kind != kind {
		return nil, fmt.Errorf("resource of kind %d, not %d", h.kind, kind)
	}
	if !bytes.Equal(h.name, objectName(h.public)) {
		return nil, errors.New("the recorded name is not that of the recorded public area")
	}
	return h, nil
}

func (h *handleRecord) marshal() []byte {
	b := putSized(put32(nil, h.handle), h.name)
	return putSized(put32(b, h.kind), h.public)
}

// recordedParent reads a token's tpm2_srk.
func recordedParent(b []byte) (uint32, *parent, error) {
	h, err := parseHandleRecord(b, resourceKey)
	if err != nil {
		return 0, nil, err
	}
	if kind := h.handle >> 24; kind != handleTransient && kind != handlePersistent {
		return 0, nil, fmt.Errorf("%w: handle %#x, which is none of a key", luks2.ErrUnsupported, h.handle)
	}
	p, err := parseParent(h.public)
	return h.handle, p, err
}

// What handles of keys begin with (part 2 §7.2).
const (
	handleTransient  = 0x80
	handlePersistent = 0x81
)

// nvName returns the name of an NV index once it is written, as policies know
// it. public is a TPMS_NV_PUBLIC.
func nvName(public []byte) ([]byte, error) {
	c := &cursor{b: public}
	index, nameAlg, attrs, policy, size := c.u32(), c.u16(), c.u32(), c.sized(), c.u16()
	if err := c.end(); err != nil {
		return nil, err
	}
	if nameAlg != algSHA256 {
		return nil, fmt.Errorf("%w: NV index with name algorithm %#x", luks2.ErrUnsupported, nameAlg)
	}
	written := put32(put16(put32(nil, index), nameAlg), attrs|nvWritten)
	return objectName(put16(putSized(written, policy), size)), nil
}

// sealed is one blob of a token.
type sealed struct {
	private, public, seed []byte // seed is empty for what the TPM sealed itself
}

// parseBlob reads private || public [|| seed], each with its length.
func parseBlob(b []byte) (sealed, error) {
	c := &cursor{b: b}
	s := sealed{private: c.sized(), public: c.sized()}
	if c.err == nil && len(c.b) > 0 {
		s.seed = c.sized()
	}
	if err := c.end(); err != nil {
		return sealed{}, err
	}
	p := &cursor{b: s.public}
	alg, nameAlg, _, policy := p.u16(), p.u16(), p.u32(), p.sized()
	scheme, unique := p.u16(), p.sized()
	if err := p.end(); err != nil {
		return sealed{}, err
	}
	if alg != algKeyedHash || nameAlg != algSHA256 || scheme != algNull || len(unique) != digestSize ||
		len(policy) != digestSize && len(policy) != 0 || len(s.private) == 0 {
		return sealed{}, errors.New("no sealed object")
	}
	return s, nil
}

func (s sealed) marshal() []byte {
	b := putSized(putSized(nil, s.private), s.public)
	if len(s.seed) > 0 {
		b = putSized(b, s.seed)
	}
	return b
}
