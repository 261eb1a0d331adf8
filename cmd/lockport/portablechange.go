package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/portable"
)

func scope(runtime bool) portable.Scope {
	if runtime {
		return portable.Runtime
	}
	return portable.Persistent
}

func (a *app) portableAttachCommand(o *portableOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "attach [OPTIONS] IMAGE [PREFIX…]",
		Short: "Attach the services of an image",
		Long: `Copies the units of an image whose names begin with PREFIX to the system, each
with drop-ins that let it run in the image and in the sandbox of a profile. If
anything fails, all is as it was; that enabling or starting fails is said, but
leaves the units attached and the exit status 0. Templates are not started: name
an instance with systemctl.

--copy says what is copied: auto copies units and links profiles, copy copies
both, symlink links both if the image is a directory. An image that is not found
by name is linked to from where it is; mixed copies it there, and runs it from
the copy, which detach removes.`,
		Example: `  lockport portable attach --enable --now web_3
  lockport portable attach --also=db_7 web_3
  lockport portable attach --root=/mnt --profile=strict web_3
  lockport portable attach --dry-run --json /srv/web_3 web web-admin`,
		Args: arguments(1, 1<<16),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.portableAttach(cmd.Context(), args, o, portable.Service.Attach, portable.Start)
		},
	}
}

func (a *app) portableReattachCommand(o *portableOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "reattach [OPTIONS] IMAGE [PREFIX…]",
		Short: "Attach an image in place of another version of it",
		Long: `Attaches an image in place of the one of the same name, of whatever version, that
is attached. A unit that is in both is replaced in one step. If anything fails,
the old version stays attached. With --now, units that the new version has are
restarted, and those that it has not are stopped.`,
		Args: arguments(1, 1<<16),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.portableAttach(cmd.Context(), args, o, portable.Service.Reattach, portable.Restart)
		},
	}
}

type attaching func(portable.Service, context.Context, []portable.Ref, portable.AttachOptions) (*portable.Outcome, error)

func (a *app) portableAttach(ctx context.Context, args []string, o *portableOptions, attach attaching, then portable.Action) error {
	mode, err := copyMode(o.copy)
	if err != nil {
		return err
	}
	s, err := a.service(o)
	if err != nil {
		return err
	}
	refs, err := a.refs(o, args)
	if err != nil {
		return err
	}
	policy, err := o.imagePolicy()
	if err != nil {
		return err
	}
	if policy != nil && len(o.certificates) > 0 {
		a.warn("services only start if the service manager has the certificate as well: see that it is in /etc/verity.d")
	}
	r, err := attach(s, ctx, refs, portable.AttachOptions{
		Profile: o.profile, Copy: mode, Scope: scope(o.runtime), Force: o.force, DryRun: o.dryRun, Policy: policy,
	})
	if err := a.report(ctx, o, r, err); err != nil || o.dryRun {
		return err
	}
	return a.activate(ctx, o, r, then)
}

const copyModes = "auto, copy, symlink or mixed"

func copyModeNames() []string { return []string{"auto", "copy", "symlink", "mixed"} }

func copyMode(text string) (portable.CopyMode, error) {
	switch {
	case text == "auto":
		return portable.CopyAuto, nil
	case slices.Contains(copyModeNames(), text):
		return portable.CopyMode(text), nil
	}
	return "", marked{fmt.Errorf("--copy=%s: no such mode", text), errCopyMode}
}

// report says what a change did, after the service manager has been told that
// there is something to read.
func (a *app) report(ctx context.Context, o *portableOptions, r *portable.Outcome, err error) error {
	if r != nil && len(r.Undone) > 0 {
		a.warn("an interrupted change was undone: %s", strings.Join(r.Undone, ", "))
	}
	undone := r != nil && len(r.Undone) > 0
	if m := a.manager(o); m != nil && !o.dryRun && !o.noReload && (err == nil || undone) {
		a.complain(m.Reload(ctx))
	}
	if err != nil {
		return err
	}
	a.sayPrefixes(r.Prefixes)
	if o.dryRun {
		a.say("Nothing is changed; without --dry-run, this would be done:")
	}
	for _, dir := range r.Kept {
		a.warn("%s stays: it holds files that were not attached", dir)
	}
	if o.json {
		err = printPretty(a.out, r.Changes)
	} else {
		a.printChanges(r.Changes)
	}
	for _, link := range r.Links {
		a.warn("%s still enables a unit that is gone: remove it; detach --enable does so before", link)
	}
	return err
}

// manager is that of the running system, nil for a tree.
func (a *app) manager(o *portableOptions) portable.Manager {
	if !a.running(o) {
		return nil
	}
	return a.host.serviceManager()
}

