package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/tpm2/eventlog"
	"github.com/lockport/lockport/volume"
)

// tpmStateFlags say which TPM, policy files and PCR values a keyslot is compared
// with.
type tpmStateFlags struct {
	slot      int
	device    string
	signature string
	pcrLock   string
	pcrs      pcrFlag
	uki       string
	phase     string
}

func (s *tpmStateFlags) bind(f *pflag.FlagSet) {
	s.slot = luks2.AnySlot
	f.Var(slotNumber{&s.slot}, "slot", "only this keyslot")
	tpmDeviceFlag(f, &s.device)
	f.StringVar(&s.signature, "tpm2-signature", "", "`FILE` with signatures of PCR policies (default: where systemd looks)")
	f.StringVar(&s.pcrLock, "tpm2-pcrlock", "", "`FILE` with the pcrlock policy (default: where systemd keeps it)")
	f.Var(&s.pcrs, "tpm2-pcrs", "take these values for those of now, such as 7:sha256=VALUE+4:sha256=VALUE")
	f.StringVar(&s.uki, "next-uki", "", "take for PCR 11 what booting the kernel image in this `FILE` makes of it")
	f.StringVar(&s.phase, "phase", "enter-initrd", "boot `PHASE` in which PCR 11 will be looked at, with --next-uki")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "key-slot" { // as other commands have it
			name = "slot"
		}
		return pflag.NormalizedName(name)
	})
}

// key is what the flags name.
func (s *tpmStateFlags) key(a *app) *tpm2.Key {
	k := a.tpmKey(s.device, 0)
	if s.signature != "" {
		k.Signatures = []string{s.signature}
	}
	if s.pcrLock != "" {
		k.PCRLocks = []string{s.pcrLock}
	}
	return k
}

// values are those of another boot. The kernel image brings the signatures for it.
func (s *tpmStateFlags) values(ctx context.Context, key *tpm2.Key) ([]tpm2.PCR, error) {
	for _, p := range s.pcrs.list {
		if p.Value == nil {
			return nil, fmt.Errorf("--tpm2-pcrs: PCR %d has no value", p.Index)
		}
	}
	list := s.pcrs.list
	if s.uki == "" {
		return list, nil
	}
	predicted, signatures, err := predictUKI(ctx, s.uki, s.phase)
	if err != nil {
		return nil, err
	}
	if s.signature == "" && signatures != nil {
		key.SignatureText = signatures
	}
	return append(predicted, list...), nil
}

type explainOptions struct {
	state tpmStateFlags
	json  bool
}

func (a *app) explainCommand() *cobra.Command {
	o := &explainOptions{}
	cmd := &cobra.Command{
		Use:   "explain [OPTIONS] DEVICE",
		Short: "Tell what TPM2 keyslots are bound to, and what keeps them from opening",
		Long: `Tells for each keyslot whether it would open the volume now. For a TPM2 keyslot
it compares the policy with the state of the machine: each PCR that it is bound
to with its value at enrolment and now, and, where the logs of what was measured
tell, the event that differs. Nobody is asked for a PIN, nothing is written and
nothing counts as a wrong attempt.

The values at enrolment are known of keyslots that lockport enrolled; for others
they are guessed from the log. With --next-uki= or --tpm2-pcrs= it tells what will
open in a later boot. The exit status is 0 if every TPM2 keyslot that was looked
at opens, given its PIN, and 1 otherwise.`,
		Example: `  lockport explain /dev/sda2
  lockport explain --next-uki=/efi/EFI/Linux/new.efi /dev/sda2`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.explain(cmd.Context(), args[0], o) },
	}
	o.state.bind(cmd.Flags())
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

// What is in the way was printed.
var (
	errBlocked = errors.New("a TPM2 keyslot does not open")
	// errStale: a refresh would mend it.
	errStale = fmt.Errorf("%w in this state of the machine", errBlocked)
)

func (a *app) explain(ctx context.Context, device string, o *explainOptions) error {
	f, h, err := a.openHeader(ctx, device, true)
	if err != nil {
		return err
	}
	defer f.Close()
	list, err := a.explainSlots(ctx, h, o)
	if err != nil {
		return onDevice(device, err)
	}
	if o.json {
		err = printExplainedJSON(a.out, list)
	} else {
		err = printExplained(a.out, list)
	}
	for _, e := range list {
		if blocked := e.blocked(); err == nil && blocked != nil {
			err = onDevice(device, blocked)
		}
	}
	return err
}

// blocked is the error about a keyslot that should open and does not. Those that
// are for another boot or have done their work need not.
func (e explained) blocked() error {
	if e.err != nil {
		return errBlocked
	}
	r := e.report
	if r == nil || r.Unlocks() {
		return nil
	}
	if m := r.Token.Record; m != nil && (m.Superseded != "" || m.Pending != "" && m.Pending == tpm2.BootID("/")) {
		return nil
	}
	all := errors.Join(r.Blocks...)
	for _, cause := range []error{tpm2.ErrOtherTPM, tpm2.ErrNoTPM, tpm2.ErrBank, tpm2.ErrNoSignature} {
		if errors.Is(all, cause) {
			return marked{errBlocked, cause} // for its advice; it was printed
		}
	}
	if errors.Is(all, tpm2.ErrPolicy) {
		return errStale
	}
	return errBlocked
}

