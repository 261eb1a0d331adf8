package eventlog

import (
	"strings"
	"testing"
	"unicode/utf16"
)

func wide(s string) []byte { return le16(nil, utf16.Encode([]rune(s))...) }

// guidBytes is what a GUID in this text looks like in memory.
func guidBytes(t *testing.T, text string) []byte {
	t.Helper()
	const digits = "0123456789abcdef"
	hex := strings.ReplaceAll(text, "-", "")
	var b []byte
	for i := 0; i < len(hex); i += 2 {
		b = append(b, byte(strings.Index(digits, hex[i:i+1])<<4|strings.Index(digits, hex[i+1:i+2])))
	}
	for _, swap := range [][2]int{{0, 3}, {1, 2}, {4, 5}, {6, 7}} {
		b[swap[0]], b[swap[1]] = b[swap[1]], b[swap[0]]
	}
	return b
}

// efiVariable is a variable as the firmware measures it.
func efiVariable(t *testing.T, owner, name string, value []byte) []byte {
	t.Helper()
	b := le64(guidBytes(t, owner), uint64(len(wide(name))/2), uint64(len(value)))
	return append(append(b, wide(name)...), value...)
}

// loaded is the record of a program with this device path.
func loaded(nodes ...[]byte) []byte {
	var path []byte
	for _, n := range nodes {
		path = append(path, n...)
	}
	return append(le64(nil, 1, 2, 3, uint64(len(path))), path...)
}

// pathNode is one node of a device path.
func pathNode(kind, subtype byte, data []byte) []byte {
	return append(le16([]byte{kind, subtype}, uint16(len(data)+4)), data...)
}

