package luks2

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// An areaWrite is a change of key material that goes with the next commit.
type areaWrite struct {
	keyslot int
	offset  int64
	data    []byte // encrypted key material; nil to overwrite with noise
	size    int64
}

func (w areaWrite) wipes() bool { return w.data == nil }

// Commit writes the changes made since the header was read: under the
// exclusive lock, key material first, then one copy of the header, then the
// other, each on stable storage before the next. A crash at any point leaves a
// header that opens.
//
// It returns an error wrapping [ErrChanged], and writes nothing, when somebody
// else has written the header in the meantime. After another error the header
// in memory is no longer that on disk: open it again.
//
// Protocol: libcryptsetup, lib/luks2/luks2_disk_metadata.c.
func (h *Header) Commit(ctx context.Context) error {
	if err := h.Usable(); err != nil {
		return err
	}
	return h.locked(ctx, func() error {
		if _, err := h.checkUnchanged(); err != nil {
			return err
		}
		if err := h.checkOther(); err != nil {
			return err
		}
		if err := h.flushAreas(); err != nil {
			return err
		}
		h.bin.seqID++
		return h.writeBoth()
	})
}

// Repair rewrites a broken copy of the header from the good one, with the same
// sequence number. It does nothing when both are good. A place that shows the
// signature of something else is not overwritten: the error wraps
// [ErrAmbiguous].
func (h *Header) Repair(ctx context.Context) error { return h.repair(ctx, h.checkOther) }

// RepairAnyway is Repair over whatever stands in the place of the broken copy.
func (h *Header) RepairAnyway(ctx context.Context) error {
	return h.repair(ctx, func() error { return nil })
}

func (h *Header) repair(ctx context.Context, allowed func() error) error {
	if h.broken.err == nil {
		return nil
	}
	return h.locked(ctx, func() error {
		now, err := h.checkUnchanged()
		if err != nil || h.broken.err == nil {
			return err
		}
		if err := allowed(); err != nil {
			return err
		}
		// What is on disk is copied, not the changes made in memory since.
		if err := now.writeCopies(h.broken.offset); err != nil {
			return err
		}
		h.broken = brokenCopy{}
		return nil
	})
}

func (h *Header) locked(ctx context.Context, f func() error) error {
	unlock, err := lock(ctx, h.store, true)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// checkUnchanged reads the header again, now that nobody else can write it.
func (h *Header) checkUnchanged() (now *Header, err error) {
	now, err = open(h.store)
	if err != nil {
		return nil, err
	}
	if now.bin.uuid != h.bin.uuid || now.bin.seqID != h.bin.seqID || now.bin.size != h.bin.size {
		return nil, ErrChanged
	}
	h.broken = now.broken
	return now, nil
}

// checkOther looks at what stands in the place of a broken copy before it is
// overwritten.
func (h *Header) checkOther() error {
	if h.broken.newer {
		// Whoever wrote it knows more than we do.
		return fmt.Errorf("%w: a newer copy of the header is not understood: %w", ErrUnsupported, h.broken.err)
	}
	if h.broken.err == nil || h.broken.offset != 0 {
		// Only the start of a device carries signatures of other formats.
		return nil
	}
	what, err := foreignSignature(h.store)
	if err != nil {
		return err
	}
	if what != "" {
		return fmt.Errorf("%w: the first copy of the header is gone and there is a signature of %s", ErrAmbiguous, what)
	}
	return nil
}

func (h *Header) flushAreas() error {
	if len(h.writes) == 0 {
		return nil
	}
	for _, w := range h.writes {
		if err := w.flush(h.store); err != nil {
			return fmt.Errorf("writing the area of keyslot %d: %w", w.keyslot, err)
		}
	}
	if err := h.store.Sync(); err != nil {
		return fmt.Errorf("writing keyslot areas: %w", err)
	}
	h.writes = nil
	return nil
}

func (w areaWrite) flush(s Store) error {
	if !w.wipes() {
		_, err := s.WriteAt(w.data, w.offset)
		return err
	}
	return overwrite(s, w.offset, w.size)
}

// writeBoth writes both copies, a broken one first: as long as that is written,
// the good one is all that the owner has.
func (h *Header) writeBoth() error {
	if h.broken.err != nil && h.broken.offset != 0 {
		return h.writeCopies(h.bin.size, 0)
	}
	return h.writeCopies(0, h.bin.size)
}

// writeCopies writes and syncs the copies at the given places in turn.
func (h *Header) writeCopies(offsets ...int64) error {
	var text bytes.Buffer
	if err := json.Compact(&text, h.json); err != nil {
		return err
	}
	for _, offset := range offsets {
		area, err := h.bin.encode(text.Bytes(), offset)
		if err != nil {
			return err
		}
		if _, err := h.store.WriteAt(area, offset); err != nil {
			return fmt.Errorf("writing the header at %d: %w", offset, err)
		}
		if err := h.store.Sync(); err != nil {
			return fmt.Errorf("writing the header at %d: %w", offset, err)
		}
		if h.broken.offset == offset {
			h.broken = brokenCopy{}
		}
	}
	return nil
}
