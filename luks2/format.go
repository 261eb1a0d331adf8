package luks2

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/lockport/lockport/secret"
)

// DefaultHeaderArea is the bytes that a header and its keyslots get unless told
// otherwise.
const DefaultHeaderArea = 16 << 20

// What a new volume gets unless it is told otherwise, as from
// `cryptsetup luksFormat --type luks2`.
const (
	defaultCipher     = "aes-xts-plain64"
	defaultKeySize    = 64 // bytes
	defaultHeaderSize = 16 << 10
	defaultDataOffset = DefaultHeaderArea
	defaultHash       = "sha256"
	defaultKDFTime    = 2 * time.Second
	digestTime        = 125 * time.Millisecond
	defaultKDFMemory  = 1 << 20 // KiB
)

// FormatOptions says what a new volume looks like. Zero values stand for the
// defaults of cryptsetup.
type FormatOptions struct {
	UUID       string
	Label      string
	Subsystem  string
	Cipher     string
	KeySize    int   // bytes of the volume key
	SectorSize int   // bytes; default 512
	HeaderSize int64 // bytes of one copy
	DataOffset int64 // bytes; default 16 MiB, and 0 for a detached header
	Detached   bool  // the data is on another device
	KDF        KDF   // of the first keyslot; made by Benchmark if empty
	Fast       bool  // leave out the benchmark of the digest
	Note       Note
	Limits     Limits
}

// Format writes a new volume with one keyslot to s, whose content is lost. It
// returns the header and the volume key, which the caller wipes; pass stays the
// caller's.
//
// Format: specification §2 and §5; the order of the writes is such that no
// header is valid before its key material is there.
func Format(ctx context.Context, s Store, pass *secret.Bytes, o FormatOptions) (*Header, *secret.Bytes, error) {
	if err := o.complete(ctx); err != nil {
		return nil, nil, fmt.Errorf("formatting: %w", err)
	}
	key := secret.Random(o.KeySize)
	h, err := newHeader(ctx, s, key, o)
	if err == nil {
		_, err = h.AddSlot(ctx, key, pass, SlotOptions{KDF: o.KDF, Note: o.Note})
	}
	if err == nil {
		err = h.checkStoreSize()
	}
	if err == nil {
		err = h.locked(ctx, h.create)
	}
	if err != nil {
		key.Wipe()
		return nil, nil, fmt.Errorf("formatting: %w", err)
	}
	return h, key, nil
}

// complete fills in the defaults and checks the rest.
func (o *FormatOptions) complete(ctx context.Context) error {
	if o.UUID == "" {
		o.UUID = newUUID()
	}
	if o.Cipher == "" {
		o.Cipher = defaultCipher
	}
	if o.KeySize == 0 {
		o.KeySize = 32
		if slices.Contains(kernelKeySizes(o.Cipher), defaultKeySize) {
			o.KeySize = defaultKeySize
		}
	}
	if o.SectorSize == 0 {
		o.SectorSize = sectorSize
	}
	if o.HeaderSize == 0 {
		o.HeaderSize = defaultHeaderSize
	}
	if o.DataOffset == 0 && !o.Detached {
		o.DataOffset = defaultDataOffset
	}
	if err := o.check(); err != nil {
		return err
	}
	if o.KDF.Type == "" {
		k, err := DefaultKDF(ctx, o.Limits)
		if err != nil {
			return err
		}
		o.KDF = k
	}
	return nil
}

func (o *FormatOptions) check() error {
	if err := checkUUID(o.UUID); err != nil {
		return err
	}
	for _, label := range []string{o.Label, o.Subsystem} {
		if err := checkLabel(label); err != nil {
			return err
		}
	}
	if err := checkKernelCipher(o.Cipher); err != nil {
		return err
	}
	if !slices.Contains(kernelKeySizes(o.Cipher), o.KeySize) {
		return fmt.Errorf("%w: cipher %s with a key of %d bits", ErrUnsupported, o.Cipher, 8*o.KeySize)
	}
	if !slices.Contains(sizes, o.HeaderSize) {
		return fmt.Errorf("header size %d is not one of the format", o.HeaderSize)
	}
	if area := o.keyslotsSize(); area < materialSize(o.KeySize) {
		return fmt.Errorf("data offset %d leaves no room for a keyslot", o.DataOffset)
	}
	return nil
}

// keyslotsSize is all there is between the header copies and the data.
func (o *FormatOptions) keyslotsSize() int64 {
	end := o.DataOffset
	if end == 0 {
		end = defaultDataOffset
	}
	return min((end-2*o.HeaderSize)/areaAlign*areaAlign, maxKeyslotsSize)
}

// newHeader makes a header without keyslots in memory.
func newHeader(ctx context.Context, s Store, key *secret.Bytes, o FormatOptions) (*Header, error) {
	iterations := uint32(minIterations)
	if !o.Fast {
		k, err := Benchmark(ctx, PBKDF2, digestTime, o.Limits)
		if err != nil {
			return nil, err
		}
		iterations = k.Iterations
	}
	digest, err := newDigest(ctx, key, defaultHash, iterations)
	if err != nil {
		return nil, err
	}
	digest.Segments = []int{0}
	h := &Header{store: s, limits: o.Limits, proven: map[string][sha256.Size]byte{},
		bin: binaryHeader{size: o.HeaderSize, seqID: 1, label: o.Label, subsystem: o.Subsystem, uuid: o.UUID, hash: defaultHash}}
	h.json = o.metadata(digest)
	h.meta, err = parseMetadata(h.json, o.HeaderSize)
	return h, err
}

