package tpm2

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2/tpm2test"
	"github.com/lockport/lockport/volume"
	"github.com/lockport/lockport/volume/volumetest"
)

// machine is a TPM, a volume, and files that say which boot this is. Its state is
// PCR 16, which can go back.
type machine struct {
	t     *testing.T
	tpm   *tpm2test.Software
	k     *Key
	root  string
	store luks2.Store
	key   *secret.Bytes     // of the volume
	pins  map[string]string // of keyslots, by name
}

const (
	volumeSize = 32<<10 + 8*areaSize
	areaSize   = 64 << 10 // key material of a key of 16 bytes, with room to spare
)

func newMachine(t *testing.T, tpm *tpm2test.Software) *machine {
	t.Helper()
	m := &machine{t: t, tpm: tpm, k: keyFor(tpm), root: t.TempDir(), store: luks2.NewMemory(make([]byte, volumeSize)), pins: map[string]string{}}
	pass := secret.Copy([]byte("first"))
	defer pass.Wipe()
	var err error
	_, m.key, err = luks2.Format(t.Context(), m.store, pass, luks2.FormatOptions{Cipher: "aes-cbc-essiv:sha256", KeySize: 16,
		DataOffset: volumeSize, KDF: luks2.Minimal(), Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.key.Wipe)
	m.boot("a")
	m.state("one")
	return m
}

// boot has the machine started once more.
func (m *machine) boot(name string) {
	m.t.Helper()
	id := strings.Repeat(fmt.Sprintf("%02x", name[0]), 16)
	id = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:] + "\n"
	putFile(m.t, filepath.Join(m.root, "proc/sys/kernel/random/boot_id"), []byte(id))
}

// state puts PCR 16 into a state with a name.
func (m *machine) state(name string) {
	m.t.Helper()
	m.tpm.Reset(16)
	m.tpm.Extend(16, name)
}

// value is what PCR 16 holds in a state.
func stateValue(name string) PCR {
	sum := digestOf([]byte(name))
	v := digestOf(make([]byte, 32), sum[:])
	return PCR{16, "sha256", v[:]}
}

func (m *machine) header() *luks2.Header {
	m.t.Helper()
	h, err := luks2.Open(m.t.Context(), m.store)
	if err != nil {
		m.t.Fatal(err)
	}
	return h
}

// enroll adds a keyslot with a name and, if not "", a PIN.
func (m *machine) enroll(e Enroller, name, pin string) int {
	m.t.Helper()
	e.Open, e.Root = m.k.Open, m.root
	if e.PIN = pin != ""; e.PIN {
		m.pins[name] = pin
	}
	h := m.header()
	made, err := volume.Enroll(m.t.Context(), h, m.key, &e, &volumetest.Asker{Answers: []string{pin}}, volume.EnrollOptions{Name: name})
	if err != nil {
		m.t.Fatal(err)
	}
	made.Pass.Wipe()
	return made.Keyslot
}

func (m *machine) refresher() *Refresher {
	return &Refresher{Key: m.k, Keyslot: luks2.AnySlot, PCRLocks: m.k.PCRLocks, Root: m.root, Now: time.Unix(1e9, 0)}
}

// refresh plans and applies, and returns what was planned: "a:renew b:leave".
func (m *machine) refresh(r *Refresher, answers ...string) (string, error) {
	m.t.Helper()
	h := m.header()
	steps, err := r.Plan(m.t.Context(), h)
	if err != nil {
		return "", err
	}
	var plan []string
	changes := 0
	for _, s := range steps {
		k, err := h.Keyslot(s.Keyslot)
		if err != nil {
			m.t.Fatal(err)
		}
		plan = append(plan, k.Note.Name+":"+string(s.Action))
		if s.Changes() {
			changes++
		}
	}
	var before []byte
	if changes == 0 {
		before = storeBytes(m.t, m.store)
	}
	took := 0
	err = r.Apply(m.t.Context(), h, m.key, steps, &volumetest.Asker{Answers: answers}, func(RefreshStep, int) { took++ })
	if err == nil && took != changes {
		m.t.Errorf("%d steps of %d were told of", took, changes)
	}
	if changes == 0 && !bytes.Equal(before, storeBytes(m.t, m.store)) {
		m.t.Error("something was written where nothing had to be done")
	}
	return sorted(strings.Join(plan, " ")), err
}

