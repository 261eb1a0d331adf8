package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/volume"
)

type refreshOptions struct {
	state      tpmStateFlags
	unlock     unlockFlags
	keep       bool
	replaceTPM bool
	dryRun     bool
	backup     string
	limits     luks2.Limits
}

func (a *app) refreshCommand() *cobra.Command {
	o := &refreshOptions{}
	cmd := &cobra.Command{
		Use:   "refresh [OPTIONS] DEVICE",
		Short: "Bind TPM2 keyslots to the present state of the machine, or to a coming one",
		Long: `Enrols TPM2 keyslots again that no longer open because a PCR has changed, each
with the parameters that it had: the same PCRs, keys, pcrlock policy and PIN or
no PIN. The new keyslot is added and proven before the old one goes. A keyslot
that is up to date is left alone, so it does no harm to call this often.

For use when a kernel is installed: --next-uki= binds keyslots with PCR 11 to
what booting that image will make of it, --tpm2-pcrs= others to given values.
Nothing can prove such a keyslot before that boot, so the one of before stays
until a refresh after it; --keep-previous does the same otherwise.

The volume is unlocked by a TPM2 keyslot if one still opens, by what the options
say, or by the passphrase from $PASSWORD, the credential cryptenroll.passphrase
or a person. A keyslot that another TPM has sealed is left alone unless
--replace-tpm is given. The exit status is 0 if nothing is left to do and 1 if a
keyslot could not be brought up to date.`,
		Example: `  lockport refresh /dev/sda2
  lockport refresh --next-uki=/efi/EFI/Linux/new.efi /dev/sda2`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.refresh(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	o.state.bind(f)
	f.BoolVar(&o.keep, "keep-previous", false, "keep the keyslots of before for this boot; a refresh in a later one removes them")
	f.BoolVar(&o.replaceTPM, "replace-tpm", false, "take over keyslots of another TPM: it was replaced or cleared")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done")
	f.StringVar(&o.backup, "header-backup-file", "", "back up the header to this new `FILE` first")
	o.unlock.bind(f)
	limitFlags(f, &o.limits)
	return cmd
}

func (a *app) refresh(ctx context.Context, device string, o *refreshOptions) error {
	if err := o.unlock.check(); err != nil {
		return err
	}
	key := o.state.key(a)
	values, err := o.state.values(ctx, key)
	if err != nil {
		return err
	}
	f, h, err := a.openHeader(ctx, device, o.dryRun, luks2.WithLimits(o.limits), luks2.WithQueue())
	if err != nil {
		return err
	}
	defer f.Close()
	r := &tpm2.Refresher{Key: key, Keyslot: o.state.slot, Values: values, KeepPrevious: o.keep, ReplaceTPM: o.replaceTPM,
		Root: "/", Now: a.now(), Question: volume.Question{Message: "Please enter TPM2 PIN of the new %s for disk " + device + ":",
			Confirm: "Please enter TPM2 PIN of the new %s for disk " + device + " (repeat):", ID: "cryptenroll:" + device}}
	return onDevice(device, a.refreshSlots(ctx, h, device, r, o))
}

// errNoTPMSlot: there is nothing to refresh.
var errNoTPMSlot = errors.New("no TPM2 keyslot is enrolled")

func (a *app) refreshSlots(ctx context.Context, h *luks2.Header, device string, r *tpm2.Refresher, o *refreshOptions) error {
	if err := volume.CheckOwner(h); err != nil {
		return err
	}
	if r.Keyslot != luks2.AnySlot {
		if _, err := h.Keyslot(r.Keyslot); err != nil {
			return err
		}
	}
	steps, err := r.Plan(ctx, h)
	if err != nil {
		return err
	}
	if len(steps) == 0 {
		return errNoTPMSlot
	}
	a.tellPlan(steps, o.dryRun)
	if !o.dryRun && slices.ContainsFunc(steps, tpm2.RefreshStep.Changes) {
		if err := a.applyRefresh(ctx, h, device, r, steps, o); err != nil {
			return err
		}
	}
	return skipped(steps)
}

// tellPlan says what is left as it is and why, and for a dry run also the rest.
func (a *app) tellPlan(steps []tpm2.RefreshStep, all bool) {
	for _, s := range steps {
		reason := ""
		if s.Reason != nil {
			reason = ": " + s.Reason.Error()
		}
		switch {
		case all:
			fmt.Fprintf(a.out, "%s keyslot %d%s\n", s.Action, s.Keyslot, reason)
		case s.Action == tpm2.Leave && s.Reason == nil:
			a.say("Keyslot %d is up to date.", s.Keyslot)
		case s.Action == tpm2.Leave:
			a.say("Keyslot %d is left as it is%s.", s.Keyslot, reason)
		}
	}
}

// applyRefresh unlocks the volume and carries out the plan. Removing what was
// only kept needs no key.
func (a *app) applyRefresh(ctx context.Context, h *luks2.Header, device string, r *tpm2.Refresher, steps []tpm2.RefreshStep, o *refreshOptions) error {
	if o.backup != "" {
		if err := a.backupHeader(ctx, h, o.backup); err != nil {
			return err
		}
	}
	ask := a.asker(asking{})
	key := volume.Key{}
	if slices.ContainsFunc(steps, func(s tpm2.RefreshStep) bool { return s.Action == tpm2.Renew }) {
		var err error
		if key, err = a.unlock(ctx, h, o.methods(h, device, steps, a), ask, volume.UnlockOptions{Tries: unlockTries}); err != nil {
			return err
		}
		defer key.Volume.Wipe()
	}
	return r.Apply(ctx, h, key.Volume, steps, ask, func(s tpm2.RefreshStep, slot int) {
		if s.Action == tpm2.Remove {
			a.say("Removed keyslot %d, which was kept for one boot.", s.Keyslot)
			return
		}
		a.say("Keyslot %d takes the place of keyslot %d.", slot, s.Keyslot)
	})
}

// methods unlocks as the options say, or with those of the TPM2 keyslots that
// open, and else by asking.
func (o *refreshOptions) methods(h *luks2.Header, device string, steps []tpm2.RefreshStep, a *app) []volume.Method {
	asked := o.unlock.methods(h, device, a)
	if o.unlock != (unlockFlags{}) {
		return asked
	}
	var methods []volume.Method
	for _, s := range steps {
		if s.Opens {
			methods = append(methods, a.unlockTPM(h, o.state.device, device, s.Keyslot)...)
		}
	}
	return append(methods, asked...)
}

// skipped is the error about keyslots that could not be brought up to date, nil
// for none.
func skipped(steps []tpm2.RefreshStep) error {
	var errs []error
	for _, s := range steps {
		if s.Action == tpm2.Skip {
			errs = append(errs, fmt.Errorf("keyslot %d: %w", s.Keyslot, s.Reason))
		}
	}
	return errors.Join(errs...)
}
