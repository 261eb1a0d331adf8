package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

// kdfFlags are the costs of a new keyslot, named as in cryptsetup.
type kdfFlags struct {
	kind       string
	iterTime   uint32
	memory     uint32
	parallel   uint32
	iterations uint32
	hash       string
}

func (k *kdfFlags) bind(f *pflag.FlagSet) {
	f.StringVar(&k.kind, "pbkdf", luks2.Argon2id, "key derivation of a passphrase's keyslot: `KIND` is argon2id, argon2i\nor pbkdf2")
	f.Uint32VarP(&k.iterTime, "iter-time", "i", 2000, "`MILLISECONDS` that it shall take on this machine")
	f.Uint32Var(&k.memory, "pbkdf-memory", 0, "`KIB` of memory at most, or exactly with --pbkdf-force-iterations\n(default: up to 1048576)")
	f.Uint32Var(&k.parallel, "pbkdf-parallel", 0, "`NUMBER` of threads, 1 to 4, with --pbkdf-force-iterations")
	f.Uint32Var(&k.iterations, "pbkdf-force-iterations", 0, "`NUMBER` of passes or iterations, instead of measuring")
	f.StringVar(&k.hash, "hash", "sha256", "`HASH` of pbkdf2")
}

// passwordEnroller makes keyslots with the costs that the flags ask for. They
// are measured when the passphrase is there: nobody waits for the prompt.
type passwordEnroller struct {
	volume.PasswordEnroller
	kdf    kdfFlags
	limits luks2.Limits
}

func (p passwordEnroller) KDF(ctx context.Context) (luks2.KDF, error) {
	return p.kdf.cost(ctx, p.limits)
}

// cost returns the derivation that the flags ask for. Nothing is measured for
// costs that are given.
func (k *kdfFlags) cost(ctx context.Context, l luks2.Limits) (luks2.KDF, error) {
	switch {
	case k.kind == "":
		// The flags don't exist under the original's name.
		return luks2.DefaultKDF(ctx, l)
	case k.iterations == 0:
		if most := int64(k.memory) * 1024; most > 0 && (l.KDFMemory == 0 || most < l.KDFMemory) {
			l.KDFMemory = most
		}
		return luks2.Benchmark(ctx, k.kind, time.Duration(k.iterTime)*time.Millisecond, l)
	case k.kind == luks2.PBKDF2:
		return luks2.KDF{Type: k.kind, Hash: k.hash, Iterations: k.iterations}, nil
	}
	return luks2.KDF{Type: k.kind, Time: k.iterations, Memory: k.memory, CPUs: max(k.parallel, 1)}, nil
}

// check refuses what makes no keyslot, before anybody has to type. The bounds
// are those of cryptsetup.
func (k *kdfFlags) check() error {
	if err := k.problem(); k.kind != "" && err != nil {
		return marked{err, errCosts}
	}
	return nil
}

func (k *kdfFlags) problem() error {
	argon := k.kind == luks2.Argon2id || k.kind == luks2.Argon2i
	switch {
	case !argon && k.kind != luks2.PBKDF2:
		return fmt.Errorf("--pbkdf=%s: unknown key derivation", k.kind)
	case k.iterations == 0 && k.parallel != 0:
		return fmt.Errorf("--pbkdf-parallel goes with --pbkdf-force-iterations only")
	case !argon && k.iterations != 0 && k.iterations < 1000:
		return fmt.Errorf("--pbkdf-force-iterations=%d: at least 1000 for pbkdf2", k.iterations)
	case argon && k.iterations != 0 && k.iterations < 4:
		return fmt.Errorf("--pbkdf-force-iterations=%d: at least 4 for %s", k.iterations, k.kind)
	case argon && k.iterations != 0 && k.memory == 0:
		return fmt.Errorf("--pbkdf-force-iterations needs --pbkdf-memory for %s", k.kind)
	case argon && k.memory != 0 && (k.memory < 32 || k.memory > 4<<20):
		return fmt.Errorf("--pbkdf-memory=%d: from 32 to 4194304", k.memory)
	case k.parallel > 4:
		return fmt.Errorf("--pbkdf-parallel=%d: at most 4", k.parallel)
	}
	return nil
}
