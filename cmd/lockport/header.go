package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/luks2"
)

func (a *app) headerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "header",
		Short: "Back up, restore, mend or dump the header of a volume",
		Args:  noSuchCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.backupCommand(), a.restoreCommand(), a.repairCommand(), a.dumpCommand())
	return cmd
}

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup DEVICE FILE",
		Short: "Write header and keyslots to a new file",
		Long: `Writes both copies of the header and all keyslots to a new file, in the form of
'cryptsetup luksHeaderBackup'. Keep it like a key: with it, a passphrase that was
removed later still opens the volume.`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, h, err := a.openHeader(cmd.Context(), args[0], true)
			if err != nil {
				return err
			}
			defer f.Close()
			return a.backupHeader(cmd.Context(), h, args[1])
		},
	}
}

// backupHeader writes a backup that only its owner can read. Half a backup
// would be worse than none, so one that failed is removed.
func (a *app) backupHeader(ctx context.Context, h *luks2.Header, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return fmt.Errorf("backing up the header: %w", onDevice(path, err))
	}
	err = h.Backup(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("backing up the header to %s: %w", path, err), os.Remove(path))
	}
	a.say("Header backed up to %s.", path)
	return nil
}

func (a *app) restoreCommand() *cobra.Command {
	var o luks2.RestoreOptions
	cmd := &cobra.Command{
		Use:   "restore [OPTIONS] DEVICE FILE",
		Short: "Write header and keyslots back from a backup",
		Long: `Writes header and keyslots back from a backup, which is checked first. All
keyslots become what they were: passphrases added since are lost, and removed
ones work again. The volume must still have a valid header with the same UUID
and key unless --force is given.`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.restore(cmd.Context(), args[0], args[1], o)
		},
	}
	cmd.Flags().BoolVar(&o.Anyway, "force", false, "restore onto whatever is there")
	return cmd
}

func (a *app) restore(ctx context.Context, device, path string, o luks2.RestoreOptions) error {
	backup, _, err := a.openHeader(ctx, path, true)
	if err != nil {
		return fmt.Errorf("backup %w", err)
	}
	defer backup.Close()
	f, err := openDevice(device, false)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := restoreTo(ctx, f, backup, o); err != nil {
		return onDevice(device, err)
	}
	a.say("Header of %s restored.", device)
	return nil
}

// restoreTo restores unless the two look as if they were swapped: that would
// destroy the backup.
func restoreTo(ctx context.Context, f, backup *luks2.File, o luks2.RestoreOptions) error {
	size, err := backup.Size()
	if err != nil {
		return err
	}
	room, err := f.Size()
	if err != nil {
		return err
	}
	if room < size && !o.Anyway {
		return marked{fmt.Errorf("is smaller than the backup %s", backup.Name()), errSwapped}
	}
	err = luks2.Restore(ctx, f, backup, size, o)
	if !o.Anyway && (errors.Is(err, luks2.ErrNotLUKS2) || errors.Is(err, luks2.ErrDamaged)) {
		err = marked{err, errUnlike}
	}
	return err
}

func (a *app) repairCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "repair [OPTIONS] DEVICE",
		Short: "Rewrite a damaged copy of the header from the good one",
		Long: `A LUKS2 header is there twice. If one copy is damaged, this rewrites it from the
other. A place that shows the signature of something else, of a file system for
example, is only overwritten with --force.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.repair(cmd.Context(), args[0], force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the signature of another format in its place")
	return cmd
}

func (a *app) repair(ctx context.Context, device string, force bool) error {
	f, h, err := a.openHeader(ctx, device, false)
	if err != nil {
		return err
	}
	defer f.Close()
	if h.Damage() == nil {
		a.say("Both copies of the header are good.")
		return nil
	}
	repair := h.Repair
	if force {
		repair = h.RepairAnyway
	}
	if err := repair(ctx); err != nil {
		return onDevice(device, err)
	}
	a.say("Header of %s mended.", device)
	return nil
}

func (a *app) dumpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dump DEVICE",
		Short: "Print the metadata of the header as JSON",
		Args:  arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, h, err := a.openHeader(cmd.Context(), args[0], true)
			if err != nil {
				return err
			}
			defer f.Close()
			e := json.NewEncoder(a.out)
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			return e.Encode(h.JSON())
		},
	}
}
