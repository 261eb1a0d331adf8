package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/luks2"
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
		Args:    cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			slot, err := strconv.ParseUint(args[1], 10, 16)
			if err != nil {
				return fmt.Errorf("%q is not a keyslot number", args[1])
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
	return a.change(ctx, h, device, func(h *luks2.Header) error { return volume.SetName(h, slot, name) })
}

// change makes and commits one change of a header.
func (a *app) change(ctx context.Context, h *luks2.Header, device string, f func(*luks2.Header) error) error {
	err := f(h)
	if err == nil {
		err = h.Commit(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	return nil
}
