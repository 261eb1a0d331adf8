package tpm2

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
)

// State is what a TPM says of itself.
type State struct {
	Manufacturer   string           // four letters, "IBM"
	Model          string           // what the vendor calls it, "" for nothing
	Firmware       string           // version, "8217.4131.22.13878"
	Banks          map[string][]int // PCRs that each bank keeps
	Lockout        Lockout
	OwnerAuth      bool   // a password is needed to make and keep keys
	StorageKey     string // kind of the shared storage key, "ecc" or "rsa"; "" if nobody made one
	Persistent     int    // keys that are kept in the TPM
	PersistentFree int    // how many more there is room for
	NVIndices      int    // NV indices that are defined
	// AES tells that the TPM can encrypt what crosses the bus as we do it.
	AES bool
}

// Properties that are fixed (part 2 §6.13).
const (
	propManufacturer   = 0x105
	propVendorString   = 0x106 // four of them
	propFirmware       = 0x10b // two
	propHRPersistent   = 0x208
	propPersistentFree = 0x209
	capHandles         = 1
	capAlgorithms      = 0
	firstNV            = 0x01000000
	maxHandles         = 254
)

// Examine asks a TPM what there is to know about it. It changes nothing.
func Examine(ctx context.Context, dev Device) (*State, error) {
	c := &conn{dev}
	s := &State{Banks: map[string][]int{}}
	for _, ask := range []func(context.Context, *conn) error{s.identity, s.permanence, s.banks, s.keys, s.algorithms} {
		if err := ask(ctx, c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *State) identity(ctx context.Context, c *conn) error {
	props, err := c.properties(ctx, propManufacturer, 8)
	if err != nil {
		return err
	}
	s.Manufacturer = letters(props[propManufacturer])
	for i := range uint32(4) {
		s.Model += letters(props[propVendorString+i])
	}
	s.Model = strings.TrimSpace(s.Model)
	a, b := props[propFirmware], props[propFirmware+1]
	s.Firmware = fmt.Sprintf("%d.%d.%d.%d", a>>16, a&0xffff, b>>16, b&0xffff)
	return nil
}

// letters reads a property that holds four characters.
func letters(v uint32) string {
	b := binary.BigEndian.AppendUint32(nil, v)
	return strings.Map(func(r rune) rune {
		if r >= unicode.MaxASCII || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(bytes.TrimRight(b, "\x00")))
}

func (s *State) permanence(ctx context.Context, c *conn) error {
	props, err := c.properties(ctx, propPermanent, propsOfPermanence)
	if err != nil {
		return err
	}
	s.Lockout = *lockoutOf(props)
	s.OwnerAuth = props[propPermanent]&permOwnerAuth != 0
	s.Persistent, s.PersistentFree = int(props[propHRPersistent]), int(props[propPersistentFree])
	return nil
}

func (s *State) banks(ctx context.Context, c *conn) error {
	var err error
	s.Banks, err = Banks(ctx, c.dev)
	return err
}

func (s *State) keys(ctx context.Context, c *conn) error {
	public, err := c.readPublic(ctx, srkHandle)
	if err == nil {
		p, odd := parseParent(public)
		s.StorageKey = "of a kind that is not usable"
		if odd == nil {
			s.StorageKey = p.algName()
		}
	} else if codeOf(err) != rcHandle {
		return err
	}
	handles, err := c.handles(ctx, firstNV)
	s.NVIndices = len(handles)
	return err
}

func (s *State) algorithms(ctx context.Context, c *conn) error {
	out, err := c.capability(ctx, capAlgorithms, algAES, 1)
	if err != nil {
		return err
	}
	s.AES = out.u32() > 0 && out.u16() == algAES
	return nil
}

// handles lists the handles from the first on that are of its kind.
func (c *conn) handles(ctx context.Context, first uint32) ([]uint32, error) {
	out, err := c.capability(ctx, capHandles, first, maxHandles)
	if err != nil {
		return nil, err
	}
	var list []uint32
	for range min(out.u32(), maxHandles) {
		list = append(list, out.u32())
	}
	return list, bad(ccGetCapability, out.end())
}
