package luks2

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"fmt"
	"unsafe"

	"github.com/lockport/lockport/internal/argon2"
	"github.com/lockport/lockport/secret"
)

// The key derivation functions of the format.
const (
	PBKDF2   = "pbkdf2"
	Argon2i  = "argon2i"
	Argon2id = "argon2id"
)

// KDF is how a passphrase becomes the key of a keyslot's area.
type KDF struct {
	Type       string
	Hash       string // of PBKDF2
	Iterations uint32 // of PBKDF2
	Time       uint32 // passes of Argon2
	Memory     uint32 // KiB of Argon2
	CPUs       uint32 // lanes of Argon2
	Salt       []byte // of a keyslot; made afresh for a new one
}

// Minimal is for generated secrets with the entropy of a key, which gain
// nothing from a slow derivation: what systemd-cryptenroll uses for them.
func Minimal() KDF { return KDF{Type: PBKDF2, Hash: "sha512", Iterations: 1000} }

// Lower bounds for new keyslots, and the upper ones of libcryptsetup for lanes
// and memory (lib/crypto_backend/crypto_backend.h and pbkdf_check.c).
const (
	minIterations = 1000
	minTime       = 4
	minMemory     = 32      // KiB
	maxMemory     = 4 << 20 // KiB
	maxCPUs       = 4
	readMaxCPUs   = 255
)

// String tells the function and its cost as a person would.
func (k KDF) String() string {
	if k.Type == PBKDF2 {
		return fmt.Sprintf("%s-%s, %d iterations", k.Type, k.Hash, k.Iterations)
	}
	if k.Memory < 1024 {
		return fmt.Sprintf("%s, %d KiB, %d passes, %d threads", k.Type, k.Memory, k.Time, k.CPUs)
	}
	return fmt.Sprintf("%s, %d MiB, %d passes, %d threads", k.Type, k.Memory>>10, k.Time, k.CPUs)
}

func readKDF(n node) KDF {
	k := KDF{Type: n.str("type"), Salt: n.base64("salt")}
	switch k.Type {
	case PBKDF2:
		k.Hash = n.str("hash")
		k.Iterations = n.count32("iterations")
		if k.Iterations == 0 {
			n.fail("iterations", "is zero")
		}
	case Argon2i, Argon2id:
		k.Time, k.Memory, k.CPUs = n.count32("time"), n.count32("memory"), n.count32("cpus")
		if k.Time == 0 || k.CPUs == 0 || k.CPUs > readMaxCPUs || k.Memory < 8*k.CPUs || k.Memory > maxMemory {
			n.fail("", "costs are out of range")
		}
	default:
		n.fail("type", "%q is unknown", k.Type)
	}
	if len(k.Salt) != saltSize {
		n.fail("salt", "is not %d bytes long", saltSize)
	}
	return k
}

// json is the member "kdf" of a keyslot.
func (k KDF) json() any {
	if k.Type == PBKDF2 {
		return struct {
			Type       string `json:"type"`
			Hash       string `json:"hash"`
			Iterations uint32 `json:"iterations"`
			Salt       []byte `json:"salt"`
		}{k.Type, k.Hash, k.Iterations, k.Salt}
	}
	return struct {
		Type   string `json:"type"`
		Time   uint32 `json:"time"`
		Memory uint32 `json:"memory"`
		CPUs   uint32 `json:"cpus"`
		Salt   []byte `json:"salt"`
	}{k.Type, k.Time, k.Memory, k.CPUs, k.Salt}
}

// checkNew refuses costs that are too low for a new keyslot, or that
// libcryptsetup would not read.
func (k KDF) checkNew() error {
	switch k.Type {
	case PBKDF2:
		if _, err := hashNamed(k.Hash); err != nil {
			return err
		}
		if k.Iterations < minIterations {
			return fmt.Errorf("%w: %d PBKDF2 iterations are under %d", ErrLimit, k.Iterations, minIterations)
		}
	case Argon2i, Argon2id:
		if k.Time < minTime || k.Memory < minMemory || k.Memory > maxMemory || k.CPUs < 1 || k.CPUs > maxCPUs {
			return fmt.Errorf("%w: %s with %d KiB, %d passes, %d threads", ErrLimit, k.Type, k.Memory, k.Time, k.CPUs)
		}
	default:
		return fmt.Errorf("%w: key derivation %q", ErrUnsupported, k.Type)
	}
	return nil
}

// derive returns n bytes made from pass. The caller wipes them.
func (k KDF) derive(ctx context.Context, pass *secret.Bytes, n int) (*secret.Bytes, error) {
	if k.Type == PBKDF2 {
		return derivePBKDF2(ctx, pass, k, n)
	}
	variant := argon2.ID
	if k.Type == Argon2i {
		variant = argon2.I
	}
	p := argon2.Params{Variant: variant, Time: k.Time, MemoryKiB: k.Memory, Threads: uint8(k.CPUs)}
	return argon2.Key(ctx, p, pass, k.Salt, n)
}

// derivePBKDF2 runs beside a wait for the context, for the library can't be
// interrupted. An abandoned derivation wipes its result when it ends.
func derivePBKDF2(ctx context.Context, pass *secret.Bytes, k KDF, n int) (*secret.Bytes, error) {
	if k.Iterations < 1_000_000 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return pbkdf2Key(pass, k, n)
	}
	type result struct {
		key *secret.Bytes
		err error
	}
	done := make(chan result, 1)
	own := pass.Clone()
	go func() {
		defer own.Wipe()
		key, err := pbkdf2Key(own, k, n)
		done <- result{key, err}
	}()
	select {
	case r := <-done:
		return r.key, r.err
	case <-ctx.Done():
		go func() { (<-done).key.Wipe() }()
		return nil, ctx.Err()
	}
}

func pbkdf2Key(pass *secret.Bytes, k KDF, n int) (*secret.Bytes, error) {
	h, err := hashNamed(k.Hash)
	if err != nil {
		return nil, err
	}
	// A view instead of a copy, which could not be wiped. The library does not
	// keep it.
	text := unsafe.String(unsafe.SliceData(pass.Reveal()), pass.Len())
	key, err := pbkdf2.Key(h, text, k.Salt, int(k.Iterations), n)
	if err != nil {
		return nil, err
	}
	return secret.From(key), nil
}

func newSalt() []byte {
	salt := make([]byte, saltSize)
	// rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(salt)
	return salt
}
