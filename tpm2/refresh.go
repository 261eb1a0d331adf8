package tpm2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// Refresher binds TPM2 keyslots anew, each with the parameters that it had, to
// the PCR values of now or to given ones. It keeps no state between calls.
type Refresher struct {
	Key     *Key  // the TPM and the policy files
	Keyslot int   // luks2.AnySlot for all
	Values  []PCR // of a later boot; none for the values of now
	// KeepPrevious leaves the keyslots of before in place for one boot. For values
	// of a later boot that is always done: nothing proves them before.
	KeepPrevious bool
	ReplaceTPM   bool // also what another TPM sealed
	Root         string
	Question     volume.Question // how a PIN is asked for again; %s in it becomes the keyslot that it is for
	Now          time.Time       // when the new keyslots are made
}

// Action is what a refresh does with a keyslot.
type Action string

// The actions.
const (
	Leave  Action = "leave"  // nothing has to be done
	Renew  Action = "renew"  // another keyslot takes its place
	Remove Action = "remove" // it was kept for one boot, which is over
	Skip   Action = "skip"   // nothing can be done
)

// RefreshStep is what is planned for one keyslot.
type RefreshStep struct {
	Keyslot int
	Action  Action
	Reason  error // why it is renewed or skipped; nil if there is nothing to say
	Opens   bool  // it unlocks now, given the PIN if it wants one

	token  luks2.Token
	name   string // of the keyslot
	parsed *Token
	report *Report // with the values to bind to
}

// What a refresh can say of a keyslot.
var (
	ErrPending    = errors.New("made for a later boot")
	ErrSuperseded = errors.New("kept for this boot, another keyslot has taken its place")
	// ErrShared: whoever removes the keyslot removes what others made of it.
	ErrShared = errors.New("another token names this keyslot too")
	// ErrKernelPCR: the value that a later boot brings is not given.
	ErrKernelPCR = errors.New("this PCR changes with the kernel image too, and its value is not given")
)

// Plan says what to do with each TPM2 keyslot. It writes nothing and needs no
// secret. It returns [ErrNoTPM] if there is none.
func (r *Refresher) Plan(ctx context.Context, h *luks2.Header) ([]RefreshStep, error) {
	tokens := volume.Tokens{With: r.Key, Keyslot: r.Keyslot}
	var steps []RefreshStep
	for _, t := range tokens.Tokens(h) {
		step, err := r.look(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("keyslot %d: %w", t.Keyslots[0], err)
		}
		if shared(h, t) {
			step = RefreshStep{Keyslot: step.Keyslot, token: t, Reason: ErrShared}
		}
		if k, err := h.Keyslot(step.Keyslot); err == nil {
			step.name = k.Note.Name
		}
		steps = append(steps, step)
	}
	boot := BootID(r.Root)
	for i := range steps {
		heir, opens := steps[i].heir(steps)
		r.decide(&steps[i], boot, heir, opens)
	}
	return steps, nil
}

// shared tells whether another token names the keyslot too, which would go with it.
func shared(h *luks2.Header, t luks2.Token) bool {
	return slices.ContainsFunc(h.Tokens(), func(o luks2.Token) bool { return o.ID != t.ID && slices.Contains(o.Keyslots, t.Keyslots[0]) })
}

// heir tells whether there is a keyslot that has taken the place of this one, and
// whether such a one unlocks now.
func (s *RefreshStep) heir(steps []RefreshStep) (there, opens bool) {
	for i := range steps {
		if o := &steps[i]; s.inheritedBy(o) {
			there, opens = true, opens || o.Opens
		}
	}
	return there, opens
}

// inheritedBy tells whether another keyslot has taken the place of this one: one
// that asks for the same, whatever the values. PINs are different people's where
// the names are.
func (s *RefreshStep) inheritedBy(o *RefreshStep) bool {
	return s.superseded() != "" && o.parsed != nil && o.superseded() == "" && sameTerms(s.parsed, o.parsed) &&
		(!s.parsed.PIN || s.name == o.name)
}

func sameTerms(a, b *Token) bool {
	return a.PIN == b.PIN && a.PCRLock == b.PCRLock && slices.Equal(a.PCRs, b.PCRs) &&
		slices.Equal(a.SignedPCRs, b.SignedPCRs) && bytes.Equal(a.PublicKey, b.PublicKey)
}

