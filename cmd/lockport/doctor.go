package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/tpm2/eventlog"
)

// The outcomes of a check.
const (
	resultOK      = "ok"
	resultWarning = "warning" // it works, but there is something to know
	resultFailed  = "failed"  // TPM2 keyslots can't be made or opened with this
)

// finding is the outcome of one check.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Text   string `json:"text"`
}

func (a *app) doctorCommand() *cobra.Command {
	var device string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [OPTIONS]",
		Short: "Check what this machine's TPM2 is good for",
		Long: `Checks the TPM2 and what belongs to it: whether it is there and can be used,
PCR banks, storage key, passwords of owner and lockout, wrong attempts, room,
event log, Secure Boot. Each check has a line with ok, warning or failed. Nothing
is changed. The exit status is 1 if a check failed and 0 otherwise.`,
		Example: "  lockport doctor",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.examine(cmd.Context(), device)
			if err != nil {
				return err
			}
			return a.printFindings(list, asJSON)
		},
	}
	tpmDeviceFlag(cmd.Flags(), &device)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// errUnwell: a check failed; which one was printed.
var errUnwell = errors.New("a check failed")

func (a *app) printFindings(list []finding, asJSON bool) error {
	var err error
	if asJSON {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(list)
	} else {
		var b strings.Builder
		for _, f := range list {
			fmt.Fprintf(&b, "%-7s  %-12s  %s\n", f.Result, f.Check, f.Text)
		}
		_, err = io.WriteString(a.out, b.String())
	}
	if err == nil && slices.ContainsFunc(list, func(f finding) bool { return f.Result == resultFailed }) {
		err = errUnwell
	}
	return err
}

// examine makes all checks that can be made.
func (a *app) examine(ctx context.Context, name string) ([]finding, error) {
	log, logErr := eventlog.Read("/")
	list := []finding{checkSecureBoot(log)}
	dev, err := a.openTPM(ctx, name)
	if err != nil {
		return append([]finding{{"tpm", resultFailed, tpmAbsent(err)}}, list...), nil
	}
	defer closeTPM(dev)
	s, err := tpm2.Examine(ctx, dev)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return append([]finding{{"tpm", resultFailed, err.Error()}}, list...), nil
	}
	checks := []finding{checkIdentity(s), checkBanks(s), checkStorageKey(s), checkOwner(s), checkLockoutAuth(s), checkLockout(s), checkRoom(s)}
	checks = append(checks, list...)
	return append(checks, checkLog(ctx, dev, s, log, logErr)), nil
}

func tpmAbsent(err error) string {
	if errors.Is(err, tpm2.ErrNoTPM) && tpm2.Present("/") {
		return "the firmware has a TPM 2.0, but the kernel offers no device for it: a driver is missing"
	}
	return err.Error()
}

func checkIdentity(s *tpm2.State) finding {
	text := fmt.Sprintf("%s %s, firmware %s", s.Manufacturer, s.Model, s.Firmware)
	if !s.AES {
		return finding{"tpm", resultFailed, text + "; it has no AES, with which what crosses the bus is encrypted"}
	}
	return finding{"tpm", resultOK, text}
}

func checkBanks(s *tpm2.State) finding {
	var texts []string
	for _, name := range []string{"sha1", "sha256", "sha384", "sha512"} {
		if n := len(s.Banks[name]); n == 24 {
			texts = append(texts, name)
		} else if n > 0 {
			texts = append(texts, fmt.Sprintf("%s (%d of 24 PCRs)", name, n))
		}
	}
	switch text := strings.Join(texts, ", "); {
	case len(s.Banks["sha256"]) == 24:
		return finding{"banks", resultOK, text}
	case len(s.Banks["sha1"]) == 24:
		return finding{"banks", resultWarning, text + "; sha256 is off, and sha1 is weak: switch sha256 on in the firmware's setup"}
	default:
		return finding{"banks", resultFailed, or(text, "none") + "; no PCR can be bound to without sha256 or sha1"}
	}
}

