package fido2

import (
	"encoding/binary"
	"errors"
)

// The usage that makes a HID device a security key; CTAP 2.1, section 11.2.8.2.
const (
	usagePageFIDO = 0xf1d0
	usageFIDO     = 1
)

// Sizes are how long the reports of a device are, in bytes, from it and to it.
type Sizes struct{ In, Out int }

// Bounds of reports, in bytes: one has to hold the head of a message and something
// of it.
const (
	minReport = 8
	maxReport = 1024
)

// Items of report descriptors that matter here: their tags and types, without
// the size; Device Class Definition for HID 1.11, section 6.2.2.
const (
	itemInput      = 0x80
	itemOutput     = 0x90
	itemCollection = 0xa0
	itemEnd        = 0xc0
	itemUsagePage  = 0x04
	itemReportSize = 0x74
	itemReportID   = 0x84
	itemCount      = 0x94
	itemUsage      = 0x08
	itemLong       = 0xfe
)

// reportItems is what a descriptor has said so far.
type reportItems struct {
	page, usage, bits, count, id uint32
	depth, inside                int // collections that are open, and the one that is a key's; 0 for none
	sizes                        Sizes
}

var errDescriptor = errors.New("report descriptor is cut off")

// parseDescriptor returns the sizes of the reports of a security key, or an error
// wrapping [ErrNotFIDO2] for any other device.
func parseDescriptor(b []byte) (Sizes, error) {
	var r reportItems
	for len(b) > 0 {
		head := b[0]
		n := int(head & 3)
		if n == 3 {
			n = 4
		}
		if head == itemLong {
			if len(b) < 2 {
				return Sizes{}, errDescriptor
			}
			n = 2 + int(b[1])
		}
		if len(b) < 1+n {
			return Sizes{}, errDescriptor
		}
		if head != itemLong {
			var value [4]byte
			copy(value[:], b[1:1+n])
			r.item(head&^3, binary.LittleEndian.Uint32(value[:]))
		}
		b = b[1+n:]
	}
	return r.sizes, r.check()
}

func (r *reportItems) item(tag byte, value uint32) {
	switch tag {
	case itemUsagePage:
		r.page = value
	case itemReportSize:
		r.bits = value
	case itemCount:
		r.count = value
	case itemReportID:
		r.id = value
	case itemUsage:
		r.usage = value
		return // it lasts until the next main item
	case itemCollection:
		r.depth++
		if r.inside == 0 && r.sizes == (Sizes{}) && r.page == usagePageFIDO && r.usage == usageFIDO {
			r.inside = r.depth
		}
	case itemEnd:
		if r.depth == r.inside {
			r.inside = 0
		}
		r.depth = max(r.depth-1, 0)
	case itemInput:
		r.report(&r.sizes.In)
	case itemOutput:
		r.report(&r.sizes.Out)
	}
	if tag&0x0c == 0 {
		r.usage = 0
	}
}

// report notes the size of the first report of its kind.
func (r *reportItems) report(size *int) {
	if bits := uint64(r.bits) * uint64(r.count); r.inside > 0 && *size == 0 && bits%8 == 0 && bits/8 <= maxReport {
		*size = int(bits / 8)
	}
}

func (r *reportItems) check() error {
	if r.id != 0 || r.sizes.In < minReport || r.sizes.Out < minReport {
		return ErrNotFIDO2
	}
	return nil
}