func TestWords(t *testing.T) {
	t.Parallel()
	const shim = "605dab50-e046-4300-abb6-3dd810dd8b23"
	file := func(name string) []byte { return pathNode(4, 4, wide(name+"\x00")) }
	for _, c := range []struct {
		want string
		e    Event
	}{
		{"separator", Event{Type: Separator, Data: []byte("\xff\xff\xff\xff")}},
		{"separator after an error", Event{Type: Separator, Data: []byte("\x01\x00\x00\x00")}},
		{"EV_SEPARATOR (4 bytes)", Event{Type: Separator, Data: []byte("\x02\x00\x00\x00")}},
		{"EV_SEPARATOR: WBCL", Event{Type: Separator, Data: []byte("WBCL\x00")}},
		{"TPM started at locality 3", Event{Type: NoAction, Data: []byte(startupLocality + "\x03")}},
		{"EV_NO_ACTION (2 bytes)", Event{Type: NoAction, Data: []byte("\x01\x02")}},
		{"firmware version 1.2", Event{Type: crtmVersion, Data: wide("1.2\x00")}},
		{"firmware version", Event{Type: crtmVersion, Data: []byte("\x01\x80\x81\x82")}},
		{"firmware code: ACPI DATA", Event{Type: postCode, Data: []byte("ACPI DATA")}},
		{"firmware code at 0x1000 (2 MiB)", Event{Type: postCode, Data: le64(nil, 0x1000, 2<<20)}},
		{"firmware code PEI at 0x1000 (1 byte)", Event{Type: efiBlob2, Data: le64([]byte("\x04PEI\x00"), 0x1000, 1)}},
		{"EV_EFI_PLATFORM_FIRMWARE_BLOB (3 bytes)", Event{Type: efiBlob, Data: []byte("\xff\xfe\xfd")}},
		{"SMBIOS tables", Event{Type: efiTables, Data: append(append(le64(nil, 1), guidBytes(t, "eb9d2d31-2d88-11d3-9a16-0090273fc14d")...), 1, 2, 3, 4, 5, 6, 7, 8)}},
		{"tables of the firmware: SMBIOS", Event{Type: efiTables2, Data: []byte("\x07SMBIOS\x00\x01")}},
		{"EV_EFI_HANDOFF_TABLES (8 bytes)", Event{Type: efiTables, Data: le64(nil, 1)}},
		{"event type 0x8000ffff: hm", Event{Type: 0x8000ffff, Data: []byte("hm")}},
		{"EV_EFI_HCRTM_EVENT: HCRTM", Event{Type: 0x80000010, Data: []byte("HCRTM")}},
		{"event type 0x80000000", Event{Type: 0x80000000}},
		{"EV_EFI_SPDM_DEVICE_AUTHORITY", Event{Type: 0x800000e4}},
		{"EV_OMIT_BOOT_DEVICE_EVENTS: BOOT ATTEMPTS OMITTED", Event{Type: 0x12, Data: []byte("BOOT ATTEMPTS OMITTED")}},

		{"kernel command line root=/dev/vda quiet", Event{PCR: 12, Type: ipl, Data: wide("root=/dev/vda quiet\x00")}},
		{"kernel command line quiet", Event{PCR: 8, Type: ipl, Data: []byte("kernel_cmdline: quiet\x00")}},
		{"EV_IPL: .linux", Event{PCR: 4, Type: ipl, Data: []byte(".linux\x00")}},
		{"section .linux of the kernel image", Event{PCR: 11, Type: ipl, Data: []byte(".linux\x00")}},
		{"name of section .linux of the kernel image", measured(11, ipl, ".linux\x00", "sha384")},
		{"EV_IPL", Event{PCR: 11, Type: ipl}},
		{"tag 0x99: hello", Event{Type: eventTag, Data: append(le32(nil, 0x99, 5), "hello"...)}},
		{"EV_EVENT_TAG (9 bytes)", Event{Type: eventTag, Data: append(le32(nil, 0x99, 5), "h"...)}},
		{"settings of the boot loader: loader.conf", Event{Type: eventTag, Data: append(le32(nil, 0xf5bc582a, 22), wide("loader.conf")...)}},

		{"Secure Boot variable SecureBoot (on)", Event{PCR: 7, Type: efiVariableDriver, Data: efiVariable(t, globalVariables, "SecureBoot", []byte{1})}},
		{"Secure Boot variable SecureBoot (off)", Event{PCR: 7, Type: efiVariableDriver, Data: efiVariable(t, globalVariables, "SecureBoot", nil)}},
		{"EFI variable SecureBoot (1 byte)", Event{PCR: 7, Type: efiVariableDriver, Data: efiVariable(t, shim, "SecureBoot", []byte{1})}},
		{"Secure Boot variable dbx (3 bytes)", Event{PCR: 7, Type: efiVariableDriver, Data: efiVariable(t, securityDatabase, "dbx", []byte("abc"))}},
		{"EFI variable Lang (empty)", Event{PCR: 1, Type: efiVariableBoot2, Data: efiVariable(t, globalVariables, "Lang", nil)}},
		{"boot order 0001, 000A", Event{PCR: 1, Type: efiVariableBoot, Data: efiVariable(t, globalVariables, "BootOrder", []byte{1, 0, 10, 0, 9})}},
		{"boot entry Boot000A (debian)", Event{PCR: 1, Type: efiVariableBoot, Data: efiVariable(t, globalVariables, "Boot000A", append([]byte("123456"), wide("debian\x00path")...))}},
		{"boot entry Boot0001", Event{PCR: 1, Type: efiVariableBoot, Data: efiVariable(t, globalVariables, "Boot0001", []byte("123456d"))}},
		{"EV_EFI_VARIABLE_BOOT (32 bytes)", Event{Type: efiVariableBoot, Data: le64(guidBytes(t, shim), 1<<63+1, 0)}},
		{"Secure Boot authority db (20 bytes)", Event{PCR: 7, Type: efiAuthority, Data: efiVariable(t, securityDatabase, "db", make([]byte, 20))}},

		{`boot loader application \EFI\a\b.efi`, Event{Type: efiApplication, Data: loaded(pathNode(1, 1, []byte{0, 3}), file(`\EFI\a`), file(`b.efi`), pathNode(0x7f, 0xff, nil))}},
		{`driver of PCI device 03.2 in an option ROM`, Event{Type: efiBootDriver, Data: loaded(pathNode(1, 1, []byte{2, 3}), pathNode(4, 8, make([]byte, 20)))}},
		{"boot loader application in the firmware: " + shim, Event{Type: efiApplication, Data: loaded(pathNode(4, 6, guidBytes(t, shim)))}},
		{"boot loader application http://x/y", Event{Type: efiApplication, Data: loaded(pathNode(3, 24, []byte("http://x/y")))}},
		{"boot loader application from the virtual machine", Event{Type: efiApplication, Data: loaded(pathNode(4, 3, guidBytes(t, "1428f772-b64a-441e-b8c3-9ebdd7f893c7")))}},
		{"driver", Event{Type: efiRuntimeDriver, Data: loaded(pathNode(4, 6, []byte{1}))}},
		{"driver", Event{Type: efiRuntimeDriver, Data: loaded([]byte{4, 4, 3, 0})}},
		{"driver", Event{Type: efiRuntimeDriver, Data: loaded([]byte{4, 4, 90, 0})}},
		{"EV_EFI_BOOT_SERVICES_APPLICATION (1 byte)", Event{Type: efiApplication, Data: []byte{0xff}}},
		{"EV_EFI_GPT_EVENT (92 bytes)", Event{Type: efiGPT, Data: make([]byte, 92)}},

		{"phase ready", Event{System: true, Kind: "phase", Data: []byte("ready")}},
		{"key of volume root:0f", Event{System: true, Kind: "volume-key", Data: []byte("cryptsetup:root:0f")}},
		{"file system /:x", Event{System: true, Kind: "filesystem", Data: []byte("file-system:/:x")}},
		{"measured by the system as nvpcr-init: a", Event{System: true, Kind: "nvpcr-init", Data: []byte("a")}},
		{"measured by the system a", Event{System: true, Data: []byte("a")}},
	} {
		if got := c.e.String(); got != c.want {
			t.Errorf("%v: %q, want %q", c.e.Type, got, c.want)
		}
	}
}

