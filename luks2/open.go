package luks2

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// A Header is the header of one volume, read and validated, and the changes
// made to it since. Changes live in memory until [Header.Commit]. A Header is
// not safe for concurrent use; the store may be shared.
type Header struct {
	store  Store
	limits Limits
	bin    binaryHeader
	json   []byte    // the metadata as text, changes included
	meta   *metadata // what json says
	writes []areaWrite
	broken brokenCopy
	queue  bool                         // wait for our turn with memory-hard derivations
	proven map[string][sha256.Size]byte // keys that were found right, by digest value
	nonce  [16]byte                     // makes the hashes in proven useless elsewhere
}

// A brokenCopy is the one of the two header copies that can't be used.
type brokenCopy struct {
	offset int64
	err    error // nil when both are good
	newer  bool  // whole, and newer than the good one, but not understood
}

// Option changes how a header is opened.
type Option func(*Header)

// WithQueue has derivations that need much memory wait for those of other
// processes, as systemd-cryptsetup does at boot, when all volumes are unlocked
// at once.
func WithQueue() Option { return func(h *Header) { h.queue = true } }

// WithLimits bounds what the header may make us spend.
func WithLimits(l Limits) Option { return func(h *Header) { h.limits = l } }

// A headerCopy is one of the two as found on disk.
type headerCopy struct {
	offset int64
	bin    binaryHeader
	json   []byte
	meta   *metadata
	err    error
	intact bool // its checksum is right
}

// Open reads both copies of the header under the shared lock, validates them
// and takes the newer one. It writes nothing: a broken copy is reported by
// [Header.Damage] and mended by [Header.Repair] or the next [Header.Commit].
//
// It returns [ErrNotLUKS2] when there is no header, [ErrDamaged] when no copy
// is whole, and [ErrUnsupported] when one is, but has content that is not
// understood or not allowed; all are wrapped. The store stays the caller's and must live as
// long as the header.
func Open(ctx context.Context, s Store, options ...Option) (*Header, error) {
	unlock, err := lock(ctx, s, false)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return open(s, options...)
}

// Reopen reads the header again from the same store.
func (h *Header) Reopen(ctx context.Context) (*Header, error) {
	return Open(ctx, h.store, func(fresh *Header) { fresh.limits, fresh.queue = h.limits, h.queue })
}

// open is Open for those who hold the lock.
func open(s Store, options ...Option) (*Header, error) {
	h := &Header{store: s, proven: map[string][sha256.Size]byte{}}
	// rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(h.nonce[:])
	for _, o := range options {
		o(h)
	}
	primary, secondary := readCopies(s)
	best, other, err := choose(primary, secondary)
	if err != nil {
		return nil, err
	}
	h.bin, h.json, h.meta = best.bin, best.json, best.meta
	if other.err != nil {
		newer := other.refused() && other.bin.seqID > best.bin.seqID
		h.broken = brokenCopy{h.otherOffset(best.offset), other.err, newer}
	} else if other.bin.seqID != best.bin.seqID {
		err := fmt.Errorf("older: sequence number %d, the other has %d", other.bin.seqID, best.bin.seqID)
		h.broken = brokenCopy{offset: other.offset, err: err}
	}
	if err := h.checkStoreSize(); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Header) otherOffset(offset int64) int64 { return h.bin.size - offset }

// readCopies reads the primary copy, and the secondary one where the primary
// says it is, or else wherever it can be.
func readCopies(s Store) (primary, secondary headerCopy) {
	primary = readCopy(s, 0, headerCopy{})
	places := sizes
	if primary.bin.size != 0 && !errors.Is(primary.err, errNoMagic) && primary.meta != nil {
		places = []int64{primary.bin.size}
	}
	for i, offset := range places {
		c := readCopy(s, offset, primary)
		// A damaged copy tells more than the many places that have none.
		if i == 0 || errors.Is(secondary.err, errNoMagic) || c.err == nil {
			secondary = c
		}
		if secondary.err == nil {
			break
		}
	}
	return primary, secondary
}

// readCopy reads one copy. Where its metadata says the same as that of another
// one, which is the rule, it is not parsed once more.
func readCopy(s Store, offset int64, like headerCopy) headerCopy {
	c := headerCopy{offset: offset}
	c.err = c.read(s, like)
	return c
}

func (c *headerCopy) read(s Store, like headerCopy) error {
	fixed := make([]byte, binarySize)
	switch err := readFull(s, fixed, c.offset); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errNoMagic
	case err != nil:
		return err
	}
	bin, err := parseBinary(fixed, c.offset)
	if err != nil {
		return err
	}
	area := make([]byte, bin.size)
	copy(area, fixed)
	if err := readFull(s, area[binarySize:], c.offset+binarySize); err != nil {
		return err
	}
	if err := bin.checkSum(area); err != nil {
		return err
	}
	// Only now can the size be trusted to lead to the other copy.
	c.bin, c.intact = bin, true
	text, err := jsonText(area)
	if err != nil {
		return err
	}
	if like.meta != nil && like.bin.size == bin.size && bytes.Equal(text, like.json) {
		c.json, c.meta = like.json, like.meta
		return nil
	}
	meta, err := parseMetadata(text, bin.size)
	if err != nil {
		return err
	}
	c.json, c.meta = text, meta
	return nil
}

// readFull reads all of p or says that the store ends too early.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at %d: %w", len(p), offset, err)
}

// choose returns the copy to use and the other one. Of two valid copies the
// one with the higher sequence number wins, and the primary among equals.
func choose(primary, secondary headerCopy) (best, other headerCopy, err error) {
	switch {
	case primary.err == nil && secondary.err == nil:
		if secondary.bin.seqID > primary.bin.seqID {
			return secondary, primary, nil
		}
		return primary, secondary, nil
	case primary.err == nil:
		return primary, secondary, nil
	case secondary.err == nil:
		return secondary, primary, nil
	case errors.Is(primary.err, ErrNotLUKS2):
		return best, other, primary.err
	case errors.Is(primary.err, errNoMagic) && errors.Is(secondary.err, errNoMagic):
		return best, other, fmt.Errorf("%w: %w", ErrNotLUKS2, errNoMagic)
	}
	kind := ErrDamaged
	if primary.refused() || secondary.refused() {
		kind = ErrUnsupported
	}
	return best, other, fmt.Errorf("%w: first: %w; second: %w", kind, primary.err, secondary.err)
}

// refused tells a copy with content that is not understood or not allowed from
// a damaged one, which a backup would replace.
func (c headerCopy) refused() bool {
	return c.err != nil && (c.intact || errors.Is(c.err, ErrUnsupported))
}

// checkStoreSize refuses a store that ends before the keyslots area does.
func (h *Header) checkStoreSize() error {
	s, ok := h.store.(Sizer)
	if !ok {
		return nil
	}
	size, err := s.Size()
	if err != nil {
		return err
	}
	if need := h.areasEnd(); size < need {
		return fmt.Errorf("%w: the device has %d bytes, the header and its keyslots need %d", ErrDamaged, size, need)
	}
	return nil
}

// areasEnd is the first byte behind the keyslots area.
func (h *Header) areasEnd() int64 { return 2*h.bin.size + h.meta.keyslotsSize }

// Damage returns what is wrong with the copy of the header that is not used,
// and nil when both are good.
func (h *Header) Damage() error {
	if h.broken.err == nil {
		return nil
	}
	which := "first"
	if h.broken.offset != 0 {
		which = "second"
	}
	return fmt.Errorf("%s copy of the header: %w", which, h.broken.err)
}
