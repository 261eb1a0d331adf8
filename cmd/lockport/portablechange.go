package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockport/lockport/portable"
)

// attachOptions are those of attach and reattach.
type portableAttachOptions struct {
	portableOptions
	profile string
	copy    string
	runtime bool
	dryRun  bool
}

func scope(runtime bool) portable.Scope {
	if runtime {
		return portable.Runtime
	}
	return portable.Persistent
}

func (a *app) bindChange(f *pflag.FlagSet, o *portableOptions, runtime, dryRun *bool) {
	o.bind(f)
	o.bindExtension(f)
	o.bindJSON(f)
	a.bindQuiet(f)
	f.BoolVar(runtime, "runtime", false, "until the next boot: in /run instead of /etc")
	f.BoolVar(&o.noReload, "no-reload", false, "accepted: there is no service manager to reload")
	f.BoolVar(dryRun, "dry-run", false, "show what would be done")
}

func (a *app) bindAttach(f *pflag.FlagSet, o *portableAttachOptions) {
	a.bindChange(f, &o.portableOptions, &o.runtime, &o.dryRun)
	f.StringVarP(&o.profile, "profile", "p", portable.DefaultProfile, "sandbox `NAME` of the services; help lists them")
	f.StringVar(&o.copy, "copy", "auto", "what is copied instead of linked, `MODE`: auto, copy or symlink; help lists them")
	f.BoolVar(&o.force, "force", false, "replace units of the same name, and take an extension of another name")
}

func (a *app) portableAttachCommand() *cobra.Command {
	o := &portableAttachOptions{}
	cmd := &cobra.Command{
		Use:   "attach [OPTIONS] IMAGE [PREFIX…]",
		Short: "Attach the services of an image",
		Long: `Copies the units of an image whose names begin with PREFIX to the tree, each with
drop-ins that let it run in the image and in the sandbox of a profile. If
anything fails, all is as it was.`,
		Example: `  lockport portable attach --root=/mnt --profile=strict web_3
  lockport portable attach --root=/mnt --dry-run --json /srv/web_3 web web-admin`,
		Args: arguments(1, 1<<16),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.portableAttach(cmd.Context(), args, o, (*portable.Host).PlanAttach)
		},
	}
	a.bindAttach(cmd.Flags(), o)
	helpValues(cmd)
	return cmd
}

func (a *app) portableReattachCommand() *cobra.Command {
	o := &portableAttachOptions{}
	cmd := &cobra.Command{
		Use:   "reattach [OPTIONS] IMAGE [PREFIX…]",
		Short: "Attach an image in place of another version of it",
		Long: `Attaches an image in place of the one of the same name, of whatever version, that
is attached. A unit that is in both is replaced in one step. If anything fails,
the old version stays attached.`,
		Args: arguments(1, 1<<16),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.portableAttach(cmd.Context(), args, o, (*portable.Host).PlanReattach)
		},
	}
	a.bindAttach(cmd.Flags(), o)
	helpValues(cmd)
	return cmd
}

// helpValues lets "help" be a value that needs no argument besides.
func helpValues(cmd *cobra.Command) {
	plain := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		for _, name := range []string{"profile", "copy"} {
			if f := cmd.Flags().Lookup(name); f != nil && f.Value.String() == "help" {
				return nil
			}
		}
		return plain(cmd, args)
	}
}

type planner func(*portable.Host, context.Context, portable.Ref, portable.AttachOptions) (*portable.Plan, error)

func (a *app) portableAttach(ctx context.Context, args []string, o *portableAttachOptions, plan planner) error {
	if o.copy == "help" {
		_, err := fmt.Fprintln(a.out, "auto\ncopy\nsymlink")
		return err
	}
	mode, err := copyMode(o.copy)
	if err != nil {
		return err
	}
	if o.profile == "help" {
		return a.printProfiles(o)
	}
	return a.change(ctx, &o.portableOptions, o.dryRun, func(h *portable.Host) (*portable.Plan, error) {
		ref, err := o.ref(args)
		if err != nil {
			return nil, err
		}
		return plan(h, ctx, ref, portable.AttachOptions{Profile: o.profile, Copy: mode, Scope: scope(o.runtime), Force: o.force})
	})
}

func copyMode(text string) (portable.CopyMode, error) {
	switch {
	case text == "auto":
		return portable.CopyAuto, nil
	case text == "mixed":
		return "", marked{fmt.Errorf("--copy=mixed is %w", errNotBuilt), errCopyMode}
	case slices.Contains([]string{"copy", "symlink"}, text):
		return portable.CopyMode(text), nil
	}
	return "", marked{fmt.Errorf("--copy=%s: no such mode", text), errCopyMode}
}

func (a *app) printProfiles(o *portableAttachOptions) error {
	h, err := o.openHost()
	if err != nil {
		return err
	}
	defer h.Close()
	names, err := h.Profiles()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, strings.Join(names, "\n"))
	return err
}

func (a *app) portableDetachCommand() *cobra.Command {
	o := &portableOptions{}
	var runtime, dryRun bool
	cmd := &cobra.Command{
		Use:   "detach [OPTIONS] IMAGE [PREFIX…]",
		Short: "Detach the services of an image",
		Long: `Removes the units that were attached from an image, with their drop-ins. All of
them go, whatever PREFIX says. What counts is the image: another version of it
stays attached. The image itself need not exist any more.`,
		Args: arguments(1, 1<<16),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), o, dryRun, func(h *portable.Host) (*portable.Plan, error) {
				ref, err := o.ref(args)
				if err != nil {
					return nil, err
				}
				return h.PlanDetach(cmd.Context(), ref, portable.DetachOptions{Scope: scope(runtime)})
			})
		},
	}
	a.bindChange(cmd.Flags(), o, &runtime, &dryRun)
	cmd.Flags().BoolVar(&o.force, "force", false, "accepted: no unit can be running")
	return cmd
}

func (a *app) portableRepairCommand() *cobra.Command {
	o := &portableOptions{}
	var force bool
	cmd := &cobra.Command{
		Use:   "repair [OPTIONS]",
		Short: "Undo a change that was interrupted",
		Long: `Undoes what an attach, detach or reattach did that was interrupted, by a crash for
example. The next change of the tree does the same by itself, unless someone has
changed one of the files since; with --force, such files stay as they are.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.portableRepair(cmd.Context(), o, force) },
	}
	o.bind(cmd.Flags())
	a.bindQuiet(cmd.Flags())
	cmd.Flags().BoolVar(&force, "force", false, "leave alone what was changed since")
	return cmd
}

func (a *app) portableRepair(ctx context.Context, o *portableOptions, force bool) error {
	h, err := o.openHost()
	if err != nil {
		return err
	}
	defer h.Close()
	undone, kept, err := h.Recover(ctx, force)
	if err != nil {
		return err
	}
	for _, p := range undone {
		a.say("Put back %s.", p)
	}
	for _, p := range kept {
		a.warn("%s stays as someone else has changed it", p)
	}
	if len(undone)+len(kept) == 0 {
		a.say("No change was interrupted.")
	}
	return nil
}
