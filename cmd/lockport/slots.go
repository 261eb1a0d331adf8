package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

type slotsOptions struct {
	json  bool
	short bool // the table of systemd-cryptenroll
}

func (a *app) slotsCommand() *cobra.Command {
	o := &slotsOptions{}
	cmd := &cobra.Command{
		Use:   "slots [OPTIONS] DEVICE",
		Short: "Show the keyslots of a volume",
		Long: `Shows the keyslots of a LUKS2 volume: number, kind, name, when each was made,
what trying a passphrase costs, and what the tokens of the slot ask for. Names
and dates are notes in the header that nothing protects from being edited.`,
		Example: `  lockport slots /dev/sda2
  lockport slots --json /dev/sda2 | jq '.slots[] | select(.kind == "recovery")'`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.slots(cmd.Context(), args[0], o) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

func (a *app) slots(ctx context.Context, device string, o *slotsOptions) error {
	f, h, err := a.openHeader(ctx, device, true)
	if err != nil {
		return err
	}
	defer f.Close()
	if a.original {
		if err := volume.CheckOwner(h); err != nil {
			return onDevice(device, err)
		}
	}
	list := volume.List(h)
	switch {
	case o.json:
		return printSlotsJSON(a.out, h, list)
	case len(list) == 0:
		a.say("No slots found.")
		return nil
	case o.short:
		return printSlotKinds(a.out, list)
	}
	return printSlots(a.out, list)
}

// printSlotKinds prints what scripts expect of systemd-cryptenroll.
func printSlotKinds(w io.Writer, list []volume.Slot) error {
	var b strings.Builder
	b.WriteString("SLOT TYPE\n")
	for _, s := range list {
		// The original passes over slots that hold another key.
		if s.Bound {
			fmt.Fprintf(&b, "%4d %s\n", s.ID, s.Kind)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printSlots(w io.Writer, list []volume.Slot) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SLOT\tKIND\tNAME\tCREATED\tKEY DERIVATION\tNOTES")
	for _, s := range list {
		fmt.Fprintf(t, "%4d\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Kind, or(s.Note.Name, "-"), day(s.Note.Created), derivation(s), or(notes(s), "-"))
	}
	return t.Flush()
}

func derivation(s volume.Slot) string {
	if s.Type != "luks2" {
		return "-"
	}
	return s.KDF.String()
}

// notes tells what is out of the ordinary.
func notes(s volume.Slot) string {
	var parts []string
	if model := keyModel(s); model != "" {
		parts = append(parts, model)
	}
	if s.Policy != "" {
		parts = append(parts, s.Policy)
	}
	if s.Priority != luks2.PriorityNormal {
		parts = append(parts, "priority "+s.Priority.String())
	}
	if s.Type != "luks2" {
		parts = append(parts, fmt.Sprintf("keyslot type %.32q", s.Type))
	} else if !s.Bound {
		parts = append(parts, "not for the data (unbound)")
	}
	return strings.Join(parts, ", ")
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateOnly)
}

type slotJSON struct {
	Slot     int         `json:"slot"`
	Kind     volume.Kind `json:"kind"`
	Name     string      `json:"name,omitempty"`
	Created  *time.Time  `json:"created,omitempty"`
	Method   string      `json:"method,omitempty"`
	KDF      *kdfJSON    `json:"kdf,omitempty"`
	Cipher   string      `json:"cipher,omitempty"`
	Priority string      `json:"priority"`
	Bound    bool        `json:"bound"`
	Model    string      `json:"model,omitempty"` // of the security key
	Policy   string      `json:"policy,omitempty"`
	Tokens   []tokenJSON `json:"tokens,omitempty"`
}

type kdfJSON struct {
	Type       string `json:"type"`
	Hash       string `json:"hash,omitempty"`
	Iterations uint32 `json:"iterations,omitempty"`
	Time       uint32 `json:"time,omitempty"`
	Memory     uint32 `json:"memory_kib,omitempty"`
	CPUs       uint32 `json:"cpus,omitempty"`
}

type tokenJSON struct {
	Number int             `json:"token"`
	Type   string          `json:"type"`
	JSON   json.RawMessage `json:"json"`
}

func printSlotsJSON(w io.Writer, h *luks2.Header, list []volume.Slot) error {
	out := struct {
		UUID      string     `json:"uuid"`
		Label     string     `json:"label,omitempty"`
		Subsystem string     `json:"subsystem,omitempty"`
		Slots     []slotJSON `json:"slots"`
	}{UUID: h.UUID(), Label: h.Label(), Subsystem: h.Subsystem(), Slots: []slotJSON{}}
	for _, s := range list {
		out.Slots = append(out.Slots, slotToJSON(s))
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

func slotToJSON(s volume.Slot) slotJSON {
	j := slotJSON{Slot: s.ID, Kind: s.Kind, Name: s.Note.Name, Method: s.Note.Method, Cipher: s.Area.Encryption,
		Priority: s.Priority.String(), Bound: s.Bound, Model: keyModel(s), Policy: s.Policy}
	if !s.Note.Created.IsZero() {
		j.Created = &s.Note.Created
	}
	if s.KDF.Type != "" {
		j.KDF = &kdfJSON{s.KDF.Type, s.KDF.Hash, s.KDF.Iterations, s.KDF.Time, s.KDF.Memory, s.KDF.CPUs}
	}
	for _, t := range s.Tokens {
		j.Tokens = append(j.Tokens, tokenJSON{t.ID, t.Type, t.JSON})
	}
	return j
}
