package luks2

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/lockport/lockport/secret"
)

// AnySlot as a keyslot's number stands for the lowest free one, or for all
// that may be tried.
const AnySlot = -1

// queueMemory is the memory from which derivations queue, in KiB.
const queueMemory = 32 << 10

// VolumeKey opens one keyslot with a passphrase and returns the key inside,
// which the caller wipes. It returns an error wrapping [ErrPassphrase] when
// the passphrase is wrong and [ErrNoKeyslot] when there is no such slot.
func (h *Header) VolumeKey(ctx context.Context, keyslot int, pass *secret.Bytes) (*secret.Bytes, error) {
	k, err := h.readable(keyslot)
	if err != nil {
		return nil, err
	}
	key, err := h.openArea(ctx, k, pass)
	if err != nil {
		return nil, fmt.Errorf("opening keyslot %d: %w", keyslot, err)
	}
	d, _ := h.meta.digestOf(keyslot)
	switch ok, err := h.matches(ctx, d, key); {
	case err != nil:
		key.Wipe()
		return nil, fmt.Errorf("opening keyslot %d: %w", keyslot, err)
	case !ok:
		key.Wipe()
		return nil, fmt.Errorf("opening keyslot %d: %w", keyslot, ErrPassphrase)
	}
	return key, nil
}

// Find tries the passphrase on all keyslots of the data, preferred ones first,
// and returns the first that opens. The caller wipes the key. A slot that can't
// be tried is passed over, and its reason is part of the error if no other
// opens; without a single slot tried, that error does not wrap [ErrPassphrase].
// Find returns an error wrapping [ErrNoKeyslot] when there is nothing to try.
func (h *Header) Find(ctx context.Context, pass *secret.Bytes) (keyslot int, key *secret.Bytes, err error) {
	if err := h.Usable(); err != nil {
		return 0, nil, err
	}
	order := h.searchOrder()
	if len(order) == 0 {
		return 0, nil, ErrNoKeyslot
	}
	var wrong, reasons []error
	for _, id := range order {
		key, err := h.VolumeKey(ctx, id, pass)
		if err == nil {
			return id, key, nil
		}
		if ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		if errors.Is(err, ErrPassphrase) {
			wrong = []error{ErrPassphrase}
		} else {
			reasons = append(reasons, err)
		}
	}
	return 0, nil, errors.Join(append(wrong, reasons...)...)
}

// searchOrder lists the keyslots of the data that may be tried unasked.
func (h *Header) searchOrder() []int {
	var order []int
	for _, p := range []Priority{PriorityPrefer, PriorityNormal} {
		for _, k := range h.meta.keyslots {
			if k.Priority == p && k.Type == "luks2" && h.Bound(k.ID) {
				order = append(order, k.ID)
			}
		}
	}
	return order
}

// Opens returns nil if the passphrase opens the keyslot to exactly this key,
// and otherwise why not. It is the proof that a new keyslot will work.
func (h *Header) Opens(ctx context.Context, keyslot int, pass, key *secret.Bytes) error {
	k, err := h.readable(keyslot)
	if err != nil {
		return err
	}
	got, err := h.openArea(ctx, k, pass)
	if err != nil {
		return fmt.Errorf("opening keyslot %d: %w", keyslot, err)
	}
	defer got.Wipe()
	if !got.Equal(key) {
		return fmt.Errorf("opening keyslot %d: %w", keyslot, ErrPassphrase)
	}
	return nil
}

// readable returns a keyslot that may be opened.
func (h *Header) readable(keyslot int) (Keyslot, error) {
	if err := h.Usable(); err != nil {
		return Keyslot{}, err
	}
	k, err := h.Keyslot(keyslot)
	if err != nil {
		return k, err
	}
	if k.Type != "luks2" {
		return k, fmt.Errorf("%w: keyslot %d is of type %q", ErrUnsupported, keyslot, k.Type)
	}
	return k, nil
}

// openArea returns what the passphrase makes of a keyslot's area, right or
// wrong. Method: specification §4.2.
func (h *Header) openArea(ctx context.Context, k Keyslot, pass *secret.Bytes) (*secret.Bytes, error) {
	// All that can be refused is refused before time is spent.
	if _, err := findSuite(k.Area.Encryption, k.Area.KeySize); err != nil {
		return nil, err
	}
	newHash, err := hashNamed(k.AFHash)
	if err != nil {
		return nil, err
	}
	areaKey, err := h.derive(ctx, k.KDF, pass, k.Area.KeySize)
	if err != nil {
		return nil, err
	}
	defer areaKey.Wipe()
	c, err := openCipher(k.Area.Encryption, areaKey)
	if err != nil {
		return nil, err
	}
	stripes := secret.New(usedArea(k.KeySize))
	defer stripes.Wipe()
	if err := h.readArea(ctx, k, stripes.Reveal()); err != nil {
		return nil, err
	}
	cryptArea(c.Decrypt, stripes.Reveal())
	return afMerge(stripes, k.KeySize, newHash), nil
}

// usedArea is the part of an area that is encrypted: all stripes in sectors.
func usedArea(keySize int) int {
	return (keySize*afStripes + sectorSize - 1) / sectorSize * sectorSize
}