// activate enables and starts what was attached, as far as it is asked for. What
// fails is said, but what is attached stays so, and the command succeeds: that is
// the original's contract with scripts.
func (a *app) activate(ctx context.Context, o *portableOptions, r *portable.Outcome, then portable.Action) error {
	m := a.manager(o)
	files := portable.UnitFiles(r.Changes, portable.Copy, portable.Symlink)
	if m == nil || len(files) == 0 {
		return nil
	}
	if o.now && len(r.Removed) > 0 {
		a.stop(ctx, m, names(portable.UnitFiles(r.Removed, portable.Unlink)))
	}
	if o.enable {
		changes, err := m.Enable(ctx, files, true, scope(o.runtime))
		a.printChanges(changes)
		a.complain(err)
	}
	if o.now {
		units, err := toRun(ctx, m, names(files), then)
		a.complain(errors.Join(err, m.Run(ctx, then, units, !o.noBlock)))
	}
	return ctx.Err()
}

// toRun are the units to start or restart. Of a template, it is the instances that
// run already.
func toRun(ctx context.Context, m portable.Manager, units []string, then portable.Action) ([]string, error) {
	list := portable.Startable(units)
	if then == portable.Start || len(list) == len(units) {
		return list, nil
	}
	templates := slices.DeleteFunc(slices.Clone(units), func(u string) bool { return slices.Contains(list, u) })
	instances, err := portable.Active(ctx, m, templates)
	return append(list, instances...), err
}

// stop stops what runs of the units, and waits for it.
func (a *app) stop(ctx context.Context, m portable.Manager, units []string) {
	active, err := portable.Active(ctx, m, units)
	if err == nil {
		err = m.Run(ctx, portable.Stop, active, true)
	}
	a.complain(err)
}

// names are those of units at paths.
func names(files []string) []string {
	var list []string
	for _, f := range files {
		list = append(list, f[strings.LastIndexByte(f, '/')+1:])
	}
	return list
}

// complain says what failed without making the command fail.
func (a *app) complain(err error) {
	if err == nil {
		return
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(err.Error(), "\n") {
		for _, one := range several.Unwrap() {
			a.complain(one)
		}
		return
	}
	a.warn("%s", message(err))
	if h := hint(err, a.now()); h != "" {
		fmt.Fprintf(a.err, "hint: %s\n", h)
	}
}

func (a *app) portableDetachCommand(o *portableOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "detach [OPTIONS] IMAGE [PREFIX…]",
		Short: "Detach the services of an image",
		Long: `Removes the units that were attached from an image, with their drop-ins. All of
them go; PREFIX limits what is stopped, disabled and cleaned up before. What
counts is the image: another version of it stays attached. The image itself need
not exist any more. That stopping or disabling fails is said, but does not keep
units from being detached unless they are still running.`,
		Args: arguments(1, 1<<16),
		RunE: func(cmd *cobra.Command, args []string) error { return a.portableDetach(cmd.Context(), args, o) },
	}
}

func (a *app) portableDetach(ctx context.Context, args []string, o *portableOptions) error {
	s, err := a.service(o)
	if err != nil {
		return err
	}
	refs, err := a.refs(o, args)
	if err != nil {
		return err
	}
	options := portable.DetachOptions{Scope: scope(o.runtime), Force: o.force || o.dryRun && o.now, DryRun: o.dryRun}
	if !o.dryRun && (o.now || o.enable || o.clean) {
		if err := a.deactivate(ctx, s, refs, o, options); err != nil {
			return err
		}
	}
	r, err := s.Detach(ctx, refs, options)
	return a.report(ctx, o, r, err)
}

// deactivate stops, disables and cleans up what is about to be detached. Errors
// are said, as it is detached all the same.
func (a *app) deactivate(ctx context.Context, s portable.Service, refs []portable.Ref, o *portableOptions, d portable.DetachOptions) error {
	d.Force, d.DryRun = true, true
	var units []string
	for _, ref := range refs {
		r, err := s.Detach(ctx, []portable.Ref{ref}, d)
		if err != nil {
			return err
		}
		units = append(units, portable.Matching(r.Units, ref.Prefixes)...)
	}
	m := a.manager(o)
	if o.now {
		a.stop(ctx, m, units)
	}
	if o.enable {
		changes, err := m.Enable(ctx, units, false, d.Scope)
		a.printChanges(changes)
		a.complain(err)
	}
	if o.clean {
		a.complain(m.Run(ctx, portable.Clean, portable.Startable(units), true))
	}
	return ctx.Err()
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
	o.bindRoot(cmd.Flags())
	a.bindQuiet(cmd.Flags())
	cmd.Flags().BoolVar(&force, "force", false, "leave alone what was changed since")
	return cmd
}

func (a *app) portableRepair(ctx context.Context, o *portableOptions, force bool) error {
	if _, err := a.service(o); err != nil {
		return err
	}
	h, err := a.openHost(o)
	if err != nil {
		return err
	}
	defer h.Close()
	undone, kept, err := h.Recover(ctx, force)
	if err != nil {
		return err
	}
	if m := a.manager(o); m != nil && len(undone) > 0 {
		a.complain(m.Reload(ctx))
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
