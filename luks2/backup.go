package luks2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Backup writes both copies of the header and the whole keyslots area to w, in
// the form of `cryptsetup luksHeaderBackup`. Whoever has a backup and a
// passphrase of that time opens the volume, even if the slot was removed since.
func (h *Header) Backup(ctx context.Context, w io.Writer) error {
	unlock, err := lock(ctx, h.store, false)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := io.Copy(w, io.NewSectionReader(h.store, 0, h.areasEnd())); err != nil {
		return fmt.Errorf("writing the header backup: %w", err)
	}
	return nil
}

// RestoreOptions guard a restore.
type RestoreOptions struct {
	// Anyway restores onto a store that has no valid header of the same volume.
	Anyway bool
	Limits Limits
}

// Restore replaces header and keyslots on s by those of a backup, which is
// validated first. The volume keeps its data, which only opens if the backup
// was made of this volume: without Anyway, s must have a valid header with the
// same UUID, data offset and key. The sequence number continues from the higher of both.
func Restore(ctx context.Context, s Store, backup io.ReaderAt, size int64, o RestoreOptions) error {
	from, err := open(&readOnly{backup, size}, WithLimits(o.Limits))
	if err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	if err := from.Usable(); err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	unlock, err := lock(ctx, s, true)
	if err != nil {
		return err
	}
	defer unlock()
	broken := brokenCopy{}
	now, err := open(s)
	if err == nil {
		broken = now.broken
		from.bin.seqID = max(from.bin.seqID, now.bin.seqID)
		if err := from.sameVolume(now); err != nil && !o.Anyway {
			return err
		}
	} else if !o.Anyway {
		return fmt.Errorf("comparing the backup with the volume: %w", err)
	}
	return from.restoreTo(s, broken)
}

func (h *Header) sameVolume(o *Header) error {
	if h.bin.uuid != o.bin.uuid {
		return fmt.Errorf("the backup is of volume %s, this is volume %s", h.bin.uuid, o.bin.uuid)
	}
	a, errA := h.Segment()
	b, errB := o.Segment()
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	if a.Offset != b.Offset || a.Encryption != b.Encryption || a.SectorSize != b.SectorSize {
		return errors.New("the backup describes the data differently than the volume")
	}
	da, _ := h.meta.segmentDigest()
	db, _ := o.meta.segmentDigest()
	if !bytes.Equal(da.Value, db.Value) {
		return errors.New("the backup has the key of other data: the volume was re-encrypted since")
	}
	return nil
}

// restoreTo writes key material first, so that no new header is ever valid over
// material that is not there yet.
func (h *Header) restoreTo(s Store, broken brokenCopy) error {
	if sizer, ok := s.(Sizer); ok {
		if size, err := sizer.Size(); err != nil || size < h.areasEnd() {
			return errors.Join(fmt.Errorf("the backup needs %d bytes, the device has %d", h.areasEnd(), size), err)
		}
	}
	backup := h.store
	start := 2 * h.bin.size
	out := io.NewOffsetWriter(s, start)
	if _, err := io.CopyBuffer(out, io.NewSectionReader(backup, start, h.meta.keyslotsSize), make([]byte, min(h.meta.keyslotsSize, 1<<20))); err != nil {
		return fmt.Errorf("restoring keyslots: %w", err)
	}
	if err := s.Sync(); err != nil {
		return fmt.Errorf("restoring keyslots: %w", err)
	}
	h.store, h.broken = s, broken
	h.bin.seqID++
	return h.writeBoth()
}

// readOnly is a backup as a store.
type readOnly struct {
	io.ReaderAt
	size int64
}

func (readOnly) WriteAt([]byte, int64) (int, error) {
	return 0, errors.New("a backup is not written to")
}
func (readOnly) Sync() error            { return nil }
func (r readOnly) Size() (int64, error) { return r.size, nil }
