package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockport/lockport/image"
)

func (a *app) portableReadOnlyCommand(o *portableOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "read-only [OPTIONS] IMAGE [BOOL]",
		Short: "Mark an image read-only, or writable again",
		Long: `Forbids to change an image, or with "no" for BOOL, allows it again. Of a file, the
mode says so; of a directory, an attribute that not all file systems have.`,
		Example: `  lockport portable read-only web_3
  lockport portable read-only web_3 no`,
		Args: arguments(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.portableReadOnly(cmd.Context(), args, o) },
	}
}

func (a *app) portableReadOnly(ctx context.Context, args []string, o *portableOptions) error {
	on := true
	if len(args) > 1 {
		var err error
		if on, err = parseBool(args[1]); err != nil {
			return fmt.Errorf("%q: %w", args[1], err)
		}
	}
	s, err := a.service(o)
	if err != nil {
		return err
	}
	p, err := a.rooted(o).imagePath(args[0])
	if err != nil {
		return err
	}
	return s.MarkReadOnly(ctx, p, on)
}

func (a *app) portableRemoveCommand(o *portableOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "remove [OPTIONS] IMAGE…",
		Short: "Delete images that are not attached",
		Long: `Deletes images for good, each with the files beside it that are about it alone:
its root hash, its signature, its verity data and its .nspawn file. Of a link,
the link is removed and not the image. Images that are attached, in use by
another program or below /usr are refused. The first error ends it.`,
		Example: `  lockport portable detach web_3 && lockport portable remove web_3`,
		Args:    arguments(1, 1<<16),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.portableRemove(cmd.Context(), args, o) },
	}
}

func (a *app) portableRemove(ctx context.Context, args []string, o *portableOptions) error {
	s, err := a.service(o)
	if err != nil {
		return err
	}
	for _, arg := range args {
		p, err := a.rooted(o).imagePath(arg)
		if err != nil {
			return err
		}
		gone, err := s.Remove(ctx, p)
		for _, g := range gone {
			if !a.original {
				a.say("Removed %s.", g)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) portableSetLimitCommand(o *portableOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "set-limit [OPTIONS] [IMAGE] BYTES",
		Short: "Limit how large an image may grow",
		Long: `Sets the quota of an image that is a subvolume of btrfs, or without IMAGE, of
/var/lib/portables as a whole. BYTES may end with K, M, G, T, P or E; "-" lifts
the limit.`,
		Example: `  lockport portable set-limit web_3 2G
  lockport portable set-limit 20G`,
		Args: arguments(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.portableSetLimit(cmd.Context(), args, o) },
	}
}

func (a *app) portableSetLimit(ctx context.Context, args []string, o *portableOptions) error {
	limit, err := parseLimit(args[len(args)-1])
	if err != nil {
		return err
	}
	s, err := a.service(o)
	if err != nil {
		return err
	}
	p := ""
	if len(args) > 1 {
		if p, err = a.rooted(o).imagePath(args[0]); err != nil {
			return err
		}
	}
	return s.SetLimit(ctx, p, limit)
}

// parseLimit reads a size as the original does: to the base of 1024, or none.
func parseLimit(text string) (uint64, error) {
	switch text {
	case "-", "none", "infinity":
		return image.NoLimit, nil
	}
	digits := strings.TrimSuffix(text, "B")
	shift := 0
	if i := strings.IndexAny(digits, "KMGTPE"); i >= 0 && i == len(digits)-1 {
		shift = 10 * (1 + strings.IndexByte("KMGTPE", digits[i]))
		digits = digits[:i]
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > image.NoLimit>>shift {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	return n << shift, nil
}

// bindKeep adds the options of the commands that change images.
func (a *app) bindKeep(f *pflag.FlagSet, o *portableOptions) {
	o.bindRoot(f)
	a.bindQuiet(f)
}
