package luks2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
)

var errPower = errors.New("the power is gone")

// A dying store ends at one event, a write or a sync: that one fails, and so
// does all that follows. What is found on the disk afterwards depends on how it
// ended; see state.
type dying struct {
	now     []byte // as its user sees it
	synced  []byte // as of the last successful sync
	pending []extent
	torn    []byte // now, with half of the write that failed
	left    int    // events until it dies; negative for never
	events  int
	late    int // writes that were tried after death
}

type extent struct{ start, end int }

func newDying(image []byte, left int) *dying {
	return &dying{now: slices.Clone(image), synced: slices.Clone(image), left: left}
}

func (d *dying) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(d.now).ReadAt(p, off)
}

func (d *dying) Size() (int64, error) { return int64(len(d.now)), nil }

func (d *dying) dead() bool { return d.torn != nil }

// next counts one event and says whether it may happen.
func (d *dying) next() bool {
	if d.dead() {
		d.late++
		return false
	}
	d.events++
	if d.events-1 == d.left {
		d.torn = slices.Clone(d.now)
		return false
	}
	return true
}

func (d *dying) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(d.now)) {
		return 0, fmt.Errorf("%d bytes at %d are behind the end", len(p), off)
	}
	if !d.next() {
		if d.late == 0 {
			copy(d.torn[off:], p[:len(p)/2])
		}
		return 0, errPower
	}
	copy(d.now[off:], p)
	d.pending = append(d.pending, extent{int(off), int(off) + len(p)})
	return len(p), nil
}

func (d *dying) Sync() error {
	if !d.next() {
		return errPower
	}
	for _, e := range d.pending {
		copy(d.synced[e.start:e.end], d.now[e.start:e.end])
	}
	d.pending = nil
	return nil
}

// The ways in which power goes.
const (
	kept     = "every write landed"
	torn     = "half of the last write landed"
	lost     = "nothing since the last sync landed"
	shuffled = "some sectors since the last sync landed"
)

// state returns what is on the disk afterwards.
func (d *dying) state(how string, random *rand.Rand) []byte {
	switch how {
	case torn:
		if d.dead() {
			return slices.Clone(d.torn)
		}
	case lost:
		return slices.Clone(d.synced)
	case shuffled:
		image := slices.Clone(d.synced)
		for _, e := range d.pending {
			for at := e.start; at < e.end; at += 512 {
				if random.IntN(2) == 0 {
					copy(image[at:min(at+512, e.end)], d.now[at:])
				}
			}
		}
		return image
	}
	return slices.Clone(d.now)
}

// An operation is one that writes, with what must hold wherever it was cut off.
type operation struct {
	name  string
	run   func(ctx context.Context, t *testing.T, s luks2.Store) error
	check func(t *testing.T, image []byte, done bool)
}

func (o operation) everywhere(t *testing.T, image []byte, each func(image []byte)) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for at := 0; ; at++ {
		d := newDying(image, at)
		err := o.run(t.Context(), t, d)
		if d.dead() && (!errors.Is(err, errPower) || d.late != 0) {
			t.Errorf("event %d fails: the operation said %v and tried %d more", at, err, d.late)
		}
		if !d.dead() && err != nil {
			t.Fatalf("without a failure: %v", err)
		}
		seen := map[[sha256.Size]byte]bool{}
		for _, how := range []string{kept, torn, lost, shuffled} {
			after := d.state(how, random)
			sum := sha256.Sum256(after)
			if seen[sum] {
				continue
			}
			seen[sum] = true
			each(after)
			o.check(t, after, !d.dead())
			if t.Failed() {
				t.Fatalf("%s: event %d failed, %s", o.name, at, how)
			}
		}
		if !d.dead() {
			if at < 2 {
				t.Fatalf("only %d events", at)
			}
			return
		}
	}
}

// alive wants a volume that opens with the passphrase of a keyslot, and in
// which every keyslot that the header lists does so with its own.
func alive(t *testing.T, image []byte, slot int, passes map[int]string) *luks2.Header {
	t.Helper()
	h, err := luks2.Open(t.Context(), luks2.NewMemory(image))
	if err != nil {
		t.Errorf("opening: %v", err)
		return nil
	}
	for id, pass := range passes {
		key, err := h.VolumeKey(t.Context(), id, text(t, pass))
		key.Wipe()
		if err != nil && (id == slot || !errors.Is(err, luks2.ErrNoKeyslot)) {
			t.Errorf("keyslot %d: %v", id, err)
		}
	}
	return h
}

