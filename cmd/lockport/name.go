package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/volume"
)

func (a *app) nameCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "name DEVICE SLOT [NAME]",
		Short: "Name a keyslot, or take its name away",
		Long: `Gives a keyslot a name of up to 64 bytes, which 'lockport slots' shows. Without
NAME the name is removed. The name stands in the header, readable by everybody
who can read the disk; cryptsetup and systemd leave it alone.`,
		Example: "  lockport name /dev/sda2 1 'printed, in the safe'",
		Args:    arguments(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			slot, err := strconv.ParseUint(args[1], 10, 16)
			if err != nil {
				return misused(cmd, "%q is not a keyslot number", args[1])
			}
			name := ""
			if len(args) == 3 {
				name = args[2]
			}
			return a.nameSlot(cmd.Context(), args[0], int(slot), name)
		},
	}
}

func (a *app) nameSlot(ctx context.Context, device string, slot int, name string) error {
	f, h, err := a.openHeader(ctx, device, false)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = volume.SetName(h, slot, name); err == nil {
		err = h.Commit(ctx)
	}
	switch {
	case err != nil:
		return onDevice(device, err)
	case name == "":
		a.say("Keyslot %d has no name any more.", slot)
	default:
		a.say("Keyslot %d is named %q.", slot, name)
	}
	return nil
}
