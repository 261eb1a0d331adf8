package tpm2

import "fmt"

// Response codes that matter here, with the number of the parameter, handle or
// session taken out (part 2 §6.6).
const (
	rcValue        = 0x084
	rcHandle       = 0x08b
	rcAuthFail     = 0x08e
	rcPolicyFail   = 0x09d
	rcIntegrity    = 0x09f
	rcBadAuth      = 0x0a2
	rcPoint        = 0x0a7
	rcSize         = 0x095
	rcBinding      = 0x0a5
	rcKey          = 0x09c
	rcPCRChanged   = 0x128
	rcNVUninit     = 0x14a
	rcNVSpace      = 0x14b
	rcObjectMemory = 0x902
	rcSessionMem   = 0x903
	rcSessions     = 0x905
	rcYielded      = 0x908
	rcTesting      = 0x90a
	rcReference    = 0x910 // no object is loaded at the first handle
	rcLockout      = 0x921
	rcRetry        = 0x922
)

// rcError is a command that the TPM refused.
type rcError struct{ command, rc uint32 }

// code returns the response code without the number of what it is about.
func (e rcError) code() uint32 {
	if e.rc&0x80 != 0 {
		return e.rc & 0xbf
	}
	return e.rc
}

// Error names the command and the reason.
func (e rcError) Error() string {
	return fmt.Sprintf("TPM2_%s: %s (%#x)", commandName(e.command), rcText(e.code()), e.rc)
}

// Is maps codes that mean the same whatever the command.
func (e rcError) Is(target error) bool {
	switch e.code() {
	case rcLockout:
		return target == ErrLockout
	case rcPCRChanged:
		return target == ErrChanging
	case rcRetry, rcYielded, rcTesting:
		return target == ErrBusy
	case rcNVSpace, rcObjectMemory, rcSessionMem, rcSessions:
		return target == ErrFull
	}
	return false
}

// absent tells whether the TPM has no key at the handle that a command named,
// persistent or not.
func absent(err error) bool {
	code := codeOf(err)
	return code == rcHandle || code == rcReference
}

func rcText(code uint32) string {
	texts := map[uint32]string{
		rcValue: "value out of range", rcHandle: "no such object", rcAuthFail: "wrong authorisation, counted against guessing",
		rcPolicyFail: "policy not met", rcIntegrity: "not made by this TPM", rcBadAuth: "wrong authorisation",
		rcPoint: "point not on the curve", rcPCRChanged: "a PCR changed meanwhile", rcNVUninit: "the NV index was never written",
		rcNVSpace: "no room in the TPM's NV memory", rcObjectMemory: "no room for another object",
		rcSessionMem: "no room for another session", rcSessions: "no room for another session", rcYielded: "the TPM yielded",
		rcTesting: "the TPM is testing itself", rcLockout: "locked against guessing", rcRetry: "the TPM was not ready",
		rcSize: "wrong size", rcBinding: "not made for this parent", rcKey: "unsuitable key",
	}
	if text, ok := texts[code]; ok {
		return text
	}
	return "refused"
}

func commandName(cc uint32) string {
	names := map[uint32]string{
		ccEvictControl: "EvictControl", ccCreatePrimary: "CreatePrimary", ccCreate: "Create", ccImport: "Import", ccLoad: "Load",
		ccUnseal: "Unseal", ccFlushContext: "FlushContext", ccLoadExternal: "LoadExternal", ccPolicyAuthorize: "PolicyAuthorize",
		ccPolicyAuthValue: "PolicyAuthValue", ccPolicyOR: "PolicyOR", ccReadPublic: "ReadPublic",
		ccStartAuthSession: "StartAuthSession", ccVerifySignature: "VerifySignature", ccGetCapability: "GetCapability",
		ccPCRRead: "PCR_Read", ccPolicyPCR: "PolicyPCR", ccPolicyGetDigest: "PolicyGetDigest",
		ccPolicyAuthorizeNV: "PolicyAuthorizeNV", ccPCRExtend: "PCR_Extend", ccNVRead: "NV_Read", ccNVReadPublic: "NV_ReadPublic",
	}
	return names[cc]
}
