package luks2

import "fmt"

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

func (l Limits) withDefaults() Limits {
	if l.KDFMemory == 0 {
		l.KDFMemory = availableMemory()
	}
	if l.KDFIterations == 0 {
		l.KDFIterations = defaultIterations
	}
	if l.KDFTime == 0 {
		l.KDFTime = defaultTime
	}
	return l
}

// check refuses a derivation that costs more than is allowed.
func (l Limits) check(k KDF) error {
	l = l.withDefaults()
	switch {
	case k.Type == PBKDF2 && k.Iterations > l.KDFIterations:
		return fmt.Errorf("%w: %d PBKDF2 iterations, at most %d are allowed", ErrLimit, k.Iterations, l.KDFIterations)
	case k.Type != PBKDF2 && int64(k.Memory)*1024 > l.KDFMemory:
		return fmt.Errorf("%w: %s wants %d MiB of memory, at most %d MiB are allowed",
			ErrLimit, k.Type, k.Memory/1024, l.KDFMemory>>20)
	case k.Type != PBKDF2 && k.Time > l.KDFTime:
		return fmt.Errorf("%w: %d passes of %s, at most %d are allowed", ErrLimit, k.Time, k.Type, l.KDFTime)
	}
	return nil
}