// look compares a token with the state of now and with the one to bind to.
func (r *Refresher) look(ctx context.Context, t luks2.Token) (RefreshStep, error) {
	s := RefreshStep{Keyslot: t.Keyslots[0], token: t}
	var err error
	if s.parsed, err = ParseToken(t.JSON); err != nil {
		s.Reason = err // a token that is not understood is left to whoever wrote it
		return s, nil
	}
	now, err := r.Key.Explain(ctx, t.JSON, ExplainOptions{})
	if err != nil {
		return s, err
	}
	if now.blockedBy(ErrNoTPM) {
		return s, errors.Join(now.Blocks...)
	}
	s.Opens, s.report = now.Unlocks(), now
	if len(r.Values) > 0 {
		s.report, err = r.Key.Explain(ctx, t.JSON, ExplainOptions{Values: r.Values})
	}
	return s, err
}

func (r *Report) blockedBy(target error) bool {
	return slices.ContainsFunc(r.Blocks, func(err error) bool { return errors.Is(err, target) })
}

// superseded tells whether a keyslot is only kept for a boot: it is no reason not
// to make another.
func superseded(t luks2.Token) bool {
	p, err := ParseToken(t.JSON)
	return err == nil && p.Record != nil && p.Record.Superseded != ""
}

func (s *RefreshStep) superseded() string {
	if s.parsed == nil || s.parsed.Record == nil {
		return ""
	}
	return s.parsed.Record.Superseded
}

// decide picks the action. heir tells whether a keyslot is there that has taken
// the place of this one, opens whether such a one unlocks now. A keyslot that was
// kept stays until then; if its heir is gone, it is one like any other.
func (r *Refresher) decide(s *RefreshStep, boot string, heir, opens bool) {
	s.Action = Skip
	if s.parsed == nil {
		return
	}
	record := s.parsed.Record
	if record == nil {
		record = &Record{}
	}
	switch {
	case record.Superseded != "" && (record.Superseded == boot || heir && !opens):
		s.Action, s.Reason = Leave, ErrSuperseded
	case opens:
		s.Action = Remove
	case s.report.blockedBy(ErrOtherTPM):
		s.Reason = ErrOtherTPM
		if r.ReplaceTPM {
			s.Action = Renew
		}
	case record.Pending != "" && record.Pending == boot && len(r.Values) == 0:
		s.Action, s.Reason = Leave, ErrPending
	case r.kernelPCR(s) >= 0:
		s.Reason = fmt.Errorf("PCR %d: %w", r.kernelPCR(s), ErrKernelPCR)
	case s.report.stale || s.report.blockedBy(ErrBank) || r.otherLock(s.report):
		s.Reason = errors.Join(s.report.Blocks...)
		if !s.report.blockedBy(ErrLockout) { // a new PIN could not be proven
			s.Action = Renew
		}
	case s.report.Unlocks() || s.report.onlyLocked():
		s.Action = Leave
	default:
		s.Reason = errors.Join(s.report.Blocks...)
	}
}

// otherLock tells whether the pcrlock policy was made anew since the token was.
func (r *Refresher) otherLock(report *Report) bool {
	return report.Lock != nil && report.Lock.File == "" && r.lockFile() != ""
}

// onlyLocked tells whether nothing but the lock against guessing is in the way.
func (r *Report) onlyLocked() bool {
	return !slices.ContainsFunc(r.Blocks, func(err error) bool { return !errors.Is(err, ErrLockout) })
}

// kernelPCR returns a PCR that a predicted kernel image changes too and that has
// no value, -1 for none.
func (r *Refresher) kernelPCR(s *RefreshStep) int {
	const kernelBoot = 11
	given := func(n int) bool { return slices.ContainsFunc(r.Values, func(p PCR) bool { return p.Index == n }) }
	for _, n := range []int{4, 9} {
		if given(kernelBoot) && slices.Contains(s.parsed.PCRs, n) && !given(n) {
			return n
		}
	}
	return -1
}

// lockFile returns the pcrlock policy of the machine, "" for none.
func (r *Refresher) lockFile() string {
	for _, name := range r.Key.PCRLocks {
		if _, err := readPCRLock(name); err == nil {
			return name
		}
	}
	return ""
}