// usable wants a volume that takes the next change and is whole after it.
func usable(t *testing.T, image []byte) {
	t.Helper()
	s := luks2.NewMemory(image)
	h := reopen(t, s)
	if err := errors.Join(h.SetLabel("next"), h.Commit(t.Context())); err != nil {
		t.Errorf("the next change: %v", err)
		return
	}
	if h = reopen(t, s); h.Damage() != nil || h.Label() != "next" {
		t.Errorf("after the next change: %v, label %q", h.Damage(), h.Label())
	}
}

func edited(change func(t *testing.T, h *luks2.Header) error) func(context.Context, *testing.T, luks2.Store) error {
	return func(ctx context.Context, t *testing.T, s luks2.Store) error {
		h, err := luks2.Open(ctx, s)
		if err != nil {
			return err
		}
		if err := change(t, h); err != nil {
			return err
		}
		return h.Commit(ctx)
	}
}

func addThird(t *testing.T, h *luks2.Header) error {
	key, err := h.VolumeKey(t.Context(), 1, text(t, "second"))
	if err != nil {
		return err
	}
	defer key.Wipe()
	_, err = h.AddSlot(t.Context(), key, text(t, "third"), luks2.SlotOptions{ID: 2, KDF: luks2.Minimal()})
	return err
}

var operations = []operation{
	{
		name: "add a keyslot",
		run:  edited(addThird),
		check: func(t *testing.T, image []byte, done bool) {
			h := alive(t, image, 1, map[int]string{1: "second", 2: "third"})
			if h == nil {
				return
			}
			if _, err := h.Keyslot(2); done && err != nil {
				t.Error(err)
			}
			usable(t, image)
		},
	},
	{
		name: "remove a keyslot",
		run:  edited(func(_ *testing.T, h *luks2.Header) error { return h.RemoveSlot(0) }),
		check: func(t *testing.T, image []byte, done bool) {
			h := alive(t, image, 1, map[int]string{1: "second"})
			if h == nil {
				return
			}
			if _, err := h.Keyslot(0); done && err == nil {
				t.Error("the removed keyslot is still there")
			}
			usable(t, image)
		},
	},
	{
		name: "change a token",
		run: edited(func(_ *testing.T, h *luks2.Header) error {
			return h.SetToken(0, []byte(`{"type":"new","keyslots":["1"]}`))
		}),
		check: func(t *testing.T, image []byte, done bool) {
			h := alive(t, image, 1, map[int]string{1: "second"})
			if h == nil {
				return
			}
			token, err := h.Token(0)
			if err != nil || token.Type != "new" && (done || token.Type != "x") {
				t.Errorf("token %q, %v", token.Type, err)
			}
			usable(t, image)
		},
	},
	{
		name: "change the label",
		run:  edited(func(_ *testing.T, h *luks2.Header) error { return h.SetLabel("new") }),
		check: func(t *testing.T, image []byte, done bool) {
			h := alive(t, image, 1, map[int]string{1: "second"})
			if h != nil && h.Label() != "new" && (done || h.Label() != "base") {
				t.Errorf("label %q", h.Label())
			}
			usable(t, image)
		},
	},
}

// TestDyingStore cuts off every operation at every write and sync, with both
// copies of the header whole before, and with one of them.
func TestDyingStore(t *testing.T) {
	t.Parallel()
	for i, o := range operations {
		// What differs is only which key material is written: the header is
		// written in the same way.
		for _, before := range [][]string{
			{"whole", "first copy bad", "second copy older"},
			{"whole", "second copy bad", "first copy older"},
			{"whole"},
			{"second copy bad"},
		}[i] {
			t.Run(o.name+", "+before, func(t *testing.T) {
				t.Parallel()
				o.everywhere(t, imageWith(t, before), func([]byte) {})
			})
		}
	}
}

func imageWith(t *testing.T, state string) []byte {
	t.Helper()
	image := baseImage(t)
	copies := headerCopies(image)
	switch state {
	case "first copy bad":
		copies[0][2000] ^= 1
	case "second copy bad":
		copies[1][2000] ^= 1
	case "first copy older":
		ageCopy(copies[0])
	case "second copy older":
		ageCopy(copies[1])
	}
	return image
}

func ageCopy(area []byte) {
	binary.BigEndian.PutUint64(area[seqAt:], binary.BigEndian.Uint64(area[seqAt:])-1)
	seal(area)
}

