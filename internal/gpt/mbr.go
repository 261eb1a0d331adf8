package gpt

import (
	"encoding/binary"
	"fmt"
)

// Types of partitions in an MBR.
const (
	mbrProtective = 0xee
	mbrLinux      = 0x83
	mbrXBOOTLDR   = 0xea // UAPI.1 Boot Loader Specification
)

const (
	mbrEntries   = 446
	mbrSignature = 510
)

type mbrEntry struct {
	bootable      bool
	kind          byte
	first, length uint32
}

// mbr has the four entries of UEFI 2.10, table 5.1.
type mbr [4]mbrEntry

// parseMBR reads the first 512 bytes of a disk. Boot sectors of file systems
// have the same signature, and boot code or nothing where the entries are: they
// are no tables.
func parseMBR(b []byte) (mbr, error) {
	var m mbr
	if b[mbrSignature] != 0x55 || b[mbrSignature+1] != 0xaa || zero(b[mbrEntries:mbrSignature]) {
		return m, ErrNoTable
	}
	le := binary.LittleEndian
	for i := range m {
		e := b[mbrEntries+16*i:][:16]
		if e[0]&0x7f != 0 {
			return mbr{}, fmt.Errorf("%w: entry %d of the MBR has the status %#x", ErrNoTable, i+1, e[0])
		}
		m[i] = mbrEntry{e[0] != 0, e[4], le.Uint32(e[8:]), le.Uint32(e[12:])}
	}
	return m, nil
}

// protective tells whether the MBR is there to protect a GPT: UEFI 2.10, section
// 5.2.3. Hybrid ones, with other partitions beside, are among them.
func (m mbr) protective() bool {
	for _, e := range m {
		if e.kind == mbrProtective && e.first == 1 {
			return true
		}
	}
	return false
}

// table lists the primary partitions. Logical ones, inside an extended
// partition, are left out: nothing that systemd looks for is there.
func (m mbr) table(d disk) (*Table, error) {
	t := &Table{Scheme: MBR, SectorSize: d.sector}
	for i, e := range m {
		if e.kind == 0 {
			continue
		}
		if e.first == 0 || e.length == 0 || uint64(e.first)+uint64(e.length) > d.sectors {
			return nil, fmt.Errorf("partition %d of the MBR: %d sectors from %d on a disk of %d", i+1, e.length, e.first, d.sectors)
		}
		t.Partitions = append(t.Partitions, Partition{
			Number: i + 1, MBRType: e.kind, Bootable: e.bootable,
			Offset: int64(e.first) * d.sector, Size: int64(e.length) * d.sector,
		})
	}
	if len(t.Partitions) == 0 {
		return nil, ErrNoTable
	}
	if err := checkOverlaps(t.Partitions); err != nil {
		return nil, err
	}
	return t, nil
}

// marshalMBR makes the protective MBR for a disk: UEFI 2.10, table 5.4.
func marshalMBR(sectors uint64) []byte {
	b := make([]byte, 512)
	e := b[mbrEntries:]
	copy(e, []byte{0, 0x00, 0x02, 0x00, mbrProtective, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(sectors-1, 0xffffffff)))
	b[mbrSignature], b[mbrSignature+1] = 0x55, 0xaa
	return b
}
