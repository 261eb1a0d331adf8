package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockport/lockport/portable"
)

// bindRoot adds what all of the commands have.
func (o *portableOptions) bindRoot(f *pflag.FlagSet) {
	f.StringVar(&o.root, "root", "", "work on the tree in `DIR` instead of the running system")
	o.bindUnseen(f)
}

// elsewhereFlag is an option that asks for another system than this one.
type elsewhereFlag struct {
	name, value string
	given       bool
}

func (f *elsewhereFlag) Set(string) error { f.given = true; return nil }
func (f *elsewhereFlag) Type() string     { return f.value }
func (f *elsewhereFlag) String() string   { return "" }

// bindUnseen adds options of the original that are refused, and those that change
// nothing here.
func (o *portableOptions) bindUnseen(f *pflag.FlagSet) {
	for _, e := range []struct{ name, short, value string }{{"host", "H", "HOST"}, {"machine", "M", "NAME"}, {"user", "", ""}} {
		flag := &elsewhereFlag{name: e.name, value: e.value}
		o.elsewhere = append(o.elsewhere, flag)
		v := f.VarPF(flag, e.name, e.short, "not part of this release")
		v.Hidden = true
		if e.value == "" {
			v.NoOptDefVal = "true"
		}
	}
	// What a terminal or a person would be asked for; here nothing is.
	for _, name := range []string{"no-pager", "no-ask-password", "system"} {
		f.VarPF(&elsewhereFlag{}, name, "", "accepted").Hidden = true
		f.Lookup(name).NoOptDefVal = "true"
	}
}

func (o *portableOptions) bindExtension(f *pflag.FlagSet) {
	f.StringArrayVar(&o.extensions, "extension", nil, "`IMAGE` on top of the other, the lowest first; may be given again")
}

// bindPolicy adds what decides which image files are taken.
func (o *portableOptions) bindPolicy(f *pflag.FlagSet) {
	f.StringVar(&o.policy, "image-policy", "", "refuse an image file that `POLICY` does not allow; see systemd.image-policy(7)."+
		"\nOne that is attached has to meet it again whenever a service of it starts\n(with systemd from 254 on)")
	f.StringArrayVar(&o.certificates, "certificate", nil, "take signatures of the certificate in `FILE`, too; may be given again")
}

func (o *portableOptions) bindJSON(f *pflag.FlagSet) {
	f.BoolVar(&o.json, "json", false, "print JSON")
}

func (o *portableOptions) bindNoLegend(f *pflag.FlagSet) {
	f.BoolVar(&o.noLegend, "no-legend", false, "print neither head nor sum")
}

func (a *app) bindQuiet(f *pflag.FlagSet) {
	f.BoolVarP(&a.quiet, "quiet", "q", false, "say nothing but errors")
}

func (a *app) bindList(f *pflag.FlagSet, o *portableOptions) {
	o.bindRoot(f)
	o.bindJSON(f)
	o.bindNoLegend(f)
}

func (a *app) bindInspect(f *pflag.FlagSet, o *portableOptions) {
	o.bindRoot(f)
	o.bindExtension(f)
	o.bindJSON(f)
	a.bindQuiet(f)
	o.bindPolicy(f)
	f.BoolVar(&o.cat, "cat", false, "print the files themselves")
	f.BoolVar(&o.force, "force", false, "take an extension of another name than its extension-release")
}

func (a *app) bindIsAttached(f *pflag.FlagSet, o *portableOptions) {
	o.bindRoot(f)
	o.bindExtension(f)
	a.bindQuiet(f)
}

// bindChange adds what attach, reattach and detach have in common.
func (a *app) bindChange(f *pflag.FlagSet, o *portableOptions) {
	o.bindRoot(f)
	o.bindExtension(f)
	o.bindJSON(f)
	a.bindQuiet(f)
	o.bindRuntime(f)
	f.StringArrayVar(&o.also, "also", nil, "another `IMAGE` in the same change, with units of its own name; may be given again")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done")
}

func (o *portableOptions) bindRuntime(f *pflag.FlagSet) {
	f.BoolVar(&o.runtime, "runtime", false, "until the next boot: in /run instead of /etc")
	f.BoolVar(&o.noReload, "no-reload", false, "leave it to others to reload the service manager")
}

func (o *portableOptions) bindKind(f *pflag.FlagSet) {
	f.StringVarP(&o.profile, "profile", "p", portable.DefaultProfile, "sandbox `NAME` of the services; help lists them")
	f.StringVar(&o.copy, "copy", "auto", "what is copied instead of linked, `MODE`: "+copyModes+"; help lists them")
}

func (a *app) bindAttach(f *pflag.FlagSet, o *portableOptions) {
	a.bindChange(f, o)
	o.bindKind(f)
	o.bindPolicy(f)
	f.BoolVar(&o.force, "force", false, "replace units of the same name, running or not, and take an extension of another name")
	f.BoolVar(&o.enable, "enable", false, "have the units started at boot, as they ask for it")
	f.BoolVar(&o.now, "now", false, "start the units, or restart them")
	f.BoolVar(&o.noBlock, "no-block", false, "do not wait until units are started")
}

func (a *app) bindDetach(f *pflag.FlagSet, o *portableOptions) {
	a.bindChange(f, o)
	f.BoolVar(&o.force, "force", false, "also if units are running")
	f.BoolVar(&o.enable, "enable", false, "remove the links that start the units at boot")
	f.BoolVar(&o.now, "now", false, "stop the units first")
	f.BoolVar(&o.clean, "clean", false, "remove the state, caches and logs of the units")
}

// bindOriginal adds the options of portablectl, all of them.
func (a *app) bindOriginal(f *pflag.FlagSet, o *portableOptions) {
	o.bindUnseen(f)
	o.bindExtension(f)
	o.bindRuntime(f)
	o.bindKind(f)
	o.bindNoLegend(f)
	a.bindQuiet(f)
	f.BoolVar(&o.cat, "cat", false, "with inspect, print the files themselves")
	f.BoolVar(&o.force, "force", false, "go on although units exist or run, or an extension has another name")
	f.BoolVar(&o.enable, "enable", false, "enable after attaching, disable before detaching")
	f.BoolVar(&o.now, "now", false, "start after attaching, stop before detaching")
	f.BoolVar(&o.noBlock, "no-block", false, "do not wait until units are started")
	f.BoolVar(&o.clean, "clean", false, "with detach, remove the state, caches and logs of the units")
}

// wantsHelp tells whether a value only asks which values there are.
func (o *portableOptions) wantsHelp() bool { return o.profile == "help" || o.copy == "help" }

// allowHelpValues lets such a value need no argument besides, and answers it.
func (a *app) allowHelpValues(cmd *cobra.Command, o *portableOptions) {
	plain, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if o.wantsHelp() {
			return nil
		}
		return plain(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withHelpValues(cmd.Context(), o, func() error { return run(cmd, args) })
	}
}

func (a *app) withHelpValues(ctx context.Context, o *portableOptions, run func() error) error {
	switch {
	case o.copy == "help":
		_, err := fmt.Fprintln(a.out, strings.Join(copyModeNames(), "\n"))
		return err
	case o.profile == "help":
		return a.printProfiles(ctx, o)
	}
	return run()
}

func (a *app) printProfiles(ctx context.Context, o *portableOptions) error {
	s, err := a.service(o)
	if err != nil {
		return err
	}
	names, err := s.Profiles(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, strings.Join(names, "\n"))
	return err
}
