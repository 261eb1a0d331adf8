package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockport/lockport/image"
	"github.com/lockport/lockport/portable"
)

// portableOptions are what several of the commands take.
type portableOptions struct {
	root       string
	extensions []string
	force      bool
	noReload   bool
	json       bool
	later      []*managerFlag
}

func (a *app) portableCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "portable",
		Short: "Attach services from OS images to a system",
		Long: `Attaches services from OS images to a system, compatible with portablectl and
systemd-portabled in both directions: either can list and detach what the other
attached. Options that this release does not know are those that need a running
service manager: it works on a tree of files, such as a system that is being
built or is mounted, which --root names.

IMAGE is the name of an image in /etc/portables, /run/portables,
/var/lib/portables, /usr/local/lib/portables or /usr/lib/portables, or a path. An
absolute path begins at --root, any other in the current directory, and has to
be beneath --root.

PREFIX is what the names of units begin with; without, it is the name of the
image up to the first underscore. A change is complete or undone, and leaves a
journal while it is under way, by which the next one undoes it after a crash.`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.portableListCommand(), a.portableInspectCommand(), a.portableAttachCommand(), a.portableDetachCommand(),
		a.portableReattachCommand(), a.isAttachedCommand(), a.portableVerifyCommand(), a.portableRepairCommand())
	return cmd
}

// bind adds the options that all of the commands have.
func (o *portableOptions) bind(f *pflag.FlagSet) {
	f.StringVar(&o.root, "root", "", "work on the tree in `DIR`; needed in this release")
	o.later = bindManagerFlags(f)
}

func (o *portableOptions) bindExtension(f *pflag.FlagSet) {
	f.StringArrayVar(&o.extensions, "extension", nil, "`IMAGE` on top of the other, the lowest first; may be given again")
}

func (o *portableOptions) bindJSON(f *pflag.FlagSet) {
	f.BoolVar(&o.json, "json", false, "print JSON")
}

func (a *app) bindQuiet(f *pflag.FlagSet) {
	f.BoolVarP(&a.quiet, "quiet", "q", false, "say nothing but errors")
}

// managerFlags are options of the original that ask a service manager for
// something. With text, they take a value.
var managerFlags = []struct{ name, short, value string }{
	{"now", "", ""}, {"enable", "", ""}, {"no-block", "", ""}, {"clean", "", ""}, {"user", "", ""},
	{"host", "H", "HOST"}, {"machine", "M", "NAME"},
}

type managerFlag struct {
	name, value string
	given       bool
}

func (f *managerFlag) Set(string) error { f.given = true; return nil }
func (f *managerFlag) Type() string     { return f.value }
func (f *managerFlag) String() string   { return "" }

func bindManagerFlags(f *pflag.FlagSet) []*managerFlag {
	var list []*managerFlag
	for _, m := range managerFlags {
		flag := &managerFlag{name: m.name, value: m.value}
		list = append(list, flag)
		v := f.VarPF(flag, m.name, m.short, "not part of this release")
		v.Hidden = true
		if m.value == "" {
			v.NoOptDefVal = "true"
		}
	}
	// What a terminal or a person would be asked for; here nothing is.
	for _, name := range []string{"no-pager", "no-ask-password"} {
		f.VarPF(&managerFlag{}, name, "", "accepted").Hidden = true
		f.Lookup(name).NoOptDefVal = "true"
	}
	return list
}

// openHost opens the tree that the command is for. The caller closes it.
func (o *portableOptions) openHost() (*portable.Host, error) {
	for _, f := range o.later {
		if f.given {
			return nil, marked{fmt.Errorf("--%s is %w", f.name, errNotBuilt), errNeedsManager}
		}
	}
	if o.root == "" {
		return nil, marked{fmt.Errorf("portable services of the running system: %w", errNotBuilt), errNoRoot}
	}
	h, err := portable.OpenHost(o.root)
	if err != nil {
		return nil, fmt.Errorf("opening the tree: %w", err)
	}
	return h, nil
}

// ref turns arguments into what the library takes.
func (o *portableOptions) ref(args []string) (portable.Ref, error) {
	r := portable.Ref{Prefixes: args[1:], Relaxed: o.force}
	var err error
	if r.Image, err = o.imagePath(args[0]); err != nil {
		return r, err
	}
	for _, e := range o.extensions {
		p, err := o.imagePath(e)
		if err != nil {
			return r, err
		}
		r.Extensions = append(r.Extensions, p)
	}
	return r, nil
}

// imagePath leaves names and absolute paths alone, and makes others begin at the
// root.
func (o *portableOptions) imagePath(arg string) (string, error) {
	if image.ValidName(arg) || filepath.IsAbs(arg) {
		return arg, nil
	}
	root, err := resolved(o.root)
	if err != nil {
		return "", err
	}
	p, err := resolved(arg)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(root, p)
	if err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", marked{fmt.Errorf("%s is not beneath %s", arg, o.root), errOutside}
	}
	return "/" + rel, nil
}

// resolved is a path without links, as far as it exists.
func resolved(p string) (string, error) {
	p, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(p); err == nil {
		return real, nil
	} else if !errors.Is(err, os.ErrNotExist) || p == "/" {
		return "", err
	}
	dir, err := resolved(filepath.Dir(p))
	return filepath.Join(dir, filepath.Base(p)), err
}

// printChanges tells what was done in the words of the original.
func (a *app) printChanges(changes []portable.Change) {
	for _, c := range changes {
		switch {
		case c.Type == portable.Symlink:
			a.say("Created symlink %s → %s.", c.Path, c.Source)
		case c.Type == portable.Copy && c.Source != "":
			a.say("Copied %s → %s.", c.Source, c.Path)
		case c.Type == portable.Copy:
			a.say("Copied %s.", c.Path)
		case c.Type == portable.Unlink:
			a.say("Removed %s.", c.Path)
		case c.Type == portable.Write:
			a.say("Written %s.", c.Path)
		case c.Type == portable.Mkdir:
			a.say("Created directory %s.", c.Path)
		}
	}
}

// change plans, and unless that is all, applies and prints.
func (a *app) change(ctx context.Context, o *portableOptions, dryRun bool, plan func(*portable.Host) (*portable.Plan, error)) error {
	h, err := o.openHost()
	if err != nil {
		return err
	}
	defer h.Close()
	if dryRun {
		err = h.Settled(ctx)
	} else {
		err = a.recover(ctx, h)
	}
	if err != nil {
		return err
	}
	p, err := plan(h)
	if err != nil {
		return err
	}
	if len(p.Prefixes) > 0 {
		a.say("(Matching unit files with prefix '%s'.)", strings.Join(p.Prefixes, "', '"))
	}
	if dryRun {
		a.say("Nothing is changed; without --dry-run, this would be done:")
	} else if err := h.Apply(ctx, p); err != nil {
		return err
	}
	for _, dir := range p.Kept {
		a.warn("%s stays: it holds files that were not attached", dir)
	}
	if o.json {
		return printPretty(a.out, p.Changes)
	}
	a.printChanges(p.Changes)
	return nil
}

// recover undoes what an interrupted command left.
func (a *app) recover(ctx context.Context, h *portable.Host) error {
	undone, _, err := h.Recover(ctx, false)
	if len(undone) > 0 {
		a.warn("an interrupted change was undone: %s", strings.Join(undone, ", "))
	}
	return err
}

func printPretty(w interface{ Write([]byte) (int, error) }, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}
