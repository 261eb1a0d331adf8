// Package argon2 derives keys with Argon2i and Argon2id, version 0x13, as RFC
// 9106 defines them.
//
// It exists because the working memory, from which a passphrase can be tested
// without repeating the work, should be locked, kept out of core dumps and wiped
// like any other secret, and because unlocking a volume is time that a person
// waits for. It offers no Argon2d, no older version, and neither a secret value
// nor associated data: LUKS2 has no use for them.
package argon2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"syscall"

	"github.com/lockport/lockport/secret"
)

// Variant is a kind of Argon2, by its number in RFC 9106.
type Variant uint8

const (
	I  Variant = 1 // Argon2i: which memory is read never depends on the passphrase
	ID Variant = 2 // Argon2id: so in the first half of the first pass only
)

// String returns the name that LUKS2 uses, "argon2i" or "argon2id".
func (v Variant) String() string {
	switch v {
	case I:
		return "argon2i"
	case ID:
		return "argon2id"
	}
	return fmt.Sprintf("argon2 variant %d", uint8(v))
}

// Params is the cost of a derivation. All of it changes the resulting key.
type Params struct {
	Variant Variant
	// Time is the number of passes over the memory, at least 1.
	Time uint32
	// MemoryKiB is the working memory in KiB, at least 8 for each thread. What
	// is used is rounded down to a multiple of 4 KiB for each thread.
	MemoryKiB uint32
	// Threads is the number of lanes that can be computed at the same time, at
	// least 1. No more than GOMAXPROCS goroutines are at work.
	Threads uint8
}

// minKey is the shortest key that RFC 9106 allows, in bytes.
const minKey = 4

// Key derives a key of n bytes, at least 4, from pass and salt. The caller keeps
// and wipes pass, and wipes the result.
//
// It takes p.MemoryKiB of memory outside the Go heap for as long as it runs, and
// locks it where the system allows. It returns an error for parameters that are
// out of range, one that wraps [syscall.ENOMEM] when there is not enough memory,
// and one that wraps the context's error when ctx ends first, which it notices
// within milliseconds. It is safe for concurrent use; two derivations at a time
// take twice the memory.
func Key(ctx context.Context, p Params, pass *secret.Bytes, salt []byte, n int) (*secret.Bytes, error) {
	key, err := derive(ctx, p, input{pass: pass.Reveal(), salt: salt}, n, compressor())
	if err != nil {
		return nil, fmt.Errorf("%v with %d KiB of memory: %w", p.Variant, p.MemoryKiB, err)
	}
	return key, nil
}

// input is what is hashed besides the parameters. The last two are always empty
// outside the tests of RFC 9106.
type input struct{ pass, salt, key, data []byte }

func (p Params) check(in input, n int) error {
	switch {
	case p.Variant != I && p.Variant != ID:
		return errors.New("unknown variant")
	case p.Time < 1:
		return errors.New("the number of passes is zero")
	case p.Threads < 1:
		return errors.New("the number of threads is zero")
	case p.MemoryKiB < 8*uint32(p.Threads):
		return fmt.Errorf("%d threads need at least %d KiB", p.Threads, 8*uint32(p.Threads))
	case n < minKey || uint64(n) > math.MaxUint32:
		return fmt.Errorf("a key of %d bytes was asked for", n)
	case uint64(len(in.pass)) > math.MaxUint32 || uint64(len(in.salt)) > math.MaxUint32:
		return errors.New("passphrase or salt is too long")
	}
	return nil
}

// derive is Key with all inputs of RFC 9106 and a choice of block compression.
func derive(ctx context.Context, p Params, in input, n int, c compressFunc) (*secret.Bytes, error) {
	if err := p.check(in, n); err != nil {
		return nil, err
	}
	f := newFiller(p, min(runtime.GOMAXPROCS(0), int(p.Threads)), c)
	if f.size() > math.MaxInt {
		return nil, syscall.ENOMEM // more than this machine can address
	}
	page, err := allocate(int(f.size()))
	if err != nil {
		return nil, err
	}
	defer release(page)
	f.use(page)
	defer f.wipe()
	return f.key(ctx, p, in, n)
}

// key does the derivation in the memory that f uses.
func (f *filler) key(ctx context.Context, p Params, in input, n int) (*secret.Bytes, error) {
	seed := secret.New(seedSize)
	defer seed.Wipe()
	p.hash(seed.Reveal()[:hashSize], in, n)
	if err := f.seed(seed.Reveal()); err != nil {
		return nil, err
	}
	if err := f.fill(ctx); err != nil {
		return nil, err
	}
	key := secret.New(n)
	hashLong(key.Reveal(), f.fold())
	return key, nil
}

const (
	version  = 0x13
	hashSize = 64           // H0
	seedSize = hashSize + 8 // H0, then the column and the lane of a first block
)

// hash stores H0, which covers all parameters and inputs.
func (p Params) hash(h0 []byte, in input, n int) {
	d := newDigest(hashSize)
	for _, v := range []uint32{uint32(p.Threads), uint32(n), p.MemoryKiB, p.Time, version, uint32(p.Variant)} {
		d.uint32(v)
	}
	for _, b := range [][]byte{in.pass, in.salt, in.key, in.data} {
		d.field(b)
	}
	d.sum(h0)
}

// seed fills the first two blocks of each lane from H0, which leads in buf.
func (f *filler) seed(buf []byte) error {
	for i := range f.lanes {
		l := &f.lanes[i]
		if err := f.populate(l, 2); err != nil {
			return err
		}
		for column := range uint32(2) {
			binary.LittleEndian.PutUint32(buf[hashSize:], column)
			binary.LittleEndian.PutUint32(buf[hashSize+4:], uint32(i))
			b := f.at(uint32(i), column)
			hashLong(b.bytes(), buf)
			b.fromLittleEndian()
		}
	}
	return nil
}

// fold returns the XOR of the last blocks of all lanes, in the first lane's.
func (f *filler) fold() []byte {
	sum := f.at(0, f.columns-1)
	for i := range f.lanes[1:] {
		for j, v := range f.at(uint32(i)+1, f.columns-1) {
			sum[j] ^= v
		}
	}
	sum.fromLittleEndian()
	return sum.bytes()
}