// Apply carries out a plan made for this very header with the volume key, which
// stays the caller's. Each keyslot is added and proven before another goes. done
// is told of each step that was taken and of the keyslot that took the place of
// the old one, -1 for none; it may be nil. Keyslots without a PIN come first, so that
// they are done where nobody is there to type.
func (r *Refresher) Apply(ctx context.Context, h *luks2.Header, key *secret.Bytes, steps []RefreshStep, ask volume.Asker, done func(s RefreshStep, slot int)) error {
	waits := func(s RefreshStep) bool { return s.Action == Renew && s.parsed.PIN }
	for _, s := range slices.Concat(slices.DeleteFunc(slices.Clone(steps), waits),
		slices.DeleteFunc(slices.Clone(steps), func(s RefreshStep) bool { return !waits(s) })) {
		slot, err := -1, error(nil)
		switch s.Action {
		case Renew:
			slot, err = r.renew(ctx, h, key, s, ask)
		case Remove:
			if err = proven(h, s, steps); err == nil {
				err = volume.Withdraw(ctx, h, s.Keyslot)
			}
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("keyslot %d: %w", s.Keyslot, err)
		}
		if done != nil {
			done(s, slot)
		}
	}
	return nil
}

// proven notes that the boot has come that a kept keyslot's successors were made
// for.
func proven(h *luks2.Header, kept RefreshStep, steps []RefreshStep) error {
	for i := range steps {
		s := &steps[i]
		if !s.Opens || !kept.inheritedBy(s) {
			continue
		}
		t, err := h.Token(s.token.ID)
		if err != nil || !slices.Equal(t.Keyslots, []int{s.Keyslot}) {
			continue // it has gone by now
		}
		p, err := ParseToken(t.JSON)
		if err != nil || p.Record == nil || p.Record.Pending == "" {
			continue
		}
		p.Record.Pending = ""
		if err := setRecord(h, t, p.Record); err != nil {
			return err
		}
	}
	return nil
}

// setRecord replaces the record of a token.
func setRecord(h *luks2.Header, t luks2.Token, r *Record) error {
	member := r.marshal()
	if member == nil {
		member = []byte("{}")
	}
	text, err := luks2.SetMember(t.JSON, recordMember, member)
	if err != nil {
		return err
	}
	return h.SetToken(t.ID, text)
}

// renew adds the new keyslot and then retires the old one.
func (r *Refresher) renew(ctx context.Context, h *luks2.Header, key *secret.Bytes, s RefreshStep, ask volume.Asker) (int, error) {
	old, err := h.Keyslot(s.Keyslot)
	if err != nil {
		return 0, err
	}
	e := r.again(s, h.Tokens())
	o := volume.EnrollOptions{Name: old.Note.Name, Created: r.Now}
	added, err := volume.Enroll(ctx, h, key, e, ask, o)
	var already *AlreadyEnrolled
	for errors.As(err, &already) {
		// By an earlier refresh that was cut off, as a rule: here, or while it was
		// removing that keyslot.
		if r.opens(ctx, h, already.Keyslot, key) {
			return already.Keyslot, r.retire(ctx, h, s, old, already.Keyslot)
		}
		e.Existing = slices.DeleteFunc(e.Existing, func(t luks2.Token) bool { return slices.Equal(t.Keyslots, []int{already.Keyslot}) })
		added, err = volume.Enroll(ctx, h, key, e, ask, o)
	}
	if err != nil {
		return 0, err
	}
	added.Pass.Wipe()
	slot := added.Keyslot
	if err := r.prove(ctx, h, slot); err != nil {
		return 0, errors.Join(err, volume.Withdraw(context.WithoutCancel(ctx), h, slot))
	}
	return slot, r.retire(ctx, h, s, old, slot)
}

// opens tells whether a keyslot without a PIN opens. For values of a later boot
// nothing can tell.
func (r *Refresher) opens(ctx context.Context, h *luks2.Header, slot int, key *secret.Bytes) bool {
	if len(r.Values) > 0 {
		return true
	}
	got, _, err := volume.Tokens{With: r.Key, Keyslot: slot}.VolumeKey(ctx, h, nil, 0)
	defer got.Volume.Wipe()
	return err == nil && got.Volume.Equal(key)
}

// retire removes the old keyslot or marks it, with what it was preferred for
// given to the new one, in one write.
func (r *Refresher) retire(ctx context.Context, h *luks2.Header, s RefreshStep, old luks2.Keyslot, slot int) error {
	k, err := h.Keyslot(slot)
	if err == nil && k.Priority == luks2.PriorityNormal && old.Priority != k.Priority {
		err = h.SetPriority(slot, old.Priority)
	}
	if err != nil {
		return err
	}
	if r.keeps(s) {
		return r.supersede(ctx, h, s)
	}
	return volume.Withdraw(ctx, h, s.Keyslot)
}