// sorted sorts words: numbers of keyslots and tokens are used again.
func sorted(words string) string {
	list := strings.Fields(words)
	slices.Sort(list)
	return strings.Join(list, " ")
}

// want refreshes and wants a plan and what is there afterwards; see slots.
func (m *machine) want(r *Refresher, plan, after string, answers ...string) {
	m.t.Helper()
	got, err := m.refresh(r, answers...)
	if err != nil || got != sorted(plan) {
		m.t.Errorf("plan %q, %v; want %q", got, err, plan)
	}
	if got := m.slots(); got != sorted(after) {
		m.t.Errorf("left are %q, want %q", got, after)
	}
	m.clean()
}

func (m *machine) clean() {
	m.t.Helper()
	if left := m.tpm.Loaded(); len(left) > 0 {
		m.t.Errorf("%x are left in the TPM", left)
	}
	pass := secret.Copy([]byte("first"))
	defer pass.Wipe()
	if err := m.header().Opens(m.t.Context(), 0, pass, m.key); err != nil {
		m.t.Errorf("the passphrase: %v", err)
	}
}

// slots says what the TPM2 keyslots are, sorted by name: with * if it opens now, + for a priority, p for pending and s for superseded.
func (m *machine) slots() string {
	m.t.Helper()
	h := m.header()
	var all []string
	for _, tok := range (volume.Tokens{With: m.k, Keyslot: luks2.AnySlot}).Tokens(h) {
		k, err := h.Keyslot(tok.Keyslots[0])
		if err != nil {
			m.t.Fatal(err)
		}
		text := k.Note.Name
		if m.opens(h, tok, m.pins[k.Note.Name]) {
			text += "*"
		}
		if k.Priority != luks2.PriorityNormal {
			text += "+"
		}
		if p, err := ParseToken(tok.JSON); err == nil && p.Record != nil {
			if p.Record.Pending != "" {
				text += "p"
			}
			if p.Record.Superseded != "" {
				text += "s"
			}
		}
		all = append(all, text)
	}
	return sorted(strings.Join(all, " "))
}

// opens opens a keyslot with the TPM.
func (m *machine) opens(h *luks2.Header, tok luks2.Token, pin string) bool {
	m.t.Helper()
	pass, err := m.k.Unlock(m.t.Context(), tok.JSON, &volumetest.Asker{Answers: []string{pin}, From: volume.FromEnvironment})
	if err != nil {
		return false
	}
	defer pass.Wipe()
	return h.Opens(m.t.Context(), tok.Keyslots[0], pass, m.key) == nil
}

func (m *machine) setPriority(slot int) {
	m.t.Helper()
	h := m.header()
	if err := errors.Join(h.SetPriority(slot, luks2.PriorityPrefer), h.Commit(m.t.Context())); err != nil {
		m.t.Fatal(err)
	}
}

func pcr16(t testing.TB) Enroller { return Enroller{PCRs: pcrList(t, "7+16")} }

// TestRefresh binds anew after a change, and does nothing where there was none.
func TestRefresh(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.setPriority(m.enroll(pcr16(t), "a", ""))
	m.enroll(Enroller{PCRs: pcrList(t, "7")}, "b", "")
	m.want(m.refresher(), "a:leave b:leave", "a*+ b*")
	m.state("two")
	m.want(m.refresher(), "a:renew b:leave", "b* a*+")
	h := m.header()
	k, err := h.Keyslot(3)
	if err != nil || k.Note.Name != "a" || !k.Note.Created.Equal(time.Unix(1e9, 0)) || len(h.Keyslots()) != 3 {
		t.Errorf("%+v, %v", k, err)
	}
	m.want(m.refresher(), "b:leave a:leave", "b* a*+")
	m.state("one")
	r := m.refresher()
	r.Keyslot = 2
	m.want(r, "b:leave", "b* a+")
	r.Keyslot = 3
	m.want(r, "a:renew", "b* a*+")
	m.k.Open = func(context.Context) (Device, error) { return nil, ErrNoTPM }
	if _, err := m.refresh(m.refresher()); !errors.Is(err, ErrNoTPM) {
		t.Errorf("no TPM: %v", err)
	}
}