// explained is one keyslot with what there is to say about it.
type explained struct {
	slot   volume.Slot
	report *tpm2.Report // nil for other kinds
	err    error        // the token is not understood
}

func (a *app) explainSlots(ctx context.Context, h *luks2.Header, o *explainOptions) ([]explained, error) {
	if o.state.slot != luks2.AnySlot {
		if _, err := h.Keyslot(o.state.slot); err != nil {
			return nil, err
		}
	}
	key, log := o.state.key(a), a.eventLog()
	values, err := o.state.values(ctx, key)
	if err != nil {
		return nil, err
	}
	var list []explained
	for _, s := range volume.List(h) {
		if o.state.slot != luks2.AnySlot && s.ID != o.state.slot {
			continue
		}
		e := explained{slot: s}
		for _, t := range s.Tokens {
			if t.Type == tpm2.TokenType {
				e.report, e.err = key.Explain(ctx, t.JSON, tpm2.ExplainOptions{Values: values, Log: log})
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		list = append(list, e)
	}
	return list, nil
}

// eventLog returns what was measured since the machine started, nil if that is
// not known.
func (a *app) eventLog() *eventlog.Log {
	log, err := eventlog.Read("/")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.warn("%v", err)
	}
	if err != nil {
		return nil
	}
	return log
}

func printExplained(w io.Writer, list []explained) error {
	var b strings.Builder
	for _, e := range list {
		name := ""
		if e.slot.Note.Name != "" {
			name = fmt.Sprintf(" %q", e.slot.Note.Name)
		}
		fmt.Fprintf(&b, "Keyslot %d, %s%s: %s\n", e.slot.ID, e.slot.Kind, name, e.verdict())
		if e.report != nil {
			e.tell(&b)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict says in a few words whether the keyslot opens.
func (e explained) verdict() string {
	switch {
	case e.err != nil:
		return "can't be used: " + e.err.Error()
	case e.report != nil && e.report.Unlocks() && e.report.Token.PIN:
		return "opens with its PIN"
	case e.report != nil && e.report.Unlocks():
		return "opens"
	case e.report != nil:
		return "does not open"
	case !e.slot.Bound:
		return "holds another key than that of the data"
	case e.slot.Kind.Human():
		return "opens for who has the " + kindName(e.slot.Kind)
	}
	return "not looked at"
}

// tell prints the policy and how the machine stands to it.
func (e explained) tell(b *strings.Builder) {
	r := e.report
	line := func(format string, args ...any) { fmt.Fprintf(b, "  "+format+"\n", args...) }
	if e.unbound() {
		line("bound to nothing but the TPM: whoever starts this machine can open the volume")
	}
	for _, p := range r.PCRs {
		line("%s: %s", pcrTitle(p.Index, p.Bank), matchText(p.Match))
		tellValues(line, p)
	}
	if s := r.Signed; s != nil {
		found := "not signed"
		if s.Found {
			found = "signed"
		}
		line("values signed by key %.16s…: the present ones are %s", s.Key, found)
		for _, p := range s.PCRs {
			line("  %s is %s", pcrTitle(p.Index, p.Bank), valueText(p.Now))
		}
	}
	tellLock(line, r.Lock)
	tellPIN(line, r)
	tellRecord(line, r.Token.Record)
	for _, err := range r.Blocks {
		for _, text := range strings.Split(err.Error(), "\n") {
			line("in the way: %s", text)
		}
	}
}

func (e explained) unbound() bool {
	t := e.report.Token
	return len(t.PCRs)+len(t.SignedPCRs) == 0 && !t.PCRLock && !t.PIN
}

func tellValues(line func(string, ...any), p tpm2.PCRReport) {
	if p.Match == tpm2.Same {
		line("  value     %s", valueText(p.Now))
		return
	}
	line("  enrolled  %s", valueText(p.Enrolled))
	line("  now       %s", valueText(p.Now))
	for _, c := range p.Changes {
		line("  %s", c)
	}
}

func tellLock(line func(string, ...any), l *tpm2.LockReport) {
	if l == nil {
		return
	}
	line("pcrlock policy: %s", or(l.File, "not found"))
	for _, p := range l.PCRs {
		met := "as permitted"
		if !p.Met {
			met = fmt.Sprintf("%s is none of the %d permitted values", valueText(p.Now), p.Allowed)
		}
		line("  %s: %s", pcrTitle(p.Index, ""), met)
	}
}

func tellPIN(line func(string, ...any), r *tpm2.Report) {
	if !r.Token.PIN {
		return
	}
	text := "PIN: asked for"
	if l := r.Lockout; l != nil {
		text += fmt.Sprintf("; %d of %d wrong attempts are counted", l.Failed, l.Most)
		if l.Failed > 0 && l.Interval > 0 {
			text += fmt.Sprintf(", one is forgotten every %v", l.Interval)
		}
	}
	line("%s", text)
}

func tellRecord(line func(string, ...any), r *tpm2.Record) {
	switch {
	case r == nil:
	case r.Pending != "" && r.Pending == tpm2.BootID("/"):
		line("made for a later boot")
	case r.Superseded != "":
		line("another keyslot has taken its place; the next refresh removes it")
	}
}

// pcrTitle names a PCR by number, name and bank.
func pcrTitle(n int, bank string) string {
	var more []string
	for _, text := range []string{tpm2.PCRName(n), bank} {
		if text != "" {
			more = append(more, text)
		}
	}
	if more == nil {
		return fmt.Sprintf("PCR %d", n)
	}
	return fmt.Sprintf("PCR %d (%s)", n, strings.Join(more, ", "))
}

func matchText(m tpm2.Match) string {
	switch m {
	case tpm2.Same:
		return "as enrolled"
	case tpm2.Differs:
		return "differs"
	}
	return "not known whether it differs"
}

func valueText(v []byte) string {
	if v == nil {
		return "not known"
	}
	return fmt.Sprintf("%x", v)
}

type explainedJSON struct {
	Slot    int            `json:"slot"`
	Kind    volume.Kind    `json:"kind"`
	Name    string         `json:"name,omitempty"`
	Opens   *bool          `json:"opens,omitempty"` // not there where it is not known
	Blocks  []string       `json:"blocks,omitempty"`
	PIN     bool           `json:"pin,omitempty"`
	Unbound bool           `json:"unbound,omitempty"`
	PCRs    []boundPCRJSON `json:"pcrs,omitempty"`
	Signed  *signedJSON    `json:"signed,omitempty"`
	PCRLock *pcrLockJSON   `json:"pcrlock,omitempty"`
	Lockout *lockoutJSON   `json:"lockout,omitempty"`
}

type boundPCRJSON struct {
	PCR      int      `json:"pcr"`
	Name     string   `json:"name,omitempty"`
	Bank     string   `json:"bank,omitempty"`
	Enrolled string   `json:"enrolled,omitempty"`
	Now      string   `json:"now,omitempty"`
	Same     *bool    `json:"same,omitempty"`
	Changes  []string `json:"changes,omitempty"`
}

type signedJSON struct {
	Key    string         `json:"pkfp"`
	Policy string         `json:"pol,omitempty"`
	Found  bool           `json:"found"`
	PCRs   []boundPCRJSON `json:"pcrs"`
}

type pcrLockJSON struct {
	File string          `json:"file,omitempty"`
	PCRs []lockedPCRJSON `json:"pcrs,omitempty"`
}

type lockedPCRJSON struct {
	PCR     int    `json:"pcr"`
	Now     string `json:"now,omitempty"`
	Allowed int    `json:"allowed"`
	Met     bool   `json:"met"`
}

type lockoutJSON struct {
	Locked   bool `json:"locked"`
	Failed   int  `json:"failed"`
	Most     int  `json:"most"`
	Interval int  `json:"interval_seconds"`
}

func printExplainedJSON(w io.Writer, list []explained) error {
	out := struct {
		Slots []explainedJSON `json:"slots"`
	}{Slots: []explainedJSON{}}
	for _, e := range list {
		out.Slots = append(out.Slots, e.toJSON())
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func (e explained) toJSON() explainedJSON {
	j := explainedJSON{Slot: e.slot.ID, Kind: e.slot.Kind, Name: e.slot.Note.Name}
	if e.err != nil {
		j.Opens, j.Blocks = new(bool), []string{e.err.Error()}
	}
	r := e.report
	if r == nil {
		return j
	}
	opens := r.Unlocks()
	j.Opens, j.PIN, j.Unbound = &opens, r.Token.PIN, e.unbound()
	for _, err := range r.Blocks {
		j.Blocks = append(j.Blocks, err.Error())
	}
	j.PCRs = pcrsToJSON(r.PCRs)
	if s := r.Signed; s != nil {
		j.Signed = &signedJSON{s.Key, s.Policy, s.Found, pcrsToJSON(s.PCRs)}
	}
	if l := r.Lock; l != nil {
		j.PCRLock = &pcrLockJSON{File: l.File}
		for _, p := range l.PCRs {
			j.PCRLock.PCRs = append(j.PCRLock.PCRs, lockedPCRJSON{p.Index, fmt.Sprintf("%x", p.Now), p.Allowed, p.Met})
		}
	}
	if l := r.Lockout; l != nil {
		j.Lockout = &lockoutJSON{l.Locked, l.Failed, l.Most, int(l.Interval.Seconds())}
	}
	return j
}

func pcrsToJSON(list []tpm2.PCRReport) []boundPCRJSON {
	out := []boundPCRJSON{}
	for _, p := range list {
		j := boundPCRJSON{PCR: p.Index, Name: tpm2.PCRName(p.Index), Bank: p.Bank, Enrolled: fmt.Sprintf("%x", p.Enrolled),
			Now: fmt.Sprintf("%x", p.Now), Changes: p.Changes}
		if p.Match != tpm2.Unknown {
			same := p.Match == tpm2.Same
			j.Same = &same
		}
		out = append(out, j)
	}
	return out
}
