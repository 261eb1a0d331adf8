package gpt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// sectorSizes are those in which systemd looks for a table.
var sectorSizes = []int64{512, 1024, 2048, 4096}

// maxDisk keeps all sums of offsets inside 63 bits.
const maxDisk = 1 << 60

// Read reads the partition table of a disk or image of a size in bytes. The
// size of its sectors is found out. A GPT whose primary copy is damaged is read
// from the backup; see [Table.Damage]. It returns [ErrNoTable] when there is
// none at all.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	if size < 512 {
		return nil, fmt.Errorf("%w: %d bytes", ErrNoTable, size)
	}
	if size > maxDisk {
		return nil, fmt.Errorf("a disk of %d bytes is too large", size)
	}
	d := disk{r: r, size: size}
	boot := make([]byte, 512)
	if err := readFull(r, boot, 0); err != nil {
		return nil, err
	}
	found, err := d.probe(func(d disk) uint64 { return 1 })
	if err != nil {
		return nil, err
	}
	mbr, err := parseMBR(boot)
	protective := err == nil && mbr.protective()
	switch {
	case len(found) > 1:
		return nil, fmt.Errorf("headers of a GPT for sectors of %v bytes", found)
	case len(found) == 1 && !protective:
		// Either table may be a leftover, and firmware, kernels and tools
		// differ in which they believe.
		return nil, errors.New("a GPT without the protective MBR that belongs to it")
	case len(found) == 1:
		return d.withSector(found[0]).readGPT()
	case protective:
		return d.readBackupOnly()
	case err != nil:
		return nil, err
	}
	return mbr.table(d.withSector(512))
}

// probe returns the sector sizes for which a header is in a sector.
func (d disk) probe(where func(disk) uint64) ([]int64, error) {
	var found []int64
	for _, size := range sectorSizes {
		d := d.withSector(size)
		if d.sectors < 3 {
			continue
		}
		b, err := d.bytes(where(d), len(signature))
		if err != nil {
			return nil, err
		}
		if string(b) == signature {
			found = append(found, size)
		}
	}
	return found, nil
}

// tableCopy is one of the two copies of a GPT.
type tableCopy struct {
	header     header
	partitions []Partition
}

func (c tableCopy) table(d disk) *Table {
	return &Table{Scheme: GPT, UUID: c.header.disk, SectorSize: d.sector, Partitions: c.partitions}
}

// readCopy reads the copy whose header is in a sector. Where only the entries
// are bad the header is returned too.
func (d disk) readCopy(at uint64) (tableCopy, error) {
	b, err := d.bytes(at, int(d.sector))
	if err != nil {
		return tableCopy{}, err
	}
	h, err := parseHeader(b)
	if err != nil {
		return tableCopy{}, err
	}
	if err := h.check(at, d); err != nil {
		return tableCopy{}, err
	}
	list, err := h.readEntries(d)
	if err != nil {
		return tableCopy{header: h}, err
	}
	return tableCopy{h, list}, nil
}

// readGPT reads a table whose primary header has at least its signature.
func (d disk) readGPT() (*Table, error) {
	primary, err := d.readCopy(1)
	if err != nil {
		return d.fallBack(primary.header, err)
	}
	t := primary.table(d)
	backup, err := d.readCopy(primary.header.other)
	if err == nil && !primary.agrees(backup) {
		err = errors.New("says otherwise than the primary table")
	}
	if err != nil {
		t.damage = fmt.Errorf("backup table in sector %d: %w", primary.header.other, err)
	}
	return t, nil
}

// fallBack reads the backup from the end of the disk, where it has to be, or
// from where a header that is itself whole says.
func (d disk) fallBack(primary header, damage error) (*Table, error) {
	damage = fmt.Errorf("primary table in sector 1: %w", damage)
	places := []uint64{d.sectors - 1}
	if primary.other != 0 && primary.other != d.sectors-1 {
		places = append(places, primary.other)
	}
	var lost error
	for _, at := range places {
		backup, err := d.readCopy(at)
		if err == nil {
			t := backup.table(d)
			t.damage = damage
			return t, nil
		}
		lost = fmt.Errorf("backup table in sector %d: %w", at, err)
	}
	return nil, fmt.Errorf("%w; %w", damage, lost)
}

// readBackupOnly reads the backup of a table whose primary header is gone, and
// with it the sector size.
func (d disk) readBackupOnly() (*Table, error) {
	found, err := d.probe(func(d disk) uint64 { return d.sectors - 1 })
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("a protective MBR, but %d headers of a GPT", len(found))
	}
	return d.withSector(found[0]).fallBack(header{}, errNoSignature)
}

// agrees tells whether two copies of a table say the same.
func (c tableCopy) agrees(o tableCopy) bool {
	a, b := c.header, o.header
	b.own, b.other, b.entries = b.other, b.own, a.entries
	return a == b
}

// zero tells whether there is nothing in b.
func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
