package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// String says in words what was measured, for a person to read: one line of
// printable text, of no more than maxWords bytes. An event that is not understood
// is told by its type.
func (e Event) String() string {
	if e.System {
		return clipWords(systemWords(e))
	}
	if say := sayers()[e.Type]; say != nil {
		if s := say(e); s != "" {
			return clipWords(s)
		}
	}
	return clipWords(generic(e))
}

// sayers are the functions that know a type. They return "" for data that does
// not have the form it should have.
func sayers() map[Type]func(Event) string {
	return map[Type]func(Event) string{
		NoAction:          sayRemark,
		Separator:         saySeparator,
		action:            sayAction,
		efiAction:         sayAction,
		eventTag:          sayTag,
		crtmContents:      labelled("first code of the firmware"),
		crtmVersion:       labelled("firmware version"),
		postCode:          sayCode,
		postCode2:         sayCode,
		efiBlob:           sayBlob,
		efiBlob2:          sayBlob,
		microcode:         labelled("microcode of the processor"),
		ipl:               sayIPL,
		efiVariableDriver: sayVariable,
		efiVariableBoot:   sayVariable,
		efiVariableBoot2:  sayVariable,
		efiAuthority:      sayAuthority,
		efiApplication:    sayImage,
		efiBootDriver:     sayImage,
		efiRuntimeDriver:  sayImage,
		efiGPT:            sayGPT,
		efiGPT2:           sayGPT,
		efiTables:         sayTables,
		efiTables2:        sayTables,
	}
}

func generic(e Event) string {
	if t := text(e.Data); t != "" {
		return e.Type.String() + ": " + t
	}
	if len(e.Data) == 0 {
		return e.Type.String()
	}
	return fmt.Sprintf("%v (%s)", e.Type, size(uint64(len(e.Data))))
}

// labelled says a label, and the text of the event if it is one.
func labelled(label string) func(Event) string {
	return func(e Event) string { return strings.TrimRight(label+" "+text(e.Data), " ") }
}

func sayRemark(e Event) string {
	if e.isLocality() {
		return fmt.Sprintf("TPM started at locality %d", e.locality())
	}
	if name, _, found := strings.Cut(string(clip(e.Data)), "\x00"); found && text([]byte(name)) != "" {
		return "remark: " + quote(name)
	}
	return ""
}

// saySeparator knows that the firmware ends with 1 what it could not do.
func saySeparator(e Event) string {
	if len(e.Data) != 4 {
		return ""
	}
	switch binary.LittleEndian.Uint32(e.Data) {
	case 0, 0xffffffff:
		return "separator"
	case 1:
		return "separator after an error"
	}
	return ""
}

func sayAction(e Event) string {
	if t := text(e.Data); t != "" {
		return "action: " + t
	}
	return ""
}

// sayCode knows both what old firmware writes, text, and what EFI does.
func sayCode(e Event) string {
	if t := text(e.Data); t != "" {
		return "firmware code: " + t
	}
	return sayBlob(e)
}

// sayTag reads a tag's number and its data, mostly a text.
func sayTag(e Event) string {
	c := &cursor{b: e.Data}
	tag, n := c.u32(), c.u32()
	data := c.bytes(uint64(n))
	if c.err != nil {
		return ""
	}
	name, ok := tags()[tag]
	if !ok {
		name = fmt.Sprintf("tag %#x", tag)
	}
	if t := text(data); t != "" && tag>>8 != efiStubTags {
		return name + ": " + t
	}
	return name
}

// efiStubTags is what the numbers of the kernel's EFI stub begin with. Its texts
// say the same as its numbers.
const efiStubTags = 0x8f3b22

// tags are the numbers that the conventional firmware's profile, the kernel's
// EFI stub and systemd's boot loader give to what they measure.
func tags() map[uint32]string {
	return map[uint32]string{
		1: "SMBIOS tables", 2: "certificate for boot services", 3: "POST BIOS ROM", 4: "ESCD", 5: "CMOS settings",
		6: "settings in NVRAM", 7: "option ROM", 8: "settings of an option ROM", 10: "microcode of an option ROM",
		11: "version of the first code", 12: "first code", 13: "POST contents",
		0x8f3b22ec: "initrd, as the kernel got it", 0x8f3b22ed: "command line, as the kernel got it",
		0xf5bc582a: "settings of the boot loader", 0x6c46f751: "device tree addon", 0x49dffe0f: "initrd addon",
		0xdac08e1a: "microcode addon", 0x13aed6db: "profile of the kernel image",
	}
}

// sayIPL tells by its text and its PCR what a boot loader measured: GRUB its
// commands into PCR 8 and files into PCR 9, systemd's stub the sections of a
// kernel image into PCR 11 and command lines into PCR 12, shim its lists into 14.
func sayIPL(e Event) string {
	t := text(e.Data)
	if command, ok := strings.CutPrefix(t, "kernel_cmdline: "); ok {
		return "kernel command line " + command
	}
	if command, ok := strings.CutPrefix(t, "grub_cmd: "); ok {
		return "GRUB command " + command
	}
	switch {
	case t == "":
		return ""
	case e.PCR == 9 && (t[0] == '/' || t[0] == '('):
		return "file " + t
	case e.PCR == 11 && t[0] == '.' && e.hashes(t+"\x00"):
		return "name of section " + t + " of the kernel image"
	case e.PCR == 11 && t[0] == '.':
		return "section " + t + " of the kernel image"
	case e.PCR == 12:
		return "kernel command line " + t
	case e.PCR == 14:
		return "list of shim's: " + t
	}
	return ""
}

// hashes tells whether it is this text that was measured.
func (e Event) hashes(s string) bool {
	for name, d := range e.Digests {
		b, _ := bankByName(name) // there are no others
		h := b.hash()
		h.Write([]byte(s))
		if bytes.Equal(h.Sum(nil), d) {
			return true
		}
	}
	return false
}

func systemWords(e Event) string {
	k, ok := kinds()[e.Kind]
	if !ok {
		k.words = "measured by the system"
		if name := text([]byte(e.Kind)); name != "" {
			k.words += " as " + name + ":"
		}
	}
	return strings.TrimRight(k.words+" "+strings.TrimPrefix(text(e.Data), k.prefix), " ")
}

// kind is something that systemd measures, and what it puts in front of the
// text to keep one from looking like another.
type kind struct{ words, prefix string }

func kinds() map[string]kind {
	return map[string]kind{
		"phase":      {words: "phase"},
		"filesystem": {"file system", "file-system:"},
		"volume-key": {"key of volume", "cryptsetup:"},
		"machine-id": {"machine ID", "machine-id:"},
	}
}
