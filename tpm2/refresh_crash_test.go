package tpm2

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume/volumetest"
)

var errPower = errors.New("the power is gone")

// dying is a store that ends at one write or sync: that one fails, and so does
// all that follows.
type dying struct {
	now, synced, torn []byte // as its user sees it, as of the last sync, with half of the last write
	left              int    // events until it dies
	dead              bool
	late              int // writes that were tried after death
}

func newDying(image []byte, left int) *dying {
	return &dying{now: slices.Clone(image), synced: slices.Clone(image), left: left}
}

func (d *dying) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(d.now).ReadAt(p, off)
}

func (d *dying) Size() (int64, error) { return int64(len(d.now)), nil }

func (d *dying) next() bool {
	if d.dead {
		d.late++
		return false
	}
	d.left--
	d.dead = d.left < 0
	return !d.dead
}

func (d *dying) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(d.now)) {
		return 0, io.ErrShortWrite
	}
	if !d.next() {
		if d.torn == nil {
			d.torn = slices.Clone(d.now)
			copy(d.torn[off:], p[:len(p)/2])
		}
		return 0, errPower
	}
	return copy(d.now[off:], p), nil
}

func (d *dying) Sync() error {
	if !d.next() {
		return errPower
	}
	copy(d.synced, d.now)
	return nil
}

// states are what may be on the disk afterwards: every write, half of the last,
// or nothing since the last sync.
func (d *dying) states() map[string][]byte {
	m := map[string][]byte{"kept": d.now, "lost": d.synced}
	if d.torn != nil {
		m["torn"] = d.torn
	}
	return m
}

// TestRefreshDies cuts off a refresh at every write and sync. What opens the
// volume then, in which state of the machine, is as the refresh promises, and the
// next refresh comes to the same end.
func TestRefreshDies(t *testing.T) {
	t.Parallel()
	keep := func(r *Refresher) { r.KeepPrevious = true }
	predict := func(r *Refresher) { r.Values = []PCR{stateValue("two")} }
	for _, c := range []struct {
		name     string
		pin      string
		before   func(m *machine) // makes what is refreshed
		options  func(r *Refresher)
		one, two bool // whether it has to open in that state at all times; in one of them it has to
		after    string
	}{
		{"plain", "", func(m *machine) { m.state("two") }, func(*Refresher) {}, false, false, "a*+"},
		{"keeping", "", func(m *machine) { m.state("two") }, keep, true, false, "a*+ a+s"},
		{"predicted", "", func(*machine) {}, predict, true, false, "a*+s a+p"},
		{"removing", "", func(m *machine) {
			m.state("two")
			r := m.refresher()
			keep(r)
			m.want(r, "a:renew", "a+s a*+")
			m.boot("b")
		}, func(*Refresher) {}, false, true, "a*+"},
		{"predicted twice", "", func(m *machine) {
			r := m.refresher()
			r.Values = []PCR{stateValue("three")}
			m.want(r, "a:renew", "a*+s a+p")
		}, predict, true, false, "a*+s a+p"},
		{"two of one kind", "", func(m *machine) {
			m.state("two")
			m.enroll(pcr16(m.t), "b", "")
			m.state("one")
		}, predict, true, true, "a*+s b+"},
		// That the keyslot of a cut off refresh is theirs, nobody can tell: another is made.
		{"PIN", "1111", func(m *machine) { m.state("two") }, func(*Refresher) {}, false, false, "a* a*+|a*+"},
		{"PIN, predicted", "1111", func(*machine) {}, predict, true, false, "a*+s a+p|a*+s a+p ap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, startB(t))
			m.setPriority(m.enroll(pcr16(t), "a", c.pin))
			c.before(m)
			state := "two"
			if strings.Contains(c.name, "predicted") || c.name == "two of one kind" {
				state = "one"
			}
			image := storeBytes(t, m.store)
			seen := map[[sha256.Size]byte]bool{}
			step := 1
			if c.pin != "" {
				step = 7 // deriving from PINs takes long: only between the new keyslot and the old
			}
			for at := step - 1; ; at += step {
				d := newDying(image, at)
				m.store = d
				r := m.refresher()
				c.options(r)
				h := m.header()
				steps, err := r.Plan(t.Context(), h)
				if err != nil {
					t.Fatal(err)
				}
				err = r.Apply(t.Context(), h, m.key, steps, &volumetest.Asker{Answers: []string{c.pin}}, nil)
				if d.dead != errors.Is(err, errPower) || !d.dead && err != nil || d.late > 0 {
					t.Fatalf("event %d: %v, %d more were tried", at, err, d.late)
				}
				for how, after := range d.states() {
					if sum := sha256.Sum256(after); seen[sum] {
						continue
					} else {
						seen[sum] = true
					}
					again := slices.Clone(after)
					m.store = luks2.NewMemory(after)
					opens := func(state string) bool {
						m.state(state)
						return strings.Contains(m.slots(), "*")
					}
					if c.one && !opens("one") || c.two && !opens("two") || !c.one && !c.two && !opens("one") && !opens("two") {
						t.Errorf("event %d, %s: %s does not open in the state in which it has to", at, how, m.slots())
					}
					m.state(state)
					r := m.refresher()
					c.options(r)
					if plan, err := m.refresh(r, c.pin); err != nil || !slices.Contains(strings.Split(c.after, "|"), m.slots()) {
						t.Errorf("event %d, %s: the next refresh: %s, %v, %s", at, how, plan, err, m.slots())
					}
					m.clean()
					// As it does where the machine goes back to the old state.
					if c.name == "plain" || c.name == "removing" {
						m.store = luks2.NewMemory(again)
						m.state("one")
						if plan, err := m.refresh(m.refresher()); err != nil || !strings.Contains(m.slots(), "a*") {
							t.Errorf("event %d, %s: a refresh in the old state: %s, %v, %s", at, how, plan, err, m.slots())
						}
					}
					m.state(state)
					if t.Failed() {
						return
					}
				}
				if !d.dead {
					t.Logf("%d events, %d states", at, len(seen))
					break
				}
			}
		})
	}
}
