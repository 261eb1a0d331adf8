package eventlog

import (
	"fmt"
	"strings"
)

// sayImage tells which program was loaded, by the end of its device path.
func sayImage(e Event) string {
	c := &cursor{b: e.Data}
	c.bytes(24) // where it is, how long it is, where it should be
	path := c.bytes(c.u64())
	if c.err != nil {
		return ""
	}
	what := "driver"
	if e.Type == efiApplication {
		what = "boot loader application"
	}
	if len(path) == 0 {
		return what + " from memory"
	}
	return strings.TrimRight(what+" "+devicePath(path), " ")
}

// devicePath says the nodes of a path that lead to a file: where on a disk or in
// the firmware it is, and its name.
func devicePath(path []byte) string {
	var files, rest []string
	c := &cursor{b: path}
	for total := 0; c.off < len(c.b) && total < maxText; {
		kind, n := c.u16(), c.u16()
		if n < 4 {
			break
		}
		data := c.bytes(uint64(n - 4))
		if c.err != nil {
			break
		}
		if name, isFile := node(kind, data); isFile {
			files = append(files, strings.Trim(name, `\`))
			total += len(name)
		} else if name != "" {
			rest = append(rest, name)
			total += len(name)
		}
	}
	if len(files) > 0 {
		return `\` + strings.Join(files, `\`)
	}
	return strings.Join(rest, " ")
}

// node reads one node, of type and subtype: the name of a file on a disk, or of
// something else that a program can come from.
func node(kind uint16, data []byte) (name string, isFile bool) {
	const (
		pci          = 0x0101
		uri          = 0x1803
		vendorMedia  = 0x0304
		filePath     = 0x0404
		firmwareFile = 0x0604
		relOffset    = 0x0804
	)
	c := &cursor{b: data}
	switch kind {
	case filePath:
		return readable(strings.TrimRight(utf16Text(clip(data)), "\x00")), true
	case uri:
		return text(data), false
	case firmwareFile:
		name = "in the firmware: " + c.guid().String()
	case vendorMedia:
		name = vendor(c.guid().String())
	case pci:
		function := c.u8()
		name = fmt.Sprintf("of PCI device %02x.%x", c.u8(), function)
	case relOffset:
		name = "in an option ROM"
	}
	if c.err != nil {
		return "", false
	}
	return name, false
}

// vendor knows who loads programs from a path that is only a GUID.
func vendor(id string) string {
	switch id {
	case "55c5d1f8-04cd-46b5-8a20-e56cbb3052d0": // systemd's stub
		return "from the kernel image"
	case "1428f772-b64a-441e-b8c3-9ebdd7f893c7": // the firmware for QEMU's -kernel
		return "from the virtual machine"
	}
	return "from " + id
}

// sayBlob tells where a piece of the firmware is in memory; the newer form has
// a description in front.
func sayBlob(e Event) string {
	c := &cursor{b: e.Data}
	name := ""
	if e.Type == efiBlob2 || e.Type == postCode2 {
		name = " " + text(c.bytes(uint64(c.u8())))
	}
	base, n := c.u64(), c.u64()
	if c.err != nil || c.off != len(c.b) {
		return ""
	}
	return fmt.Sprintf("firmware code%s at %#x (%s)", strings.TrimRight(name, " "), base, size(n))
}

// sayTables names the tables that the firmware hands to the system.
func sayTables(e Event) string {
	c := &cursor{b: e.Data}
	if e.Type == efiTables2 {
		if name := text(c.bytes(uint64(c.u8()))); name != "" {
			return "tables of the firmware: " + name
		}
	}
	names := map[string]string{
		"eb9d2d31-2d88-11d3-9a16-0090273fc14d": "SMBIOS tables",
		"f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS tables",
		"8868e871-e4f1-11d3-bc22-0080c73c8881": "ACPI tables",
		"eb9d2d30-2d88-11d3-9a16-0090273fc14d": "ACPI tables",
	}
	if c.u64() == 1 {
		if name := names[c.guid().String()]; name != "" {
			return name
		}
	}
	return ""
}

// sayGPT tells how many partitions the disk has.
func sayGPT(e Event) string {
	const headerSize, diskGUID = 92, 56
	c := &cursor{b: e.Data}
	c.bytes(diskGUID)
	disk := c.guid()
	c.bytes(headerSize - diskGUID - uint64(len(disk)))
	partitions := c.u64()
	if c.err != nil {
		return ""
	}
	return fmt.Sprintf("partition table of disk %v (%s)", disk, count(partitions, "partition"))
}