// readArea reads key material, from memory while it is not committed.
func (h *Header) readArea(ctx context.Context, k Keyslot, b []byte) error {
	for _, w := range h.writes {
		if w.keyslot == k.ID && !w.wipes() {
			copy(b, w.data)
			return nil
		}
	}
	unlock, err := lock(ctx, h.store, false)
	if err != nil {
		return err
	}
	defer unlock()
	return readFull(h.store, b, k.Area.Offset)
}

// derive runs a KDF within the limits and, if asked to, in turn.
func (h *Header) derive(ctx context.Context, k KDF, pass *secret.Bytes, n int) (*secret.Bytes, error) {
	if err := h.limits.check(k); err != nil {
		return nil, err
	}
	if h.queue && k.Type != PBKDF2 && k.Memory > queueMemory {
		unlock, err := lockNamed(ctx, "memory-hard-access")
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	return k.derive(ctx, pass, n)
}

// matches tells whether key is the one that a digest proves.
func (h *Header) matches(ctx context.Context, d Digest, key *secret.Bytes) (bool, error) {
	known := h.fingerprint(key)
	// By value and not by number, which another digest may get later.
	name := string(d.Value)
	if old, ok := h.proven[name]; ok && hmac.Equal(old[:], known[:]) {
		return true, nil
	}
	k := KDF{Type: PBKDF2, Hash: d.Hash, Iterations: d.Iterations, Salt: d.Salt}
	if err := h.limits.check(k); err != nil {
		return false, err
	}
	sum, err := k.derive(ctx, key, len(d.Value))
	if err != nil {
		return false, err
	}
	defer sum.Wipe()
	if !hmac.Equal(sum.Reveal(), d.Value) {
		return false, nil
	}
	h.proven[name] = known
	return true, nil
}

// fingerprint lets us recognise a key without keeping it.
func (h *Header) fingerprint(key *secret.Bytes) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, h.nonce[:])
	mac.Write(key.Reveal())
	mac.Sum(sum[:0])
	return sum
}

// CheckKey returns nil if key is the key of the data.
func (h *Header) CheckKey(ctx context.Context, key *secret.Bytes) error {
	d, ok := h.meta.segmentDigest()
	if !ok {
		return fmt.Errorf("%w: no digest for the data", ErrUnsupported)
	}
	switch same, err := h.matches(ctx, d, key); {
	case err != nil:
		return fmt.Errorf("checking the volume key: %w", err)
	case !same:
		return fmt.Errorf("%w: not the key of this volume", ErrPassphrase)
	}
	return nil
}

// SlotOptions says how a new keyslot is made. The zero value of each field but
// KDF stands for what libcryptsetup would do.
type SlotOptions struct {
	ID         int // 0 is slot 0: say AnySlot for the lowest free one
	KDF        KDF // costs; the salt is made afresh
	Encryption string
	KeySize    int // bytes of the area's key
	Priority   Priority
	Unbound    bool // key is not the key of the data but some other one
	Note       Note
}

// errMixed keeps new and old key material out of the same commit: after a crash
// between wiping the old and listing the new, neither would open.
var errMixed = errors.New("keyslots are added and removed in separate commits")

// AddSlot adds a keyslot that opens to key with pass. Both stay the caller's.
// The slot is in memory until [Header.Commit].
func (h *Header) AddSlot(ctx context.Context, key, pass *secret.Bytes, o SlotOptions) (keyslot int, err error) {
	if err := h.Usable(); err != nil {
		return 0, err
	}
	if slices.ContainsFunc(h.writes, areaWrite.wipes) {
		return 0, errMixed
	}
	before := *h
	defer func() {
		if err != nil {
			h.json, h.meta = before.json, before.meta
		}
	}()
	k, err := h.planSlot(key.Len(), o)
	if err != nil {
		return 0, fmt.Errorf("adding a keyslot: %w", err)
	}
	digest, err := h.digestFor(ctx, key, o.Unbound)
	if err != nil {
		return 0, fmt.Errorf("adding a keyslot: %w", err)
	}
	if err := h.addToMetadata(k, o.Note, digest); err != nil {
		return 0, fmt.Errorf("adding keyslot %d: %w", k.ID, err)
	}
	material, err := h.sealArea(ctx, k, key, pass)
	if err != nil {
		return 0, fmt.Errorf("adding keyslot %d: %w", k.ID, err)
	}
	h.writes = append(h.writes, areaWrite{keyslot: k.ID, offset: k.Area.Offset, data: material, size: k.Area.Size})
	return k.ID, nil
}

// FreeSlot returns the number that the next keyslot gets.
func (h *Header) FreeSlot() (int, error) {
	return freeID(h.meta.keyslots, func(k Keyslot) int { return k.ID }, MaxKeyslots)
}