// keeps tells whether the old keyslot stays for this boot. One that was made for
// a boot that will not come is of no use.
func (r *Refresher) keeps(s RefreshStep) bool {
	pending := s.parsed.Record != nil && s.parsed.Record.Pending != ""
	return (r.KeepPrevious || len(r.Values) > 0) && (s.Opens || !pending)
}

// again returns what makes the keyslot once more.
func (r *Refresher) again(s RefreshStep, tokens []luks2.Token) *Enroller {
	t := s.parsed
	e := &Enroller{Open: r.Key.Open, PublicKey: t.PublicKey, SignedPCRs: slices.Clone(t.SignedPCRs), PolicyRef: t.PolicyRef,
		PIN: t.PIN, PINCost: t.Argon2, Unbound: true, Question: r.Question, Root: r.Root}
	for _, text := range []*string{&e.Question.Message, &e.Question.Confirm} {
		*text = strings.Replace(*text, "%s", s.title(), 1)
	}
	if signed := s.report.Signed; signed != nil && signed.Found && len(r.Values) == 0 {
		e.Signatures = r.Key.Signatures // so that it is unsealed before the old one goes
	}
	bankName := t.Bank
	if s.report.blockedBy(ErrBank) {
		bankName = ""
	}
	for _, n := range t.PCRs {
		p := PCR{Index: n, Bank: bankName}
		if b, err := bankByName(s.report.bankName()); err == nil {
			p.Value = valueOf(r.Values, b, n)
		}
		if p.Value != nil {
			p.Bank, e.Pending = s.report.bankName(), BootID(r.Root)
		}
		e.PCRs = append(e.PCRs, p)
	}
	if handle, _, err := t.parent(); err == nil && handle != 0 && handle != srkHandle && !s.report.blockedBy(ErrOtherTPM) {
		e.ParentHandle = handle
	}
	if t.PCRLock {
		if e.PCRLock = r.lockFile(); s.report.Lock != nil && s.report.Lock.File != "" {
			e.PCRLock = s.report.Lock.File
		}
	}
	for _, other := range tokens {
		if other.ID != s.token.ID && !superseded(other) {
			e.Existing = append(e.Existing, other)
		}
	}
	return e
}

// bankName is that of the bound PCRs, "" for none.
func (r *Report) bankName() string {
	if len(r.PCRs) > 0 {
		return r.PCRs[0].Bank
	}
	return r.Token.Bank
}

// prove goes through the new token as a later boot will, up to the last step,
// unless it is for values of a later boot. The last step was taken at enrolment
// where it could be.
func (r *Refresher) prove(ctx context.Context, h *luks2.Header, slot int) error {
	if len(r.Values) > 0 {
		return nil
	}
	for _, t := range (volume.Tokens{With: r.Key, Keyslot: slot}).Tokens(h) {
		report, err := r.Key.Explain(ctx, t.JSON, ExplainOptions{})
		if err != nil {
			return fmt.Errorf("proving the new keyslot %d: %w", slot, err)
		}
		if report.stale || report.blockedBy(ErrOtherTPM) {
			return fmt.Errorf("proving the new keyslot %d: %w", slot, errors.Join(report.Blocks...))
		}
	}
	return nil
}

// supersede marks the old keyslot.
func (r *Refresher) supersede(ctx context.Context, h *luks2.Header, s RefreshStep) error {
	record := Record{}
	if s.parsed.Record != nil {
		record = *s.parsed.Record
	}
	if record.Superseded = BootID(r.Root); record.Superseded == "" {
		return h.Commit(ctx) // no boot to tell from others; the next refresh finds two for one
	}
	if err := setRecord(h, s.token, &record); err != nil {
		return err
	}
	return h.Commit(ctx)
}

// title names the keyslot to a person.
func (s RefreshStep) title() string {
	if s.name == "" {
		return fmt.Sprintf("keyslot %d", s.Keyslot)
	}
	return fmt.Sprintf("keyslot %d (%s)", s.Keyslot, s.name)
}

// Changes tells whether the step writes anything.
func (s RefreshStep) Changes() bool { return s.Action == Renew || s.Action == Remove }
