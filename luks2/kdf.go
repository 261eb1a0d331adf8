package luks2

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"

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

	checkEvery = 1 << 14 // iterations of PBKDF2 between looks at the context
)

// String tells the function and its cost as a person would.
func (k KDF) String() string {
	if k.Type == PBKDF2 {
		return fmt.Sprintf("%s-%s, %d iterations", k.Type, k.Hash, k.Iterations)
	}
	threads := "threads"
	if k.CPUs == 1 {
		threads = "thread"
	}
	return fmt.Sprintf("%s, %s, %d passes, %d %s", k.Type, memorySize(int64(k.Memory)<<10), k.Time, k.CPUs, threads)
}

// memorySize writes a number of bytes in the unit that fits.
func memorySize(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
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

// derivePBKDF2 is ours because that of the library can't be stopped: one
// derivation may take minutes, with the passphrase in memory. The blocks of the
// result don't depend on each other and are made side by side.
//
// Format: RFC 8018 §5.2.
func derivePBKDF2(ctx context.Context, pass *secret.Bytes, k KDF, n int) (*secret.Bytes, error) {
	newHash, err := hashNamed(k.Hash)
	if err != nil {
		return nil, err
	}
	size := newHash().Size()
	blocks := (n + size - 1) / size
	out := secret.New(blocks * size)
	errs := make([]error, blocks)
	var running sync.WaitGroup
	for i := range blocks {
		block := out.Reveal()[i*size : (i+1)*size]
		running.Go(func() {
			errs[i] = pbkdf2Block(ctx, hmac.New(newHash, pass.Reveal()), k, i+1, block)
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		out.Wipe()
		return nil, err
	}
	out.Shrink(n)
	return out, nil
}

// pbkdf2Block computes the block of the given number, from 1, into out.
func pbkdf2Block(ctx context.Context, mac hash.Hash, k KDF, number int, out []byte) error {
	u := secret.New(len(out))
	defer u.Wipe()
	last := u.Reveal()
	mac.Write(k.Salt)
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(number)))
	mac.Sum(last[:0])
	copy(out, last)
	for i := range k.Iterations - 1 {
		if i%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		mac.Reset()
		mac.Write(last)
		mac.Sum(last[:0])
		subtle.XORBytes(out, out, last)
	}
	return nil
}

func newSalt() []byte {
	salt := make([]byte, saltSize)
	// rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(salt)
	return salt
}
