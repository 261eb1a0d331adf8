package fido2

import (
	"errors"
	"fmt"
)

// Status is what a device answers in place of a result. It is an error, and can be
// looked for with errors.Is.
type Status byte

// The statuses that decide what happens next; CTAP 2.1, section 8.2.
const (
	StatusInvalidCommand     Status = 0x01
	StatusInvalidParameter   Status = 0x02
	StatusMissingParameter   Status = 0x14
	StatusUnsupportedAlg     Status = 0x26
	StatusOperationDenied    Status = 0x27
	StatusKeyStoreFull       Status = 0x28
	StatusUnsupportedOption  Status = 0x2b
	StatusInvalidOption      Status = 0x2c
	StatusKeepaliveCancel    Status = 0x2d
	StatusNoCredentials      Status = 0x2e
	StatusUserActionTimeout  Status = 0x2f
	StatusNotAllowed         Status = 0x30
	StatusPINInvalid         Status = 0x31
	StatusPINBlocked         Status = 0x32
	StatusPINAuthInvalid     Status = 0x33
	StatusPINAuthBlocked     Status = 0x34
	StatusPINNotSet          Status = 0x35
	StatusPINRequired        Status = 0x36
	StatusPINPolicyViolation Status = 0x37
	StatusActionTimeout      Status = 0x3a
	StatusUPRequired         Status = 0x3b
	StatusUVBlocked          Status = 0x3c
	StatusUVInvalid          Status = 0x3f
)

// statusTexts says what each means for a person.
var statusTexts = map[Status]string{
	StatusInvalidCommand:     "the security key does not know this command",
	StatusInvalidParameter:   "the security key does not take these parameters",
	0x03:                     "the security key complains about the length of a message",
	0x05:                     "the security key waited for the rest of a message in vain",
	0x06:                     "the security key is busy with another program",
	0x11:                     "the security key does not understand the message",
	0x12:                     "the security key does not understand the message",
	StatusMissingParameter:   "the security key misses a parameter",
	0x15:                     "the message is more than the security key can take",
	0x19:                     "the security key has such a credential already",
	0x22:                     "the credential is not valid",
	StatusUnsupportedAlg:     "the security key does not support this algorithm",
	StatusOperationDenied:    "the security key denied the operation",
	StatusKeyStoreFull:       "the security key has no room left",
	StatusUnsupportedOption:  "the security key does not support an option of the request",
	StatusInvalidOption:      "the security key does not take an option of the request",
	StatusKeepaliveCancel:    "the operation was cancelled",
	StatusNoCredentials:      "the credential is not one of this security key",
	StatusUserActionTimeout:  "nobody touched the security key in time",
	StatusNotAllowed:         "the security key does not allow the operation now",
	StatusPINInvalid:         "wrong PIN",
	StatusPINBlocked:         "the PIN of the security key is blocked for good",
	StatusPINAuthInvalid:     "the security key did not accept the proof of the PIN",
	StatusPINAuthBlocked:     "the security key takes no more PINs until it is plugged in again",
	StatusPINNotSet:          "the security key has no PIN",
	StatusPINRequired:        "the security key wants its PIN or the user verified",
	StatusPINPolicyViolation: "the security key wants its PIN to be changed first",
	StatusActionTimeout:      "nobody confirmed on the security key in time",
	StatusUPRequired:         "the security key wants to be touched",
	StatusUVBlocked:          "the security key verifies no more users until its PIN is given or it is plugged in again",
	StatusUVInvalid:          "the security key did not recognise the user",
	0x39:                     "the message is more than the security key can take",
	0x3d:                     "the security key found its own data damaged",
	0x3e:                     "the security key does not know this command",
	0x40:                     "the security key does not permit this operation",
	0x7f:                     "the security key failed without giving a reason",
}

// Error says what the status means.
func (s Status) Error() string {
	if text, known := statusTexts[s]; known {
		return text
	}
	return fmt.Sprintf("the security key answers with error 0x%02x", byte(s))
}

// What else can stand between a token and its secret.
var (
	ErrNoDevice     = errors.New("no FIDO2 security key is plugged in")
	ErrSeveral      = errors.New("more than one FIDO2 security key is plugged in")
	ErrNotFIDO2     = errors.New("not a FIDO2 security key")
	ErrNoHMACSecret = errors.New("the security key does not support hmac-secret")
	ErrOtherKey     = errors.New("none of the keyslots was enrolled with this security key")
	ErrPIN          = errors.New("no PIN that the security key could have")
	ErrNoPIN        = errors.New("the keyslot wants the PIN of the security key, which has none now")
	ErrNoUV         = errors.New("the keyslot wants the user verified, which the security key can't do now")
	ErrResponse     = errors.New("the response of the security key makes no sense")
	ErrGone         = errors.New("the security key is not there")
	ErrBusy         = errors.New("another program uses the security key")
	ErrSilent       = errors.New("the security key does not answer")
	ErrNoPerson     = errors.New("the security key has to be touched, and prompts are switched off")
)

// WrongPIN is [StatusPINInvalid] with how often a PIN may still be tried before
// the key blocks it for good.
type WrongPIN struct{ Left int }

// Error tells the number.
func (w *WrongPIN) Error() string {
	if w.Left == 1 {
		return "wrong PIN, 1 try is left"
	}
	return fmt.Sprintf("wrong PIN, %d tries are left", w.Left)
}

// Is makes it [StatusPINInvalid].
func (*WrongPIN) Is(target error) bool { return target == StatusPINInvalid }
