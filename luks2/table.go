package luks2

import (
	"strconv"
	"strings"
)

// Table is the dm-crypt target that activates one segment: everything that the
// kernel is told about a volume except its key. It is built from the validated
// header in memory, never from a second read of the disk. Sectors are 512 bytes.
//
// Format: Linux, Documentation/admin-guide/device-mapper/dm-crypt.rst.
type Table struct {
	UUID           string   // of the mapping: CRYPT-LUKS2-<header UUID without dashes>-<name>
	Device         string   // path of the data device
	DataOffset     uint64   // sectors from the start of Device
	Length         uint64   // sectors
	Cipher         string   // as in the segment, "aes-xts-plain64"
	KeySize        int      // bytes
	KeyDescription string   // of the kernel key that carries the volume key: cryptsetup:<UUID>-d<digest>
	IVOffset       uint64   // sectors
	Options        []string // in the order in which libcryptsetup gives them
	ReadOnly       bool
}

// Params returns the parameter text of the target. key is what stands in the
// place of the key, such as [Table.KeyringKey]; device is what stands for the
// data device, a path or MAJOR:MINOR.
func (t Table) Params(key, device string) string {
	fields := []string{
		t.Cipher, key, strconv.FormatUint(t.IVOffset, 10), device, strconv.FormatUint(t.DataOffset, 10),
	}
	if len(t.Options) > 0 {
		fields = append(fields, strconv.Itoa(len(t.Options)))
		fields = append(fields, t.Options...)
	}
	return strings.Join(fields, " ")
}

// KeyringKey returns the reference by which the kernel finds the volume key in
// the caller's keyrings.
func (t Table) KeyringKey() string {
	return ":" + strconv.Itoa(t.KeySize) + ":logon:" + t.KeyDescription
}
