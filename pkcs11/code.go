package pkcs11

import "fmt"

// Code is an error that a module returned: one of the CKR_ values of PKCS#11
// 2.40 §2.1 and its header file. It is [ErrPIN], [ErrLocked] or [ErrNoToken] to
// errors.Is where it means that.
type Code uint64

// Codes that are decided by.
const (
	codeSlot             Code = 0x03
	codeArguments        Code = 0x07
	codeAttributeMissing Code = 0x12
	codeDeviceRemoved    Code = 0x32
	codeFunctionCanceled Code = 0x50
	codeMechanism        Code = 0x70
	codeMechanismParam   Code = 0x71
	codePINIncorrect     Code = 0xa0
	codePINInvalid       Code = 0xa1
	codePINLength        Code = 0xa2
	codePINExpired       Code = 0xa3
	codePINLocked        Code = 0xa4
	codeTokenAbsent      Code = 0xe0
	codeTokenUnknown     Code = 0xe1
	codeLoggedIn         Code = 0x100
	codeNotLoggedIn      Code = 0x101
	codePINNotSet        Code = 0x102
	codeBufferTooSmall   Code = 0x150
)

// sentences say what the codes mean that a person may meet.
var sentences = map[Code]string{
	0x02:                 "the host has no memory left",
	codeSlot:             "there is no such slot",
	0x05:                 "the module failed",
	0x06:                 "the function failed",
	codeArguments:        "the module refuses the arguments",
	0x11:                 "the token does not let this attribute out",
	codeAttributeMissing: "the token does not know this attribute",
	0x13:                 "the token refuses an attribute's value",
	0x20:                 "the token refuses the data",
	0x21:                 "the data has the wrong length",
	0x30:                 "the token or its reader failed",
	0x31:                 "the token has no memory left",
	codeDeviceRemoved:    "the token was removed",
	0x40:                 "this was not encrypted for the key on the token",
	0x41:                 "what was encrypted has the wrong length for the key on the token",
	codeFunctionCanceled: "it was cancelled at the token",
	0x54:                 "the module does not support this function",
	0x60:                 "there is no such key",
	0x62:                 "the key has a size that the token does not support",
	0x63:                 "the key is of another type",
	0x68:                 "the key is not permitted to be used for this",
	codeMechanism:        "the token does not support this kind of encryption",
	codeMechanismParam:   "the token does not support these parameters of the encryption",
	0x90:                 "another operation is going on",
	codePINIncorrect:     ErrPIN.Error(),
	codePINInvalid:       "wrong PIN: it has characters that the token refuses",
	codePINLength:        "wrong PIN: too short or too long",
	codePINExpired:       "the PIN has expired and has to be changed first",
	codePINLocked:        ErrLocked.Error(),
	0xb0:                 "the session was closed",
	0xb1:                 "the token permits no more sessions",
	codeTokenAbsent:      "there is no token in the slot",
	codeTokenUnknown:     "the token is not recognised",
	0xe2:                 "the token is write-protected",
	codeLoggedIn:         "somebody is logged in already",
	codeNotLoggedIn:      "nobody is logged in",
	codePINNotSet:        "no PIN was set yet",
	0x103:                "this user is unknown to the token",
	0x104:                "another user is logged in",
	0x110:                "the wrapped key is not valid",
	codeBufferTooSmall:   "a buffer is too small",
	0x190:                "the module is not initialised",
	0x191:                "the module is initialised already",
}

// Error says what the code means.
func (c Code) Error() string {
	if s, ok := sentences[c]; ok {
		return s
	}
	return fmt.Sprintf("PKCS#11 error %#x", uint64(c))
}

// Is sorts the code under the sentinels of this package.
func (c Code) Is(target error) bool {
	switch c {
	case codePINIncorrect, codePINInvalid, codePINLength:
		return target == ErrPIN
	case codePINLocked:
		return target == ErrLocked
	case codeTokenAbsent, codeTokenUnknown, codeDeviceRemoved:
		return target == ErrNoToken
	}
	return false
}
