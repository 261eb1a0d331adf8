package luks2

import (
	"bytes"
	"errors"
	"io"
)

// A signature is how another format can be told at a fixed place. The list has
// what commonly ends up on a disk by mistake; blkid knows many more.
type signature struct {
	name   string
	offset int64
	magic  string
}

var signatures = []signature{
	{"a GPT partition table", 512, "EFI PART"},
	{"a GPT partition table", 4096, "EFI PART"},
	{"a boot sector", 510, "\x55\xaa"},
	{"an ext file system", 1080, "\x53\xef"},
	{"an XFS file system", 0, "XFSB"},
	{"a btrfs file system", 0x10040, "_BHRfS_M"},
	{"an f2fs file system", 1024, "\x10\x20\xf5\xf2"},
	{"a bcachefs file system", 4120, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca"},
	{"an NTFS file system", 3, "NTFS    "},
	{"an exFAT file system", 3, "EXFAT   "},
	{"BitLocker", 3, "-FVE-FS-"},
	{"a FAT file system", 54, "FAT1"},
	{"a FAT file system", 82, "FAT32"},
	{"swap space", 4086, "SWAPSPACE2"},
	{"an LVM physical volume", 512, "LABELONE"},
	{"an LVM physical volume", 0, "LABELONE"},
	{"a RAID member", 4096, "\xfc\x4e\x2b\xa9"},
	{"a RAID member", 0, "\xfc\x4e\x2b\xa9"},
	{"a squashfs image", 0, "hsqs"},
	{"an erofs image", 1024, "\xe2\xe1\xf5\xe0"},
	{"an ISO 9660 image", 32769, "CD001"},
	{"a LUKS1 volume", 0, "LUKS\xba\xbe\x00\x01"},
}

// foreignSignature returns what else the start of a store looks like, "" for
// nothing that we know.
func foreignSignature(s Store) (string, error) {
	for _, sig := range signatures {
		b := make([]byte, len(sig.magic))
		err := readFull(s, b, sig.offset)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return "", err
		}
		if err == nil && bytes.Equal(b, []byte(sig.magic)) {
			return sig.name, nil
		}
	}
	return "", nil
}

// Probe returns in words what a store holds, "" for nothing that we know.
func Probe(s Store) (string, error) {
	if primary, secondary := readCopies(s); primary.err == nil || secondary.err == nil {
		return "a LUKS2 volume", nil
	}
	return foreignSignature(s)
}