func TestDyingRepair(t *testing.T) {
	t.Parallel()
	repair := operation{
		name: "repair",
		run: func(ctx context.Context, t *testing.T, s luks2.Store) error {
			h, err := luks2.Open(ctx, s)
			if err != nil {
				return err
			}
			return h.Repair(ctx)
		},
		check: func(t *testing.T, image []byte, done bool) {
			h := alive(t, image, 1, map[int]string{0: "first", 1: "second"})
			if h != nil && done && h.Damage() != nil {
				t.Error(h.Damage())
			}
			usable(t, image)
		},
	}
	for _, before := range []string{"first copy bad", "second copy bad", "first copy older", "second copy older"} {
		repair.everywhere(t, imageWith(t, before), func([]byte) {})
	}
}

// TestDyingFormat may leave nothing, the old volume or the new one, but nothing
// that looks like a volume and does not open.
func TestDyingFormat(t *testing.T) {
	t.Parallel()
	format := operation{
		name: "format",
		run: func(ctx context.Context, t *testing.T, s luks2.Store) error {
			_, key, err := luks2.Format(ctx, s, text(t, "new"), luks2.FormatOptions{
				Cipher: "aes-cbc-essiv:sha256", KeySize: 16, DataOffset: baseSize, KDF: luks2.Minimal(), Fast: true})
			key.Wipe()
			return err
		},
		check: func(t *testing.T, image []byte, done bool) {
			h, err := luks2.Open(t.Context(), luks2.NewMemory(image))
			if err != nil {
				if done || !errors.Is(err, luks2.ErrNotLUKS2) && !errors.Is(err, luks2.ErrDamaged) {
					t.Error(err)
				}
				return
			}
			for _, pass := range []string{"first", "new"} {
				if _, key, err := h.Find(t.Context(), text(t, pass)); err == nil {
					key.Wipe()
					return
				}
			}
			t.Error("a header that nothing opens")
		},
	}
	for _, size := range []int64{16 << 10, 64 << 10} {
		s, _, _ := formatted(t, luks2.FormatOptions{HeaderSize: size, Cipher: "aes-cbc-essiv:sha256", KeySize: 16, DataOffset: baseSize})
		format.everywhere(t, contents(t, s)[:baseSize], func([]byte) {})
	}
	format.everywhere(t, make([]byte, baseSize), func([]byte) {})
}

// TestDyingRestore may leave a volume that opens with less than before, but
// restoring again always succeeds.
func TestDyingRestore(t *testing.T) {
	t.Parallel()
	var backup bytes.Buffer
	if err := reopen(t, luks2.NewMemory(baseImage(t))).Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context, _ *testing.T, s luks2.Store) error {
		return luks2.Restore(ctx, s, bytes.NewReader(backup.Bytes()), int64(backup.Len()), luks2.RestoreOptions{})
	}
	restore := operation{
		name: "restore",
		run:  run,
		check: func(t *testing.T, image []byte, _ bool) {
			if err := run(t.Context(), t, luks2.NewMemory(image)); err != nil {
				t.Errorf("restoring again: %v", err)
				return
			}
			alive(t, image, 1, map[int]string{0: "first", 1: "second"})
			usable(t, image)
		},
	}
	for _, before := range []string{"whole", "first copy bad", "second copy bad"} {
		image := imageWith(t, before)
		s := luks2.NewMemory(image)
		h := reopen(t, s)
		broken := h.Damage()
		if err := edited(func(_ *testing.T, h *luks2.Header) error { return h.RemoveSlot(0) })(t.Context(), t, s); err != nil {
			t.Fatal(err)
		}
		// The change has mended the copy: break it again.
		if broken != nil {
			headerCopies(image)[strings.Count(before, "second")][2000] ^= 1
		}
		restore.everywhere(t, image, func([]byte) {})
	}
}

// TestDyingPeer shows what is left by adding and removing a keyslot to cryptsetup.
func TestDyingPeer(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	for _, o := range operations[:2] {
		seen := 0
		path := filepath.Join(t.TempDir(), "image")
		o.everywhere(t, baseImage(t), func(image []byte) {
			// Every other state, or it takes long.
			if seen++; seen%2 == 0 {
				return
			}
			file := append(slices.Clone(image), make([]byte, 1<<20)...)
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := theyOpen(t, path, 1, "second"); err != nil {
				t.Errorf("cryptsetup: %v", err)
			}
		})
	}
}
