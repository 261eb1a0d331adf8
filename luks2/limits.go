package luks2

import (
	"cmp"
	"fmt"
)

// Limits bound what a header may make us spend. The zero value stands for the
// defaults; 0 in a field likewise.
type Limits struct {
	KDFMemory     int64  // bytes of memory for one key derivation; default: what the machine has to give
	KDFIterations uint32 // of PBKDF2; default 400 million, some minutes
	KDFTime       uint32 // passes of Argon2; default 4096
}

const (
	defaultIterations = 400_000_000
	defaultTime       = 4096
)

// memory returns the bound in bytes. Asking the machine is left to the end, as
// most derivations don't need it.
func (l Limits) memory() int64 {
	if l.KDFMemory != 0 {
		return l.KDFMemory
	}
	return availableMemory()
}

// check refuses a derivation that costs more than is allowed.
func (l Limits) check(k KDF) error {
	iterations, time := cmp.Or(l.KDFIterations, defaultIterations), cmp.Or(l.KDFTime, defaultTime)
	switch {
	case k.Type == PBKDF2 && k.Iterations > iterations:
		return fmt.Errorf("%w: %d PBKDF2 iterations, at most %d are allowed", ErrLimit, k.Iterations, iterations)
	case k.Type != PBKDF2 && k.Time > time:
		return fmt.Errorf("%w: %d passes of %s, at most %d are allowed", ErrLimit, k.Time, k.Type, time)
	case k.Type != PBKDF2:
		if most := l.memory(); int64(k.Memory)*1024 > most {
			return fmt.Errorf("%w: %s wants %s of memory, at most %s are allowed",
				ErrLimit, k.Type, memorySize(int64(k.Memory)<<10), memorySize(most))
		}
	}
	return nil
}
