package fido2

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Bounds of what a device may send. What real ones send is far below.
const (
	maxDepth    = 8
	maxElements = 256
)

// encoding is the canonical form of CTAP2, section 8.
var encoding = must(cbor.CTAP2EncOptions().EncMode())

// decoding takes that form and what comes close: no member twice, nothing of a
// length that is not known beforehand, no tags. Unknown members are passed over.
var decoding = must(cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	IndefLength:      cbor.IndefLengthForbidden,
	TagsMd:           cbor.TagsForbidden,
	MaxNestedLevels:  maxDepth,
	MaxArrayElements: maxElements,
	MaxMapPairs:      maxElements,
}.DecMode())

// must is for options that are constants: they are good or they are not.
func must[M any](mode M, err error) M {
	if err != nil {
		panic(err)
	}
	return mode
}

// decode reads one whole item.
func decode(b []byte, to any) error {
	if err := decoding.Unmarshal(b, to); err != nil {
		return fmt.Errorf("%w: %w", ErrResponse, err)
	}
	return nil
}