// planSlot decides on everything of a new keyslot but its content.
func (h *Header) planSlot(keySize int, o SlotOptions) (Keyslot, error) {
	k := Keyslot{ID: o.ID, Type: "luks2", KeySize: keySize, Priority: PriorityNormal, KDF: o.KDF, AFHash: "sha256"}
	if o.Priority != 0 {
		k.Priority = o.Priority
	}
	if err := k.KDF.checkNew(); err != nil {
		return k, err
	}
	if err := h.limits.check(k.KDF); err != nil {
		return k, err
	}
	k.KDF.Salt = newSalt()
	if k.KDF.Type == PBKDF2 {
		k.AFHash = k.KDF.Hash
	}
	if k.ID == AnySlot {
		id, err := h.FreeSlot()
		if err != nil {
			return k, err
		}
		k.ID = id
	}
	if _, taken := h.meta.keyslot(k.ID); taken || k.ID < 0 || k.ID >= MaxKeyslots {
		return k, fmt.Errorf("%w: keyslot number %d is not free", ErrFull, k.ID)
	}
	k.Area = h.areaCipher(keySize, o)
	if _, err := findSuite(k.Area.Encryption, k.Area.KeySize); err != nil {
		return k, err
	}
	k.Area.Size = materialSize(keySize)
	var err error
	k.Area.Offset, err = h.freeArea(k.Area.Size)
	return k, err
}

// areaCipher encrypts an area like the data, where we can, as libcryptsetup does.
func (h *Header) areaCipher(keySize int, o SlotOptions) Area {
	if o.Encryption != "" {
		return Area{Encryption: o.Encryption, KeySize: o.KeySize}
	}
	for _, s := range h.meta.segments {
		if _, err := findSuite(s.Encryption, keySize); s.ID == 0 && err == nil {
			return Area{Encryption: s.Encryption, KeySize: keySize}
		}
	}
	return Area{Encryption: defaultCipher, KeySize: defaultKeySize}
}

// freeArea finds the first gap of n bytes. Areas that are still to be
// overwritten count as used: the old key material must not be needed and
// destroyed in the same commit.
func (h *Header) freeArea(n int64) (int64, error) {
	type extent struct{ start, end int64 }
	var used []extent
	for _, k := range h.meta.keyslots {
		used = append(used, extent{k.Area.Offset, k.Area.Offset + k.Area.Size})
	}
	for _, w := range h.writes {
		used = append(used, extent{w.offset, w.offset + w.size})
	}
	slices.SortFunc(used, func(a, b extent) int { return int((a.start - b.start) / areaAlign) })
	at := 2 * h.bin.size
	for _, u := range used {
		if u.start-at >= n {
			break
		}
		at = max(at, u.end)
	}
	if h.areasEnd()-at < n {
		return 0, fmt.Errorf("%w: no room of %d bytes for key material", ErrFull, n)
	}
	return at, nil
}

// digestFor returns the number of the digest that proves key, which it makes
// for the first keyslot of another key.
func (h *Header) digestFor(ctx context.Context, key *secret.Bytes, unbound bool) (int, error) {
	if !unbound {
		d, _ := h.meta.segmentDigest()
		return d.ID, h.CheckKey(ctx, key)
	}
	for _, d := range h.meta.digests {
		if ok, err := h.matches(ctx, d, key); err != nil || ok {
			return d.ID, err
		}
	}
	id, err := freeID(h.meta.digests, func(d Digest) int { return d.ID }, maxDigests)
	if err != nil {
		return 0, err
	}
	d, err := newDigest(ctx, key, "sha256", minIterations)
	if err != nil {
		return 0, err
	}
	return id, h.set(d.json(), "digests", strconv.Itoa(id))
}

// sealArea encrypts the split key. The result is key material that is of no use
// without the passphrase.
func (h *Header) sealArea(ctx context.Context, k Keyslot, key, pass *secret.Bytes) ([]byte, error) {
	areaKey, err := h.derive(ctx, k.KDF, pass, k.Area.KeySize)
	if err != nil {
		return nil, err
	}
	defer areaKey.Wipe()
	c, err := openCipher(k.Area.Encryption, areaKey)
	if err != nil {
		return nil, err
	}
	newHash, err := hashNamed(k.AFHash)
	if err != nil {
		return nil, err
	}
	split := afSplit(key, newHash)
	defer split.Wipe()
	plain := secret.New(usedArea(k.KeySize))
	defer plain.Wipe()
	copy(plain.Reveal(), split.Reveal())
	cryptArea(c.Encrypt, plain.Reveal())
	return slices.Clone(plain.Reveal()), nil
}

// RemoveSlot removes a keyslot: its key material is overwritten and everything
// that names it forgets it. Tokens stay, as they do with libcryptsetup, even if
// they name no slot any more. Nothing is written before [Header.Commit].
func (h *Header) RemoveSlot(keyslot int) error {
	k, err := h.Keyslot(keyslot)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(h.writes, func(w areaWrite) bool { return !w.wipes() }) {
		return errMixed
	}
	if err := h.removeFromMetadata(k); err != nil {
		return fmt.Errorf("removing keyslot %d: %w", keyslot, err)
	}
	if k.Area.Size > 0 {
		h.writes = append(h.writes, areaWrite{keyslot: keyslot, offset: k.Area.Offset, size: k.Area.Size})
	}
	return nil
}