func checkStorageKey(s *tpm2.State) finding {
	switch {
	case s.StorageKey == "ecc" || s.StorageKey == "rsa":
		return finding{"storage key", resultOK, "there is one, " + s.StorageKey}
	case s.StorageKey != "":
		return finding{"storage key", resultFailed, s.StorageKey}
	case s.OwnerAuth:
		return finding{"storage key", resultFailed, "there is none, and without the owner's password none can be made"}
	}
	return finding{"storage key", resultOK, "there is none yet; the first enrolment makes it"}
}

func checkOwner(s *tpm2.State) finding {
	if s.OwnerAuth {
		return finding{"owner", resultWarning, "has a password; nothing can be kept in the TPM without it, and pcrlock policies can't be used"}
	}
	return finding{"owner", resultOK, "has no password"}
}

func checkLockoutAuth(s *tpm2.State) finding {
	if s.Lockout.Open {
		return finding{"lockout", resultWarning, "has no password: whoever runs software here can reset the count of wrong PINs and go on guessing"}
	}
	return finding{"lockout", resultOK, "has a password"}
}

func checkLockout(s *tpm2.State) finding {
	l := s.Lockout
	text := fmt.Sprintf("%d of %d wrong attempts are counted", l.Failed, l.Most)
	if l.Interval > 0 {
		text += fmt.Sprintf(", one is forgotten every %v", l.Interval.Round(time.Second))
	}
	switch {
	case l.Locked:
		return finding{"attempts", resultFailed, text + "; PINs are not taken now"}
	case l.Failed*2 > l.Most:
		return finding{"attempts", resultWarning, text}
	}
	return finding{"attempts", resultOK, text}
}

func checkRoom(s *tpm2.State) finding {
	text := fmt.Sprintf("%d keys are kept, there is room for %d more; %d NV indices are defined", s.Persistent, s.PersistentFree, s.NVIndices)
	if s.PersistentFree == 0 {
		result := resultWarning
		if s.StorageKey == "" {
			result = resultFailed
		}
		return finding{"room", result, text}
	}
	return finding{"room", resultOK, text}
}

// checkSecureBoot reads the firmware's variable: four bytes of attributes and
// one that is 1 if Secure Boot is on. Where it can't be read, the event log may
// tell.
func checkSecureBoot(log *eventlog.Log) finding {
	b, err := os.ReadFile("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
	on, known := len(b) == 5 && b[4] == 1, err == nil && len(b) == 5
	if !known && log != nil {
		on, known = log.SecureBoot()
	}
	switch {
	case known && on:
		return finding{"secure boot", resultOK, "on"}
	case known:
		return finding{"secure boot", resultWarning, "off: PCR 7 says only that it is off, not what was started"}
	}
	return finding{"secure boot", resultWarning, "not known; this machine was not started by EFI firmware, or its variables can't be read"}
}

// checkLog compares the event log with the PCRs of the firmware.
func checkLog(ctx context.Context, dev tpm2.Device, s *tpm2.State, log *eventlog.Log, err error) finding {
	if err != nil {
		return finding{"event log", resultWarning, "explain can't tell which event differs: " + err.Error()}
	}
	const bank = "sha256"
	if len(s.Banks[bank]) == 0 {
		return finding{"event log", resultWarning, "not compared: there is no bank " + bank}
	}
	replayed := log.Replay(bank)
	pcrs := []int{0, 1, 2, 3, 4, 5, 6, 7}
	values, err := tpm2.ReadPCRs(ctx, dev, bank, pcrs)
	if err != nil {
		return finding{"event log", resultWarning, err.Error()}
	}
	var differ []string
	for _, n := range pcrs {
		if r := replayed[n]; r != nil && !bytes.Equal(r, values[n]) {
			differ = append(differ, fmt.Sprint(n))
		}
	}
	if differ != nil {
		return finding{"event log", resultWarning, fmt.Sprintf("%d events; they don't come to what PCR %s holds", len(log.Events), strings.Join(differ, "+"))}
	}
	return finding{"event log", resultOK, fmt.Sprintf("%d events, which come to what the PCRs hold", len(log.Events))}
}
