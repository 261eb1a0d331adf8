// Package tpm2 opens and makes keyslots that are bound to a TPM 2.0, with the
// tokens of type systemd-tpm2.
//
// It reads the tokens of every systemd from 248 to 262 and writes them as 257
// does. It speaks to the TPM in its own few commands, byte by byte, so that what
// is secret stays in memory that is wiped and each command is there for a reason.
// It also reads PCRs, and signs the policies that tokens can be bound to, for
// which no TPM is needed.
//
// What it protects against: every session is salted to the parent key that the
// token records, so only the TPM that holds that key can take part, and what
// crosses the bus in either direction is encrypted and authenticated. What
// remains: whoever can change the token on disk and sit on the bus at the same
// time can name a parent of their own; tokens of systemd before 254 record no
// parent at all, and whoever sits on the bus when one is used can present one.
// A policy says which software may have the secret, not which bus carries it.
//
// It does not decide which token is tried, talks to nobody but a volume.Asker,
// and knows no fixed path.
package tpm2

import (
	"errors"
	"fmt"
	"time"
)

// TokenType is the type of the tokens of this package.
const TokenType = "systemd-tpm2"

// What can stand between a token and its secret. The caller decides by these
// whether to go on with the next token, to wait, to ask or to stop.
var (
	ErrNoTPM       = errors.New("no TPM 2.0 device")
	ErrOtherTPM    = errors.New("sealed by another TPM, or before this one was cleared")
	ErrPolicy      = errors.New("the state of the machine is not what the token is bound to")
	ErrNoSignature = errors.New("no signature for the present state of the machine")
	ErrPIN         = errors.New("wrong PIN")
	ErrLockout     = errors.New("the TPM is locked against guessing")
	ErrBank        = errors.New("the TPM does not use this PCR bank")
	ErrFull        = errors.New("the TPM's memory is full")
	ErrBusy        = errors.New("the TPM stayed busy")
	ErrResponse    = errors.New("the TPM's response makes no sense")
	ErrUnbound     = errors.New("bound to nothing but the TPM")
	ErrChanging    = errors.New("the PCRs kept changing")
	ErrOwnerAuth   = errors.New("the TPM's owner has a password")
)

// LockedOut says how long the TPM refuses to take PINs. It is [ErrLockout].
type LockedOut struct {
	Wait time.Duration // until the next attempt is allowed, at most; 0 if unknown
}

// Error names the time to wait.
func (l *LockedOut) Error() string {
	if l.Wait == 0 {
		return ErrLockout.Error()
	}
	return fmt.Sprintf("%v for up to %v", ErrLockout, l.Wait)
}

// Is makes it [ErrLockout].
func (*LockedOut) Is(target error) bool { return target == ErrLockout }