// Nothing from a log does anything to the terminal it is shown on.
func TestWordsAreHarmless(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"a long line \x1b[31mred":                     `action: a long line \x1b[31mred`,
		"this text goes \u202eback":                   `action: this text goes \u202eback`,
		"broken UTF-8 \xff here":                      `action: broken UTF-8 \xff here`,
		"two lines\nof\r\ntext":                       `action: two lines\nof\x0d\ntext`,
		"\x00\x00\x00":                                "EV_ACTION (3 bytes)",
		"\x01\x02\x03a":                               "EV_ACTION (4 bytes)",
		"Grüße, 世界":                                   "action: Grüße, 世界",
		string(wide("h\x1bello")):                     `action: h\x1bello`,
		"tag \U000e0041 beyond":                       `action: tag \U000e0041 beyond`,
		"zero\x00inside the text":                     `action: zero\x00inside the text`,
		strings.Repeat("ü", 1000):                     "action: " + strings.Repeat("ü", 54) + "…",
		"a" + strings.Repeat("ü", 1000):               "action: a" + strings.Repeat("ü", 54) + "…",
		strings.Repeat("\xff", maxLog/16):             "EV_ACTION (1 MiB)",
		strings.Repeat("x", maxWords-len("action: ")): "action: " + strings.Repeat("x", maxWords-len("action: ")),
	} {
		if got := (Event{Type: action, Data: []byte(data)}).String(); got != want {
			t.Errorf("%.40q: %q, want %q", data, got, want)
		}
	}
}

func TestSecureBootIsWhatTheFirmwareSaysLast(t *testing.T) {
	t.Parallel()
	event := func(value ...byte) Event {
		return Event{PCR: 7, Type: efiVariableDriver, Data: efiVariable(t, globalVariables, "SecureBoot", value)}
	}
	elsewhere, system := event(1), event(1)
	elsewhere.PCR, system.System = 8, true
	for _, c := range []struct {
		events    []Event
		on, known bool
	}{
		{nil, false, false},
		{[]Event{elsewhere, system}, false, false},
		{[]Event{event(1, 1)}, false, false},
		{[]Event{event()}, false, true},
		{[]Event{event(0), event(1)}, true, true},
		{[]Event{event(1), event(0)}, false, true},
	} {
		if on, known := (&Log{Events: c.events}).SecureBoot(); on != c.on || known != c.known {
			t.Errorf("%v: on %v, known %v", c.events, on, known)
		}
	}
}
