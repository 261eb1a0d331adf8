package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

// selectionFlag is --wipe-slot=: it may be given more than once and adds up.
type selectionFlag struct{ s *volume.Selection }

func (f selectionFlag) Set(text string) error { return f.s.ParseSelection(text) }
func (f selectionFlag) Type() string          { return "SLOT,…" }
func (f selectionFlag) String() string        { return "" }

// sizeFlag is a number of bytes with a binary suffix.
type sizeFlag struct{ n *int64 }

func (f sizeFlag) Set(text string) error {
	n, err := parseSize(text)
	*f.n = n
	return err
}
func (f sizeFlag) Type() string   { return "BYTES" }
func (f sizeFlag) String() string { return "" }

// parseSize reads "512", "64M" or "1G".
func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGTkmgt")
	shift := 0
	switch strings.ToUpper(text[len(digits):]) {
	case "":
	case "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	case "T":
		shift = 40
	default:
		return 0, fmt.Errorf("%q is not a size", text)
	}
	n, err := strconv.ParseInt(digits, 10, 63)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	return n << shift, nil
}

// limitFlags adds the bounds on what a header may cost.
func limitFlags(f *pflag.FlagSet, l *luks2.Limits) {
	f.Var(sizeFlag{&l.KDFMemory}, "kdf-memory-max", "most memory for one key derivation, such as 2G (default: what is free)")
}

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
	f.StringVar(&k.kind, "pbkdf", luks2.Argon2id, "key derivation of the new keyslot: `KIND` is argon2id, argon2i or pbkdf2")
	f.Uint32VarP(&k.iterTime, "iter-time", "i", 2000, "`MILLISECONDS` that it shall take on this machine")
	f.Uint32Var(&k.memory, "pbkdf-memory", 0, "`KIB` of memory (with --pbkdf-force-iterations)")
	f.Uint32Var(&k.parallel, "pbkdf-parallel", 0, "`NUMBER` of threads (with --pbkdf-force-iterations)")
	f.Uint32Var(&k.iterations, "pbkdf-force-iterations", 0, "`NUMBER` of passes or iterations, instead of measuring")
	f.StringVar(&k.hash, "hash", "sha256", "`HASH` of pbkdf2")
}
