package gpt

import (
	"encoding/hex"
	"fmt"
)

// UUID is a UUID in the order of its text form, which is not that of a table on
// disk.
type UUID [16]byte

// ParseUUID reads the form with 32 digits and four dashes, in any case.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("%q is not a UUID", s)
	}
	b, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	if err != nil {
		return u, fmt.Errorf("%q is not a UUID", s)
	}
	copy(u[:], b)
	return u, nil
}

func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// IsZero tells whether there is no UUID.
func (u UUID) IsZero() bool { return u == UUID{} }

// swapped turns a UUID into the order it has on disk, where the first three
// fields are little-endian, and back (UEFI 2.10, appendix A).
func (u UUID) swapped() UUID {
	return UUID{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]}
}
