package luks2

import "errors"

// The errors that callers decide by; each is wrapped with what it is about.
var (
	// ErrNotLUKS2: neither copy has the magic of a LUKS2 header.
	ErrNotLUKS2 = errors.New("not a LUKS2 volume")
	// ErrDamaged: there are LUKS2 headers, but no copy is valid.
	ErrDamaged = errors.New("no valid copy of the header")
	// ErrUnsupported: the header asks for what is not known or not allowed.
	ErrUnsupported = errors.New("not supported")
	// ErrPassphrase: the passphrase opens none of the keyslots it was tried on.
	ErrPassphrase = errors.New("no keyslot opens with this passphrase")
	// ErrNoKeyslot: there is no such keyslot, or none to try.
	ErrNoKeyslot = errors.New("no such keyslot")
	// ErrNoToken: there is no such token.
	ErrNoToken = errors.New("no such token")
	// ErrFull: no number, no room in the keyslots area or in the metadata.
	ErrFull = errors.New("the header is full")
	// ErrChanged: the header on disk is no longer the one that was read.
	ErrChanged = errors.New("the header was changed by someone else")
	// ErrLimit: the header asks for more memory or time than is allowed.
	ErrLimit = errors.New("over the limit")
	// ErrAmbiguous: a damaged copy shows the signature of something else.
	ErrAmbiguous = errors.New("something else may live on this device")
)