// TestRefreshPIN has two people's keyslots with one policy.
func TestRefreshPIN(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.enroll(pcr16(t), "anna", "1111")
	m.enroll(pcr16(t), "bert", "2222")
	m.want(m.refresher(), "anna:leave bert:leave", "anna* bert*")
	m.state("two")
	// Nobody there: nothing is lost.
	if _, err := m.refresh(m.refresher()); !errors.Is(err, volume.ErrNoAnswer) {
		t.Error(err)
	}
	m.want(m.refresher(), "anna:renew bert:renew", "anna* bert*", "1111", "2222")
	m.pins["anna"], m.pins["bert"] = m.pins["bert"], m.pins["anna"]
	if got := m.slots(); got != "anna bert" {
		t.Errorf("with the other's PIN: %s", got)
	}
	for range 4 { // until the TPM locks
		if got := m.slots(); got != "anna bert" {
			t.Fatal(got)
		}
	}
	m.pins["anna"], m.pins["bert"] = m.pins["bert"], m.pins["anna"]
	// A lock is no reason to do anything, nor anything that could be done.
	m.want(m.refresher(), "anna:leave bert:leave", "anna bert")
	m.state("three")
	before := storeBytes(t, m.store)
	plan, err := m.refresh(m.refresher(), "1111", "2222")
	if plan != "anna:skip bert:skip" || err != nil {
		t.Errorf("%s, %v", plan, err)
	}
	if steps, err := m.refresher().Plan(t.Context(), m.header()); err != nil || !errors.Is(steps[0].Reason, ErrLockout) {
		t.Errorf("%+v, %v", steps, err)
	}
	if !bytes.Equal(before, storeBytes(t, m.store)) {
		t.Error("the volume was written though the TPM is locked")
	}
	m.clean()
}

