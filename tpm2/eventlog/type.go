package eventlog

import "fmt"

// Type is what kind of thing the firmware says it measured.
type Type uint32

// Types that decide something here; the names of all are in the profile.
const (
	NoAction  Type = 3 // a remark: nothing was measured
	Separator Type = 4 // between what the firmware and what the boot loader measures

	postCode          Type = 0x1
	action            Type = 0x5
	eventTag          Type = 0x6
	crtmContents      Type = 0x7
	crtmVersion       Type = 0x8
	microcode         Type = 0x9
	ipl               Type = 0xd
	postCode2         Type = 0x13
	efiVariableDriver Type = 0x80000001
	efiVariableBoot   Type = 0x80000002
	efiApplication    Type = 0x80000003
	efiBootDriver     Type = 0x80000004
	efiRuntimeDriver  Type = 0x80000005
	efiGPT            Type = 0x80000006
	efiAction         Type = 0x80000007
	efiBlob           Type = 0x80000008
	efiTables         Type = 0x80000009
	efiBlob2          Type = 0x8000000a
	efiTables2        Type = 0x8000000b
	efiVariableBoot2  Type = 0x8000000c
	efiGPT2           Type = 0x8000000d
	efiAuthority      Type = 0x800000e0
)

// typeName returns "" for what the profile does not know.
func typeName(t Type) string {
	first := [...]string{"EV_PREBOOT_CERT", "EV_POST_CODE", "EV_UNUSED", "EV_NO_ACTION", "EV_SEPARATOR", "EV_ACTION",
		"EV_EVENT_TAG", "EV_S_CRTM_CONTENTS", "EV_S_CRTM_VERSION", "EV_CPU_MICROCODE", "EV_PLATFORM_CONFIG_FLAGS",
		"EV_TABLE_OF_DEVICES", "EV_COMPACT_HASH", "EV_IPL", "EV_IPL_PARTITION_DATA", "EV_NONHOST_CODE",
		"EV_NONHOST_CONFIG", "EV_NONHOST_INFO", "EV_OMIT_BOOT_DEVICE_EVENTS", "EV_POST_CODE2"}
	efi := [...]string{1: "VARIABLE_DRIVER_CONFIG", "VARIABLE_BOOT", "BOOT_SERVICES_APPLICATION", "BOOT_SERVICES_DRIVER",
		"RUNTIME_SERVICES_DRIVER", "GPT_EVENT", "ACTION", "PLATFORM_FIRMWARE_BLOB", "HANDOFF_TABLES",
		"PLATFORM_FIRMWARE_BLOB2", "HANDOFF_TABLES2", "VARIABLE_BOOT2", "GPT_EVENT2", 0x10: "HCRTM_EVENT",
		0xe0: "VARIABLE_AUTHORITY", "SPDM_FIRMWARE_BLOB", "SPDM_FIRMWARE_CONFIG", "SPDM_DEVICE_POLICY",
		"SPDM_DEVICE_AUTHORITY"}
	const efiBase = 0x80000000
	if t < Type(len(first)) {
		return first[t]
	}
	if n := t - efiBase; t > efiBase && n < Type(len(efi)) && efi[n] != "" {
		return "EV_EFI_" + efi[n]
	}
	return ""
}

// String is the profile's name of the type.
func (t Type) String() string {
	if name := typeName(t); name != "" {
		return name
	}
	return fmt.Sprintf("event type %#x", uint32(t))
}
