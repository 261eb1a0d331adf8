package luks2

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// activationFlags are what a header or a caller may ask of dm-crypt, in the
// order in which libcryptsetup passes them (lib/libdevmapper.c). "flag" is the
// name in the header's configuration.
var activationFlags = []struct{ flag, option string }{
	{"allow-discards", "allow_discards"},
	{"same-cpu-crypt", "same_cpu_crypt"},
	{"submit-from-crypt-cpus", "submit_from_crypt_cpus"},
	{"no-read-workqueue", "no_read_workqueue"},
	{"no-write-workqueue", "no_write_workqueue"},
	{"high_priority", "high_priority"},
}

// Activation is what a caller decides about a mapping.
type Activation struct {
	Device   string   // path of the data device
	Size     int64    // bytes of that device
	Flags    []string // as for [Header.SetFlags]; those of the header are added
	ReadOnly bool
	Detached bool // the header is not on that device
}

// errHeaderElsewhere: mapped where it says, the data would lie over the header.
var errHeaderElsewhere = fmt.Errorf("%w: the header says that the data is on another device", ErrUnsupported)

// Table returns what the kernel has to be told to map the data under a name.
func (h *Header) Table(name string, a Activation) (Table, error) {
	s, err := h.Segment()
	if err != nil {
		return Table{}, err
	}
	if s.Offset == 0 && !a.Detached {
		return Table{}, errHeaderElsewhere
	}
	d, ok := h.meta.segmentDigest()
	if !ok {
		return Table{}, errors.New("the segment has no digest")
	}
	length, err := s.length(a.Size)
	if err != nil {
		return Table{}, err
	}
	t := Table{
		UUID:           "CRYPT-LUKS2-" + strings.ReplaceAll(h.bin.uuid, "-", "") + "-" + name,
		Device:         a.Device,
		DataOffset:     uint64(s.Offset) / sectorSize,
		Length:         uint64(length) / sectorSize,
		Cipher:         s.Encryption,
		KeySize:        h.segmentKeySize(d),
		KeyDescription: "cryptsetup:" + h.bin.uuid + "-d" + strconv.Itoa(d.ID),
		IVOffset:       s.IVTweak,
		ReadOnly:       a.ReadOnly,
	}
	for _, f := range activationFlags {
		if slices.Contains(h.meta.flags, f.flag) || slices.Contains(a.Flags, f.flag) {
			t.Options = append(t.Options, f.option)
		}
	}
	if s.SectorSize != sectorSize {
		t.Options = append(t.Options, "sector_size:"+strconv.Itoa(s.SectorSize))
	}
	return t, nil
}

// segmentKeySize returns the bytes of the data's key, 0 when no slot holds it.
func (h *Header) segmentKeySize(d Digest) int {
	for _, id := range d.Keyslots {
		if k, ok := h.meta.keyslot(id); ok {
			return k.KeySize
		}
	}
	return 0
}

// length returns the bytes of a segment on a device of the given size, in
// whole sectors.
func (s Segment) length(device int64) (int64, error) {
	n := s.Size
	if n == Dynamic {
		n = device - s.Offset
		n -= n % int64(s.SectorSize)
	}
	if n <= 0 || s.Offset+n > device || s.Offset+n < 0 {
		return 0, fmt.Errorf("the data starts at %d and the device has %d bytes", s.Offset, device)
	}
	return n, nil
}
