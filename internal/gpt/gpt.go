// Package gpt reads and writes partition tables of disk images: GUID partition
// tables as the UEFI Specification 2.10, chapter 5, lays them down, and, to read
// only, the four primary partitions of an MBR. It knows the partition types of
// the UAPI.2 Discoverable Partitions Specification, and chooses among an image's
// partitions as systemd does.
//
// Tables are hostile input: everything is checked before it is used, and memory
// is bounded. Nothing here looks inside partitions.
package gpt

import (
	"errors"
	"fmt"
	"io"
)

// ErrNoTable says that there is neither a GPT nor an MBR with partitions, as in
// an image that is one naked file system.
var ErrNoTable = errors.New("no partition table")

// Scheme is the kind of a partition table.
type Scheme int

// The kinds of tables that are read. Only GPT is written.
const (
	GPT Scheme = iota
	MBR
)

func (s Scheme) String() string {
	if s == MBR {
		return "MBR"
	}
	return "GPT"
}

// Attributes are the flags of a GPT partition.
type Attributes uint64

// Attributes of UEFI 2.10, table 5.8, and of UAPI.2, "Partition Attribute Flags".
const (
	Required   Attributes = 1 << 0
	NoBlockIO  Attributes = 1 << 1 // firmware, and so everybody else, leaves an ESP alone
	LegacyBoot Attributes = 1 << 2
	GrowFS     Attributes = 1 << 59
	ReadOnly   Attributes = 1 << 60
	NoAuto     Attributes = 1 << 63
)

// Partition is one entry of a table. Offset and Size are in bytes, and inside
// the disk.
type Partition struct {
	Number     int // from 1
	Type       UUID
	UUID       UUID
	Label      string // as UTF-8; what isn't valid UTF-16 has become U+FFFD
	Attributes Attributes
	Offset     int64
	Size       int64

	// Of an MBR's partitions only, which have no UUIDs, label or attributes.
	MBRType  byte
	Bootable bool
}

// Section returns the partition's bytes of the disk it is on.
func (p Partition) Section(disk io.ReaderAt) *io.SectionReader {
	return io.NewSectionReader(disk, p.Offset, p.Size)
}

func (p Partition) end() int64 { return p.Offset + p.Size }

// Table is a partition table, with its partitions in the order of their
// numbers.
type Table struct {
	Scheme     Scheme
	UUID       UUID // of the disk; zero for an MBR
	SectorSize int64
	Partitions []Partition
	damage     error
}

// Damage returns what is wrong with the copy of the table that was not used:
// the primary one where the backup had to be read, else the backup. It is nil
// when both are whole and say the same.
func (t *Table) Damage() error { return t.damage }

// A disk is where tables are read from.
type disk struct {
	r       io.ReaderAt
	size    int64
	sector  int64
	sectors uint64
}

func (d disk) withSector(size int64) disk {
	d.sector, d.sectors = size, uint64(d.size/size)
	return d
}

// bytes reads n bytes from a sector on. The caller bounds n.
func (d disk) bytes(sector uint64, n int) ([]byte, error) {
	if sector >= d.sectors || int64(n) > d.size-int64(sector)*d.sector {
		return nil, fmt.Errorf("%d bytes from sector %d: the disk has %d sectors", n, sector, d.sectors)
	}
	b := make([]byte, n)
	return b, readFull(d.r, b, int64(sector)*d.sector)
}

// readFull reads all of p or says that the disk ends too early.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at %d: %w", len(p), offset, err)
}
