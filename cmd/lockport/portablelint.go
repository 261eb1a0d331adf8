package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/portable"
)

// The exit status of lint by the gravest finding. One is what errors have that
// keep it from looking.
const (
	lintWarnings exitStatus = 2
	lintErrors   exitStatus = 3
)

type lintOptions struct {
	portableOptions
	architecture string
}

func (a *app) portableLintCommand() *cobra.Command {
	o := &lintOptions{}
	cmd := &cobra.Command{
		Use:   "lint [OPTIONS] IMAGE [PREFIX…]",
		Short: "Find everything wrong with an image before it is attached",
		Long: `Looks for everything that will keep the services of an image from being attached
or from running with a profile, and says how to mend it: release files, names of
units, their settings and what they refer to, programs with their interpreters,
libraries and architecture, mount points and directories. Nothing is changed.

A finding is an error if a unit can't be attached or will not start, a warning if
something does not do what was meant, and a note if it is merely good to know.
Each names its rule in brackets. Units, users and profiles of the host count as
well, which is the tree that --root names.

The exit status is 0 if there is nothing but notes, 2 if there are warnings, 3 if
there are errors, and 1 if the image could not be looked at.`,
		Example: `  lockport portable lint ./web_3.raw
  lockport portable lint --profile=strict --json ./build/web_3 web web-admin`,
		Args: arguments(1, 1<<16),
		RunE: func(cmd *cobra.Command, args []string) error { return a.portableLint(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.root, "root", "/", "find images, profiles and units of the host in the tree in `DIR`")
	o.bindExtension(f)
	o.bindJSON(f)
	a.bindQuiet(f)
	f.StringVarP(&o.profile, "profile", "p", portable.DefaultProfile, "sandbox `NAME` of the services; help lists them")
	f.StringVar(&o.architecture, "architecture", "", "check programs for `WORD`, as in ConditionArchitecture=, instead of this machine's")
	f.BoolVar(&o.force, "force", false, "take an extension of another name than its extension-release")
	a.allowHelpValues(cmd, &o.portableOptions)
	return cmd
}

func (a *app) portableLint(ctx context.Context, args []string, o *lintOptions) error {
	h, err := a.openHost(&o.portableOptions)
	if err != nil {
		return err
	}
	defer h.Close()
	ref, err := a.rooted(&o.portableOptions).ref(args)
	if err != nil {
		return err
	}
	r, err := portable.Lint(ctx, h, ref, portable.LintOptions{Profile: o.profile, Architecture: o.architecture})
	if err != nil {
		return err
	}
	if o.json {
		err = printPretty(a.out, r)
	} else {
		if len(r.Prefixes) > 0 {
			a.say("(Matching unit files with prefix '%s'.)", strings.Join(r.Prefixes, "', '"))
		}
		err = printReport(a.out, r, a.painter(a.out))
	}
	switch {
	case err != nil:
		return err
	case r.Count(portable.Error) > 0:
		return lintErrors
	case r.Count(portable.Warning) > 0:
		return lintWarnings
	}
	return nil
}

// painter is that of a stream: colours are for persons who want them.
func (a *app) painter(w any) func(portable.Severity) string {
	return painter(isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// painter returns what colours a severity, or leaves it as it is.
func painter(colours bool) func(portable.Severity) string {
	codes := map[portable.Severity]string{portable.Error: "1;31", portable.Warning: "1;33", portable.Note: "1;36"}
	return func(s portable.Severity) string {
		if !colours {
			return string(s)
		}
		return "\x1b[" + codes[s] + "m" + string(s) + "\x1b[0m"
	}
}

// printReport prints the findings below the files that they are about, and what
// they come to.
func printReport(w io.Writer, r *portable.Report, paint func(portable.Severity) string) error {
	var b strings.Builder
	last := ""
	for _, f := range r.Findings {
		if head := findingHead(r, f); head != last {
			if last != "" {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "%s\n", head)
			last = head
		}
		line := ""
		if f.Line > 0 {
			line = fmt.Sprintf("line %d: ", f.Line)
		}
		fmt.Fprintf(&b, "  %s: %s%s [%s]\n      %s\n", paint(f.Severity), line, f.Text, f.Rule, f.Fix)
	}
	if last != "" {
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s\n", summary(r))
	_, err := io.WriteString(w, b.String())
	return err
}

// findingHead is what a finding is about. Files are those of the root image
// unless it says otherwise.
func findingHead(r *portable.Report, f portable.Finding) string {
	switch {
	case f.File == "":
		return f.Image
	case f.Image != r.Image:
		return f.Image + ": " + f.File
	}
	return f.File
}

func summary(r *portable.Report) string {
	count := func(s portable.Severity, many string) string {
		n := r.Count(s)
		return fmt.Sprintf("%d %s", n, plural(n, string(s), many))
	}
	return fmt.Sprintf("%d %s checked for the profile %s: %s, %s, %s.", len(r.Units), plural(len(r.Units), "unit", "units"), r.Profile,
		count(portable.Error, "errors"), count(portable.Warning, "warnings"), count(portable.Note, "notes"))
}
