package kernel

import "errors"

// What callers decide on; each is wrapped with the object and the reason.
var (
	ErrExists      = errors.New("already mapped")               // the name or the UUID is taken
	ErrBusy        = errors.New("in use")                       // somebody has the volume or its device open
	ErrNotFound    = errors.New("not mapped")                   // there is no mapping of that name
	ErrUnsupported = errors.New("not supported by this kernel") // device-mapper, dm-crypt or a cipher is missing
	ErrNoKey       = errors.New("no such key in the kernel's keyrings")
	ErrBadName     = errors.New("unusable name")
)
