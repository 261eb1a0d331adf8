package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

func (a *app) wipeCommand() *cobra.Command {
	o := &enrollOptions{}
	cmd := &cobra.Command{
		Use:   "wipe [OPTIONS] DEVICE SLOT…",
		Short: "Wipe keyslots",
		Long: `Wipes keyslots: the key material is overwritten, then the header is written.
SLOT is a number, all, empty, password, recovery, pkcs11, fido2 or tpm2. What is
named by the same token goes together. At least one keyslot must remain, and a
passphrase or recovery key too unless --force is given.`,
		Example: "  lockport wipe /dev/sda2 recovery 3",
		Args:    arguments(2, math.MaxInt),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, item := range args[1:] {
				if item == "" {
					return misused(cmd, "a SLOT is empty")
				}
				if err := o.wipe.ParseSelection(item); err != nil {
					return misused(cmd, "%w", err)
				}
			}
			return a.enroll(cmd.Context(), o, args[:1])
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.force, "force", false, "wipe even the last passphrase and recovery key")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done")
	f.StringVar(&o.backup, "header-backup-file", "", "back up the header to this new `FILE` first")
	limitFlags(f, &o.limits)
	return cmd
}

// planWipe plans a wipe and refuses it if the owner would be left with devices
// only. Called as systemd's program it warns instead, since that one does it.
func (a *app) planWipe(ctx context.Context, h *luks2.Header, s volume.Selection, force bool, keep ...int) (volume.WipePlan, error) {
	plan, err := volume.PlanWipe(ctx, h, s, keep...)
	if err != nil {
		return plan, err
	}
	if plan.LosesHuman && !force {
		if !a.original {
			return plan, volume.ErrLastHuman
		}
		a.warn("%v: if the device that opens this volume fails, the data is lost", volume.ErrLastHuman)
	}
	return plan, nil
}

// wipe plans and carries out a wipe. Numbers without a keyslot are an error in
// the end, but don't keep the others from being wiped.
func (a *app) wipe(ctx context.Context, h *luks2.Header, s volume.Selection, force bool, keep ...int) error {
	plan, err := a.planWipe(ctx, h, s, force, keep...)
	if err != nil {
		return err
	}
	for _, id := range plan.Kept {
		a.warn("keyslot %d stays: a token ties it to one that is kept", id)
	}
	if plan.None() && len(plan.Missing) == 0 {
		a.say("No slots to remove.")
		return nil
	}
	if !plan.None() {
		if err := volume.Wipe(ctx, h, plan); err != nil {
			return err
		}
	}
	for _, slot := range plan.Slots {
		a.say("Wiped slot %d.", slot.ID)
	}
	if len(plan.Slots) == 0 && len(plan.Tokens) > 0 {
		a.say("Removed %d %s.", len(plan.Tokens), plural(len(plan.Tokens), "token", "tokens"))
	}
	return missing(plan)
}

// missing is the error about numbers that no keyslot has, nil for none.
func missing(plan volume.WipePlan) error {
	if len(plan.Missing) == 0 {
		return nil
	}
	var list []string
	for _, id := range plan.Missing {
		list = append(list, strconv.Itoa(id))
	}
	return fmt.Errorf("%w: %s", luks2.ErrNoKeyslot, strings.Join(list, ", "))
}

// showWipe prints the plan of a wipe.
func (a *app) showWipe(plan volume.WipePlan) error {
	for _, slot := range plan.Slots {
		fmt.Fprintf(a.out, "wipe keyslot %d (%s)\n", slot.ID, slot.Kind)
	}
	for _, id := range plan.Tokens {
		fmt.Fprintf(a.out, "remove token %d\n", id)
	}
	return missing(plan)
}
