package pkcs11

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// attributeKind is the type of an attribute, a CKA_ value of PKCS#11 2.40.
type attributeKind uint32

// The attributes that we deal with.
const (
	attrClass           attributeKind = 0x000
	attrToken           attributeKind = 0x001
	attrLabel           attributeKind = 0x003
	attrValue           attributeKind = 0x011
	attrCertificateType attributeKind = 0x080
	attrKeyType         attributeKind = 0x100
	attrID              attributeKind = 0x102
	attrSensitive       attributeKind = 0x103
	attrDecrypt         attributeKind = 0x105
	attrDerive          attributeKind = 0x10c
	attrModulus         attributeKind = 0x120
	attrExponent        attributeKind = 0x122
	attrExtractable     attributeKind = 0x162
	attrECParams        attributeKind = 0x180
	attrECPoint         attributeKind = 0x181
)

// Classes of objects and types of keys and certificates.
const (
	classData        = 0
	classCertificate = 1
	classPublic      = 2
	classPrivate     = 3
	classSecret      = 4

	certificateX509 = 0

	keyRSA     = 0
	keyEC      = 3
	keyGeneric = 0x10
)

// The ways in which attributes cross the wire.
const (
	attrBytes = iota
	attrBool
	attrNumber
)

func (k attributeKind) encoding() int {
	switch k {
	case attrClass, attrCertificateType, attrKeyType:
		return attrNumber
	case attrToken, attrSensitive, attrDecrypt, attrDerive, attrExtractable:
		return attrBool
	}
	return attrBytes
}

// An attribute is one property of an object. Numbers are 8 bytes, big-endian, as
// on the wire; a truth is one byte. No value at all is nil: the object has no such
// attribute, or does not let it out.
type attribute struct {
	kind  attributeKind
	value []byte
}

func number(kind attributeKind, n uint64) attribute {
	return attribute{kind, binary.BigEndian.AppendUint64(nil, n)}
}

func truth(kind attributeKind, on bool) attribute {
	if on {
		return attribute{kind, []byte{1}}
	}
	return attribute{kind, []byte{0}}
}

// attributes are what was read of an object.
type attributes map[attributeKind][]byte

// number returns a number, and whether there is one.
func (a attributes) number(kind attributeKind) (uint64, bool) {
	b := a[kind]
	if len(b) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}

// truth returns a truth; what is not told is not so.
func (a attributes) truth(kind attributeKind) bool { return bytes.Equal(a[kind], []byte{1}) }

// padded takes the blanks off the end of a text that has a fixed length.
func padded(b []byte) string { return strings.TrimRight(string(b), " \x00") }
