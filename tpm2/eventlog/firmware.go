package eventlog

import (
	"bytes"
	"errors"
	"fmt"
)

// Data of the two EV_NO_ACTION events that say how to read the log.
const (
	specID2         = "Spec ID Event03\x00"
	startupLocality = "StartupLocality\x00"
)

// maxAlgorithms is more banks than there are algorithms for.
const maxAlgorithms = 32

// firmware reads the firmware's log.
type firmware struct {
	cursor
	sizes map[uint16]int // of each algorithm's digests; nil in the form with SHA-1 alone
	banks []string
}

// ParseFirmware reads a log of the firmware's, in either form. Zeros after the
// last event are ignored: the kernel hands out the whole area that firmware
// reserved. The events' digests and data are parts of b.
func ParseFirmware(b []byte) (*Log, error) {
	if len(b) > maxLog {
		return nil, fmt.Errorf("more than %d bytes", maxLog)
	}
	end := len(bytes.TrimRight(b, "\x00"))
	f := &firmware{cursor: cursor{b: b}}
	l := &Log{}
	for f.off < end {
		at := f.off
		e, err := f.event(len(l.Events))
		if err != nil {
			return nil, fmt.Errorf("event %d at offset %d: %w", len(l.Events), at, err)
		}
		l.Events = append(l.Events, e)
	}
	l.Banks = f.banks
	return l, nil
}

// event reads the event with this number. The first has the old form in every
// log, and tells by its data if the others do not.
func (f *firmware) event(number int) (Event, error) {
	if number == maxEvents {
		return Event{}, fmt.Errorf("more than %d events", maxEvents)
	}
	e := Event{PCR: int(int32(f.u32())), Type: Type(f.u32()), Digests: map[string][]byte{}}
	if f.sizes == nil {
		e.Digests["sha1"] = f.bytes(20)
	} else {
		f.digests(e.Digests)
	}
	e.Data = f.bytes(uint64(f.u32()))
	if f.err == nil && (e.PCR < 0 || e.PCR > maxPCR) && e.Type != NoAction {
		f.err = fmt.Errorf("PCR %d", uint32(e.PCR))
	}
	if f.err != nil || number > 0 {
		return e, f.err
	}
	return e, f.begin(e)
}

// begin finds out the form of the log by its first event.
func (f *firmware) begin(first Event) error {
	f.banks = []string{"sha1"}
	if first.Type != NoAction || !bytes.HasPrefix(first.Data, []byte(specID2)) {
		return nil
	}
	f.banks = nil
	return f.specID(&cursor{b: first.Data, off: len(specID2)})
}

// specID reads the list of algorithms: each with the size of its digests, so
// that those we do not know can be skipped.
func (f *firmware) specID(c *cursor) error {
	c.bytes(8) // class of platform, version, size of an address
	n := c.u32()
	if n > maxAlgorithms {
		return fmt.Errorf("%d algorithms", n)
	}
	f.sizes = map[uint16]int{}
	for range n {
		alg, size := c.u16(), int(c.u16())
		known, ok := bankByAlg(alg)
		if _, twice := f.sizes[alg]; c.err == nil && (twice || ok && size != known.size) {
			return fmt.Errorf("algorithm %#x is there twice, or has digests of %d bytes", alg, size)
		}
		f.sizes[alg] = size
		if ok {
			f.banks = append(f.banks, known.name)
		}
	}
	return c.err
}

// digests reads an event's list of digests.
func (f *firmware) digests(into map[string][]byte) {
	n := f.u32()
	if f.err == nil && uint64(n) > uint64(len(f.sizes)) {
		f.err = fmt.Errorf("%d digests in a log of %d algorithms", n, len(f.sizes))
	}
	for range n {
		if f.err != nil {
			return
		}
		alg := f.u16()
		size, ok := f.sizes[alg]
		if f.err == nil && !ok {
			f.err = fmt.Errorf("digest of algorithm %#x, which the log does not announce", alg)
		}
		f.put(into, alg, f.bytes(uint64(size)))
	}
}

func (f *firmware) put(into map[string][]byte, alg uint16, digest []byte) {
	known, ok := bankByAlg(alg)
	if f.err != nil || !ok {
		return
	}
	if into[known.name] != nil {
		f.err = errors.New("two digests of one algorithm")
	}
	into[known.name] = digest
}
