package main

import (
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

// portableOptions are what the commands take, each some of them.
type portableOptions struct {
	root         string
	extensions   []string
	policy       string
	certificates []string
	also         []string
	profile      string
	copy         string
	runtime      bool
	force        bool
	noReload     bool
	enable       bool
	now          bool
	noBlock      bool
	clean        bool
	cat          bool
	noLegend     bool
	dryRun       bool
	json         bool
	elsewhere    []*elsewhereFlag
}

func (a *app) portableCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "portable",
		Short: "Attach services from OS images to a system",
		Long: `Attaches services from OS images to a system, compatible with portablectl and
systemd-portabled in both directions: either can list and detach what the other
attached. Called as portablectl, it takes exactly that one's options. The work is
done by this process, without systemd-portabled.

With --root, it works on a tree of files instead, such as a system that is being
built or is mounted, and asks no service manager for anything.

IMAGE is the name of an image in /etc/portables, /run/portables,
/var/lib/portables, /usr/local/lib/portables or /usr/lib/portables, or a path. An
absolute path begins at --root, any other in the current directory, and has to
be beneath --root.

PREFIX is what the names of units begin with; without, it is the name of the
image up to the first underscore. A change is complete or undone, and leaves a
journal while it is under way, by which the next one undoes it after a crash.

Without a command, it lists the images.`,
		Args: noSuchCommand,
	}
	o := &portableOptions{}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.portableList(cmd.Context(), o) }
	a.bindList(cmd.Flags(), o)
	cmd.AddCommand(a.portableVerbs(func() *portableOptions { return &portableOptions{} }, true)...)
	cmd.AddCommand(a.portableBuildCommand(), a.portableNewCommand(), a.portableLintCommand(), a.portableVerifyCommand(), a.portableRepairCommand())
	return cmd
}

// portablectlCommand is portablectl: it takes each option with each verb, before
// it or behind.
func (a *app) portablectlCommand() *cobra.Command {
	o := &portableOptions{}
	cmd := &cobra.Command{
		Use:   a.name + " [OPTIONS] [VERB]",
		Short: "Attach services from OS images to the system",
		Long:  "Attaches services from OS images to the system, lists and detaches them. Without\na verb, it lists the images.",
		Args:  noSuchCommand,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withHelpValues(cmd.Context(), o, func() error { return a.portableList(cmd.Context(), o) })
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	a.bindOriginal(cmd.PersistentFlags(), o)
	cmd.AddCommand(a.portableVerbs(func() *portableOptions { return o }, false)...)
	cmd.SetGlobalNormalizationFunc(abbreviation(cmd.PersistentFlags()))
	return cmd
}

// portableVerbs are the verbs of the original. Bound, each has its options itself.
func (a *app) portableVerbs(options func() *portableOptions, bound bool) []*cobra.Command {
	var list []*cobra.Command
	for _, v := range []struct {
		command func(*portableOptions) *cobra.Command
		bind    func(*pflag.FlagSet, *portableOptions)
	}{
		{a.portableListCommand, a.bindList}, {a.portableInspectCommand, a.bindInspect},
		{a.portableAttachCommand, a.bindAttach}, {a.portableDetachCommand, a.bindDetach},
		{a.portableReattachCommand, a.bindAttach}, {a.isAttachedCommand, a.bindIsAttached},
		{a.portableReadOnlyCommand, a.bindKeep}, {a.portableRemoveCommand, a.bindKeep}, {a.portableSetLimitCommand, a.bindKeep},
	} {
		o := options()
		cmd := v.command(o)
		if bound {
			v.bind(cmd.Flags(), o)
		} else {
			cmd.Example = ""
		}
		a.allowHelpValues(cmd, o)
		list = append(list, cmd)
	}
	return list
}

// running tells whether the commands are for the running system.
func (a *app) running(o *portableOptions) bool { return o.root == "" || filepath.Clean(o.root) == "/" }

// service is what carries the commands out.
func (a *app) service(o *portableOptions) (portable.Service, error) {
	for _, f := range o.elsewhere {
		if f.given {
			return nil, marked{fmt.Errorf("--%s is %w", f.name, errNotBuilt), errElsewhere}
		}
	}
	images, err := a.imageOptions(o)
	if err != nil {
		return nil, err
	}
	if !a.running(o) {
		if o.now || o.enable || o.clean {
			return nil, marked{errors.New("nothing runs in a tree of files that could be enabled, started or cleaned up"), errNeedsManager}
		}
		return &portable.Local{Root: o.root, Images: images}, nil
	}
	return &portable.Local{Root: a.host.root(), Images: images, Manager: a.host.serviceManager(), Record: a.host.recordEvent()}, nil
}

// imageOptions are those with which images are opened.
func (a *app) imageOptions(o *portableOptions) ([]image.Option, error) {
	list := []image.Option{image.WithMounter(a.mounter()), image.WithTrust(a.rooted(o).root, o.certificates...)}
	p, err := o.imagePolicy()
	if p != nil {
		list = append(list, image.WithPolicy(p))
	}
	return list, err
}

// imagePolicy is nil where none was given.
func (o *portableOptions) imagePolicy() (*image.Policy, error) {
	if o.policy == "" {
		return nil, nil
	}
	p, err := image.ParsePolicy(o.policy)
	if err != nil {
		return nil, fmt.Errorf("--image-policy: %w", err)
	}
	return p, nil
}

// rooted are the options with the root that they mean.
func (a *app) rooted(o *portableOptions) *portableOptions {
	with := *o
	if a.running(o) {
		with.root = a.host.root()
	}
	return &with
}

// openHost opens the tree that a command is for that needs no service. The caller
// closes it.
func (a *app) openHost(o *portableOptions) (*portable.Host, error) {
	o = a.rooted(o)
	images, err := a.imageOptions(o)
	if err != nil {
		return nil, err
	}
	h, err := portable.OpenHost(o.root, images...)
	if err != nil {
		return nil, fmt.Errorf("opening the tree: %w", err)
	}
	return h, nil
}

// refs turns arguments into what the library takes: the image with its extensions
// and prefixes, then those that come along.
func (a *app) refs(o *portableOptions, args []string) ([]portable.Ref, error) {
	with := a.rooted(o)
	first, err := with.ref(args)
	if err != nil {
		return nil, err
	}
	list := []portable.Ref{first}
	for _, other := range o.also {
		r, err := (&portableOptions{root: with.root, force: o.force}).ref([]string{other})
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	for _, arg := range append([]string{args[0]}, append(o.extensions, o.also...)...) {
		a.noteAmbiguous(arg)
	}
	return list, nil
}

// noteAmbiguous tells that a name is not the file of that name.
func (a *app) noteAmbiguous(arg string) {
	if _, err := os.Lstat(arg); err == nil && image.ValidName(arg) {
		a.say("(%s is taken for the name of an image; the file in this directory is ./%s.)", arg, arg)
	}
}

// ref is an image with its extensions and prefixes.
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

func printPretty(w interface{ Write([]byte) (int, error) }, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}