func (o *FormatOptions) metadata(digest Digest) json.RawMessage {
	type segment struct {
		Type       string `json:"type"`
		Offset     int64  `json:"offset,string"`
		Size       string `json:"size"`
		IVTweak    string `json:"iv_tweak"`
		Encryption string `json:"encryption"`
		SectorSize int    `json:"sector_size"`
	}
	return marshal(struct {
		Keyslots struct{}                   `json:"keyslots"`
		Tokens   struct{}                   `json:"tokens"`
		Segments map[string]segment         `json:"segments"`
		Digests  map[string]json.RawMessage `json:"digests"`
		Config   any                        `json:"config"`
	}{
		Segments: map[string]segment{"0": {"crypt", o.DataOffset, "dynamic", "0", o.Cipher, o.SectorSize}},
		Digests:  map[string]json.RawMessage{"0": digest.json()},
		Config: map[string]string{
			"json_size":     strconv.FormatInt(o.HeaderSize-binarySize, 10),
			"keyslots_size": strconv.FormatInt(o.keyslotsSize(), 10),
		},
	})
}

// create writes a header for the first time. What was there before goes first,
// and both copies come last.
func (h *Header) create() error {
	if err := h.eraseOld(); err != nil {
		return fmt.Errorf("erasing the old header: %w", err)
	}
	if err := overwrite(h.store, 2*h.bin.size, h.meta.keyslotsSize); err != nil {
		return fmt.Errorf("filling the keyslots area: %w", err)
	}
	if err := h.flushAreas(); err != nil {
		return err
	}
	h.bin.seqID++
	return h.writeCopies(0, h.bin.size)
}

// DefaultKDF returns the costs of a keyslot for a typed passphrase: Argon2id
// with about two seconds on this machine.
func DefaultKDF(ctx context.Context, l Limits) (KDF, error) {
	return Benchmark(ctx, Argon2id, defaultKDFTime, l)
}

// eraseOld leaves nothing behind that could be taken for a header, now or when
// the new one is damaged one day.
func (h *Header) eraseOld() error {
	if _, err := h.store.WriteAt(make([]byte, 2*h.bin.size), 0); err != nil {
		return err
	}
	for _, offset := range sizes {
		magic := make([]byte, offVersion)
		err := readFull(h.store, magic, offset)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err == nil && string(magic) == magicSecondary {
			_, err = h.store.WriteAt(make([]byte, binarySize), offset)
		}
		if err != nil {
			return err
		}
	}
	return h.store.Sync()
}

// Benchmark returns costs that make one derivation take about the wanted time
// on this machine: for Argon2 with up to 1 GiB of memory, but no more than half
// of what the machine has, and as many lanes as it has processors, up to 4.
func Benchmark(ctx context.Context, kind string, want time.Duration, l Limits) (KDF, error) {
	switch kind {
	case PBKDF2:
		return benchmarkPBKDF2(ctx, want)
	case Argon2i, Argon2id:
		return benchmarkArgon2(ctx, kind, want, l)
	}
	return KDF{}, fmt.Errorf("%w: key derivation %q", ErrUnsupported, kind)
}

// timed runs a derivation over throw-away input and returns the shorter of two
// times: what else the machine does can only make it longer, and a cost chosen
// by an inflated time would be too low.
func timed(ctx context.Context, k KDF) (time.Duration, error) {
	pass := secret.New(8)
	defer pass.Wipe()
	k.Salt = make([]byte, saltSize)
	best := time.Duration(math.MaxInt64)
	for range 2 {
		start := time.Now()
		key, err := k.derive(ctx, pass, defaultKeySize)
		key.Wipe()
		if err != nil {
			return 0, err
		}
		best = min(best, max(time.Since(start), time.Microsecond))
	}
	return best, nil
}

func benchmarkPBKDF2(ctx context.Context, want time.Duration) (KDF, error) {
	k := KDF{Type: PBKDF2, Hash: defaultHash, Iterations: minIterations}
	for {
		took, err := timed(ctx, k)
		if err != nil {
			return k, err
		}
		// Anything shorter is noise.
		if enough := want / 8; took < enough && k.Iterations < defaultIterations/4 {
			k.Iterations *= 4
			continue
		}
		scaled := float64(k.Iterations) * float64(want) / float64(took)
		k.Iterations = uint32(min(max(scaled, minIterations), defaultIterations))
		return k, nil
	}
}

func benchmarkArgon2(ctx context.Context, kind string, want time.Duration, l Limits) (KDF, error) {
	most := min(defaultKDFMemory, totalMemory()/2>>10, l.memory()>>10)
	k := KDF{Type: kind, Time: minTime, Memory: uint32(min(most, 32<<10)), CPUs: uint32(min(runtime.NumCPU(), maxCPUs))}
	for {
		took, err := timed(ctx, k)
		if err != nil {
			return k, err
		}
		if took < want/4 && int64(k.Memory) < most {
			k.Memory = uint32(min(2*int64(k.Memory), most))
			continue
		}
		// The cost grows with memory times passes: memory first, then passes.
		cost := float64(k.Memory) * float64(k.Time) * float64(want) / float64(took)
		k.Memory = uint32(max(min(cost/minTime, float64(most)), minMemory))
		k.Time = uint32(max(cost/float64(k.Memory), minTime))
		return k, nil
	}
}