// TestRefreshSkips has keyslots that nothing can be done about.
func TestRefreshSkips(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	signed := Enroller{PublicKey: vector(t, "pcr-signing-pub.pem"), SignedPCRs: []int{11}}
	m.enroll(signed, "signed", "")
	signed.PCRs = pcrList(t, "16")
	m.enroll(signed, "both", "")
	slot := m.enroll(Enroller{PCRs: pcrList(t, "16")}, "broken", "")
	h := m.header()
	var broken luks2.Token
	for _, tok := range h.Tokens() {
		if tok.Keyslots[0] == slot {
			broken = tok
		}
	}
	text, err := luks2.SetMember(broken.JSON, "tpm2_future", 1)
	if err := errors.Join(err, h.SetToken(broken.ID, text), h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	m.want(m.refresher(), "signed:leave both:leave broken:skip", "signed* both* broken")
	m.tpm.Extend(11, "unsigned phase")
	steps, err := m.refresher().Plan(t.Context(), m.header())
	if err != nil || len(steps) != 3 || !errors.Is(steps[0].Reason, ErrNoSignature) || !errors.Is(steps[1].Reason, ErrNoSignature) ||
		!errors.Is(steps[2].Reason, luks2.ErrUnsupported) || steps[0].Opens || steps[2].Opens {
		t.Errorf("%+v, %v", steps, err)
	}
	m.want(m.refresher(), "signed:skip both:skip broken:skip", "signed both broken")
	// What is bound literally can be bound anew whatever is signed.
	m.state("two")
	m.want(m.refresher(), "signed:skip both:renew broken:skip", "signed broken both")
}

// TestRefreshShared has two tokens for one keyslot, which neither may take away.
func TestRefreshShared(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.enroll(pcr16(t), "one", "")
	m.enroll(Enroller{PCRs: pcrList(t, "16")}, "two", "")
	h := m.header()
	_, err := h.AddToken(h.Tokens()[0].JSON)
	if err := errors.Join(err, h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	m.state("two")
	plan, err := m.refresh(m.refresher())
	if err != nil || plan != sorted("one:skip one:skip two:renew") {
		t.Errorf("%q, %v", plan, err)
	}
	if n := len(m.header().Tokens()); n != 3 {
		t.Errorf("%d tokens are left", n)
	}
}

// TestRefreshUnattended has nobody who would type the PIN of one keyslot: the others
// are renewed all the same.
func TestRefreshUnattended(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.enroll(pcr16(t), "Ada", "1111")
	m.enroll(pcr16(t), "boot", "")
	m.state("two")
	h, r := m.header(), m.refresher()
	r.Question = volume.Question{Message: "PIN of %s?", Confirm: "PIN of %s again?"}
	steps, err := r.Plan(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	nobody := &volumetest.Asker{}
	if err := r.Apply(t.Context(), h, m.key, steps, nobody, nil); !errors.Is(err, volume.ErrNoAnswer) {
		t.Error(err)
	}
	if got := m.slots(); got != sorted("Ada boot*") {
		t.Errorf("left are %q", got)
	}
	if len(nobody.Asked) != 1 || nobody.Asked[0].Message != "PIN of keyslot 1 (Ada)?" || nobody.Asked[0].Confirm != "PIN of keyslot 1 (Ada) again?" {
		t.Errorf("asked: %+v", nobody.Asked)
	}
}

// TestRefreshOtherTPM puts the volume into another machine.
func TestRefreshOtherTPM(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.enroll(pcr16(t), "a", "")
	m.enroll(Enroller{}, "pin", "1111")
	m.tpm = tpm2test.Start(t, "")
	m.k.Open = opener(m.tpm)
	m.state("one")
	steps, err := m.refresher().Plan(t.Context(), m.header())
	if err != nil || len(steps) != 2 || !errors.Is(steps[0].Reason, ErrOtherTPM) || !errors.Is(steps[1].Reason, ErrOtherTPM) {
		t.Errorf("%+v, %v", steps, err)
	}
	m.want(m.refresher(), "a:skip pin:skip", "a pin")
	r := m.refresher()
	r.ReplaceTPM = true
	m.want(r, "a:renew pin:renew", "a* pin*", "1111")
	m.want(r, "a:leave pin:leave", "a* pin*")
}

// TestRefreshOld binds what systemd 252 enrolled, which records no parent.
func TestRefreshOld(t *testing.T) {
	t.Parallel()
	m := &machine{t: t, tpm: startA(t), root: t.TempDir(), store: sampleStore(t, "v252")}
	m.k = keyFor(m.tpm)
	m.boot("a")
	typed := secret.Copy([]byte("testpass"))
	defer typed.Wipe()
	key, err := volume.Open(t.Context(), m.header(), luks2.AnySlot, typed)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Volume.Wipe()
	m.key = key.Volume
	if plan, err := m.refresh(m.refresher()); err != nil || strings.Trim(plan, ":leav ") != "" || strings.Count(plan, "leave") != 4 {
		t.Errorf("%s, %v", plan, err)
	}
	m.tpm.Event(7, "other")
	var bound []int
	for _, s := range sampleTokens(t) {
		if tok := findSample(t, s.volume, s.slot); s.volume == "v252" && len(tok.PCRs) > 0 {
			bound = append(bound, int(s.slot[0]-'0'))
		}
	}
	steps, err := m.refresher().Plan(t.Context(), m.header())
	if err != nil {
		t.Fatal(err)
	}
	var renewed []int
	for _, s := range steps {
		if s.Action == Renew && errors.Is(s.Reason, ErrPolicy) {
			renewed = append(renewed, s.Keyslot)
		}
	}
	if !slices.Equal(renewed, bound) || len(bound) == 0 {
		t.Errorf("%d are bound anew, want %d", renewed, bound)
	}
	// systemd has not proven what they are bound to.
	if _, err := m.refresh(m.refresher(), "246810", "1357"); !errors.Is(err, ErrUnproven) {
		t.Error(err)
	}
	adopt := m.refresher()
	adopt.Adopt = true
	if _, err := m.refresh(adopt, "246810", "1357"); err != nil {
		t.Fatal(err)
	}
	m.tpm.Event(7, "once more") // now it is known
	if _, err := m.refresh(m.refresher(), "246810", "1357"); err != nil {
		t.Fatal(err)
	}
	h := m.header()
	opened := 0
	for _, tok := range h.Tokens() {
		p, err := ParseToken(tok.JSON)
		if err != nil {
			continue
		}
		pin := "246810"
		if len(p.SignedPCRs) > 0 {
			pin = "1357"
		}
		if !m.opens(h, tok, pin) || len(p.PCRs) > 0 && p.SRK == nil {
			t.Errorf("keyslot %d: %s", tok.Keyslots[0], tok.JSON)
		}
		opened++
	}
	if opened != 4 {
		t.Errorf("%d are left", opened)
	}
}

// TestRefreshKeeps leaves the old keyslot in place until the next boot.
func TestRefreshKeeps(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.setPriority(m.enroll(pcr16(t), "a", ""))
	m.enroll(pcr16(t), "pin", "1111")
	m.state("two")
	keep := m.refresher()
	keep.KeepPrevious = true
	m.want(keep, "a:renew pin:renew", "a+s pins a*+ pin*", "1111")
	for _, r := range []*Refresher{keep, m.refresher()} {
		m.want(r, "a:leave pin:leave a:leave pin:leave", "a+s pins a*+ pin*")
	}
	steps, err := m.refresher().Plan(t.Context(), m.header())
	if err != nil || !errors.Is(steps[0].Reason, ErrSuperseded) || steps[3].Reason != nil {
		t.Errorf("%+v, %v", steps, err)
	}
	// A boot into the old state: both stay, the old one opens.
	m.boot("b")
	m.state("one")
	if got := m.slots(); got != sorted("a*+s pin*s a+ pin") {
		t.Errorf("rolled back: %s", got)
	}
	m.state("two")
	m.want(m.refresher(), "a:remove pin:remove a:leave pin:leave", "a*+ pin*")
	m.want(m.refresher(), "a:leave pin:leave", "a*+ pin*")
}

// TestRefreshRollsBack has the machine come up in the old state for good.
func TestRefreshRollsBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pin string }{{""}, {"1111"}} {
		m := newMachine(t, startB(t))
		m.enroll(pcr16(t), "a", c.pin)
		m.enroll(Enroller{PCRs: pcrList(t, "7")}, "b", "") // opens all the time
		m.state("two")
		keep := m.refresher()
		keep.KeepPrevious = true
		m.want(keep, "a:renew b:leave", "as b* a*", c.pin)
		m.boot("b")
		m.state("one")
		// The one that opens is not taken away before another for its state is there.
		if got, err := m.refresh(m.refresher()); got != "a:leave a:renew b:leave" || c.pin == "" && err != nil || c.pin != "" && !errors.Is(err, volume.ErrNoAnswer) {
			t.Errorf("PIN %q: %s, %v", c.pin, got, err)
		}
		if got := m.slots(); !strings.Contains(got, "a*") {
			t.Errorf("PIN %q: left are %s", c.pin, got)
		}
		if _, err := m.refresh(m.refresher(), c.pin); err != nil {
			t.Errorf("PIN %q: %v", c.pin, err)
		}
		for _, boot := range []string{"c", "d"} {
			m.boot(boot)
			if _, err := m.refresh(m.refresher()); err != nil {
				t.Errorf("PIN %q, boot %s: %v", c.pin, boot, err)
			}
			if got := m.slots(); strings.Count(got, "a") != 1 || !strings.Contains(got, "a*") {
				t.Errorf("PIN %q, boot %s: left are %s", c.pin, boot, got)
			}
		}
	}
}

// TestRefreshPredicts binds to what a later boot brings.
func TestRefreshPredicts(t *testing.T) {
	t.Parallel()
	for _, pin := range []string{"", "1111"} {
		m := newMachine(t, startB(t))
		m.setPriority(m.enroll(pcr16(t), "a", pin))
		m.enroll(Enroller{PCRs: pcrList(t, "7")}, "b", "")
		update := func(state string) *Refresher {
			r := m.refresher()
			r.Values = []PCR{stateValue(state)}
			return r
		}
		m.want(update("two"), "a:renew b:leave", "a*+s b* a+p", pin)
		// In this boot nothing more is done, with or without the values.
		m.want(update("two"), "a:leave b:leave a:leave", "a*+s b* a+p")
		m.want(m.refresher(), "a:leave b:leave a:leave", "a*+s b* a+p")
		steps, err := m.refresher().Plan(t.Context(), m.header())
		if err != nil || !errors.Is(steps[0].Reason, ErrSuperseded) || !errors.Is(steps[2].Reason, ErrPending) {
			t.Errorf("%+v, %v", steps, err)
		}
		// Another update before that boot came: it takes the place of the first.
		m.want(update("three"), "a:leave b:leave a:renew", "a*+s b* a+p", pin)
		// It comes as predicted.
		m.boot("b")
		m.state("three")
		m.want(m.refresher(), "a:remove b:leave a:leave", "b* a*+")
		m.want(m.refresher(), "b:leave a:leave", "b* a*+")
		// And the next update: the one that opens now stays until then.
		m.want(update("four"), "b:leave a:renew", "b* a*+s a+p", pin)
		m.boot("c")
		m.state("four")
		m.want(m.refresher(), "b:leave a:remove a:leave", "b* a*+")
		// It is a keyslot like any other now, which can be kept.
		m.state("five")
		r := m.refresher()
		r.KeepPrevious = true
		m.want(r, "b:leave a:renew", "b* a+s a*+", pin)
	}
}

// TestRefreshPredictsWrong has a boot come that is not the predicted one.
func TestRefreshPredictsWrong(t *testing.T) {
	t.Parallel()
	for _, pin := range []string{"", "1111"} {
		for _, state := range []string{"one", "other"} {
			m := newMachine(t, startB(t))
			m.enroll(pcr16(t), "a", pin)
			m.enroll(Enroller{PCRs: pcrList(t, "7")}, "b", "") // opens all the time
			r := m.refresher()
			r.Values = []PCR{stateValue("two")}
			m.want(r, "a:renew b:leave", "a*s b* ap", pin)
			m.boot("b")
			m.state(state)
			open := strings.Contains(m.slots(), "a*s")
			if open != (state == "one") {
				t.Errorf("%s: %s", state, m.slots())
			}
			plan, err := m.refresh(m.refresher(), pin)
			if err != nil || strings.Contains(plan, "remove") {
				t.Errorf("PIN %q, %s: %s, %v", pin, state, plan, err)
			}
			// Whatever boots follow, in the end there is one, and it opens.
			for _, boot := range []string{"b", "c"} {
				m.boot(boot)
				if got := m.slots(); !strings.Contains(got, "a*") {
					t.Errorf("PIN %q, %s, boot %s: %s", pin, state, boot, got)
				}
				if plan, err := m.refresh(m.refresher()); err != nil {
					t.Errorf("PIN %q, %s, boot %s: %s, %v", pin, state, boot, plan, err)
				}
			}
			if got := m.slots(); strings.Count(got, "a") != 1 || !strings.Contains(got, "a*") {
				t.Errorf("PIN %q, %s: left are %s", pin, state, got)
			}
		}
	}
}

// TestRefreshPredictsInVain predicts boot after boot what never comes: keyslots
// do not pile up.
func TestRefreshPredictsInVain(t *testing.T) {
	t.Parallel()
	for _, pin := range []string{"", "1111"} {
		m := newMachine(t, startB(t))
		m.enroll(pcr16(t), "a", pin)
		for _, boot := range []string{"b", "c", "d"} {
			m.boot(boot)
			r := m.refresher()
			r.Values = []PCR{stateValue("not " + boot)}
			if plan, err := m.refresh(r, pin); err != nil || m.slots() != "a*s ap" {
				t.Errorf("PIN %q, boot %s: %s, %v, %s", pin, boot, plan, err, m.slots())
			}
		}
		m.boot("f")
		m.want(m.refresher(), "a:leave a:renew", "a* a*s", pin)
		m.want(m.refresher(), "a:remove a:leave", "a*")
	}
}

// TestRefreshKernel refuses to predict half of what a new kernel changes.
func TestRefreshKernel(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.enroll(Enroller{PCRs: pcrList(t, "4+11")}, "stub", "")
	m.enroll(Enroller{PCRs: pcrList(t, "11")}, "kernel", "")
	m.enroll(Enroller{PCRs: pcrList(t, "9")}, "initrd", "") // opens now, and will not then
	r := m.refresher()
	value := bytes.Repeat([]byte{3}, 32)
	r.Values = []PCR{{11, "sha256", value}}
	steps, err := r.Plan(t.Context(), m.header())
	if err != nil || steps[0].Action != Skip || !errors.Is(steps[0].Reason, ErrKernelPCR) || !strings.Contains(steps[0].Reason.Error(), "PCR 4") ||
		steps[1].Action != Renew || !errors.Is(steps[2].Reason, ErrKernelPCR) {
		t.Errorf("%+v, %v", steps, err)
	}
	m.want(r, "stub:skip kernel:renew initrd:skip", "stub* kernel*s initrd* kernelp")
	r.Values = append(r.Values, PCR{4, "sha256", value})
	m.want(r, "stub:renew kernel:leave initrd:skip kernel:leave", "stub*s kernel*s initrd* kernelp stubp")
}

// TestRefreshUnnamedBoot has nothing that tells one boot from another.
func TestRefreshUnnamedBoot(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.setPriority(m.enroll(pcr16(t), "a", ""))
	r := m.refresher()
	r.Root, r.KeepPrevious = "", true
	m.state("two")
	m.want(r, "a:renew", "a+ a*+")
}

// TestRefreshPCRLock has the pcrlock policy made anew.
func TestRefreshPCRLock(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	lock := filepath.Join(vectorDir, "pcrlock.json")
	m.enroll(Enroller{PCRLock: lock}, "a", "")
	m.want(m.refresher(), "a:leave", "a*")
	file := filepath.Join(t.TempDir(), "pcrlock.json")
	writePCRLock(t, m.tpm, file, []any{map[string]any{"pcr": 1, "values": []string{strings.Repeat("00", 32)}}})
	m.k.PCRLocks = []string{file}
	m.want(m.refresher(), "a:renew", "a*")
	m.want(m.refresher(), "a:leave", "a*")
	m.k.PCRLocks = nil
	m.want(m.refresher(), "a:skip", "a")
	m.k.PCRLocks = []string{file}
	m.tpm.Event(1, "x") // the policy's business, not ours
	m.want(m.refresher(), "a:skip", "a")
}

// TestRefreshBank has a TPM that no longer keeps PCRs in the bank of the token.
func TestRefreshBank(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.enroll(Enroller{PCRs: pcrList(t, "7")}, "a", "")
	dev := withoutBank(m.tpm)
	m.k.Open = func(context.Context) (Device, error) { return dev, nil }
	m.want(m.refresher(), "a:renew", "a*")
	if tok, err := ParseToken(m.header().Tokens()[0].JSON); err != nil || tok.Bank != "sha1" {
		t.Errorf("%+v, %v", tok, err)
	}
	m.want(m.refresher(), "a:leave", "a*")
}

// TestRefreshProves unseals what was sealed anew before the old keyslot goes,
// with a signed policy too.
func TestRefreshProves(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.enroll(Enroller{PCRs: pcrList(t, "16"), PublicKey: vector(t, "pcr-signing-pub.pem"), SignedPCRs: []int{11}}, "a", "")
	m.state("two")
	broken := true
	m.k.Open = opener(tpm2test.Func(func(command []byte) ([]byte, error) {
		if tpm2test.Code(command) == ccUnseal && broken {
			return tpm2test.Refusal(0x101), nil
		}
		return m.tpm.Send(command)
	}))
	if plan, err := m.refresh(m.refresher()); plan != "a:renew" || !errors.Is(err, rcError{ccUnseal, 0x101}) {
		t.Errorf("%s, %v", plan, err)
	}
	broken = false
	m.state("one")
	if got := m.slots(); got != "a*" {
		t.Errorf("after it was not proven: %s", got)
	}
	m.state("two")
	m.want(m.refresher(), "a:renew", "a*")
}

// TestRefreshPlanted has tokens that somebody has put into the header: bound to
// less, or to signatures of their own, or over the passphrase's keyslot.
func TestRefreshPlanted(t *testing.T) {
	t.Parallel()
	m := newMachine(t, startB(t))
	m.enroll(pcr16(t), "a", "")
	id, own := m.header().Tokens()[0].ID, m.header().Tokens()[0].JSON
	set := func(text json.RawMessage) {
		h := m.header()
		if err := errors.Join(h.SetToken(id, text), h.Commit(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		members map[string]any
	}{
		{"another keyslot", map[string]any{"keyslots": []string{"0"}}},
		{"another PCR", map[string]any{"tpm2-pcrs": []int{23}}},
		{"another bank", map[string]any{"tpm2-pcr-bank": "sha1"}},
		{"a signer", map[string]any{"tpm2_pubkey": vector(t, "pcr-signing-pub.pem"), "tpm2_pubkey_pcrs": []int{23}}},
		{"no proof", map[string]any{"lockport": map[string]any{}}},
		{"a proof of nothing", map[string]any{"lockport": map[string]any{"proof": make([]byte, 32)}}},
	} {
		text := own
		var err error
		for member, value := range c.members {
			if text, err = luks2.SetMember(text, member, value); err != nil {
				t.Fatal(err)
			}
		}
		if text, err = luks2.SetMember(text, "tpm2-policy-hash", strings.Repeat("ab", 32)); err != nil {
			t.Fatal(err)
		}
		set(text)
		before := storeBytes(t, m.store)
		if plan, err := m.refresh(m.refresher()); !errors.Is(err, ErrUnproven) || !strings.Contains(plan, "renew") {
			t.Errorf("%s: %s, %v", c.name, plan, err)
		}
		if !bytes.Equal(before, storeBytes(t, m.store)) {
			t.Errorf("%s: the volume was written", c.name)
		}
	}
	set(own)
	m.state("two")
	m.want(m.refresher(), "a:renew", "a*")
}
