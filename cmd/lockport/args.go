package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A misuse is a call that makes no sense; the advice is how to call the command.
type misuse struct {
	err    error
	advice string
}

func (m *misuse) Error() string { return m.err.Error() }
func (m *misuse) Unwrap() error { return m.err }

func misused(cmd *cobra.Command, format string, args ...any) error {
	return &misuse{fmt.Errorf(format, args...), "usage: " + cmd.UseLine()}
}

func misusedCommand(cmd *cobra.Command, format string, args ...any) error {
	return &misuse{fmt.Errorf(format, args...), "'" + cmd.CommandPath() + " --help' lists the commands"}
}

// arguments checks how many there are, by what the usage line calls them.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return misused(cmd, "%s is missing", required(cmd.Use)[len(args)])
		case len(args) > most:
			return misused(cmd, "unexpected argument %q", args[most])
		}
		return nil
	}
}

// required returns the arguments in a usage line that are not in brackets.
func required(use string) []string {
	words := strings.Fields(strings.ReplaceAll(use, "…", ""))[1:]
	return slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "[") })
}

// noSuchCommand is for commands that only have others below them.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text = fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return misusedCommand(cmd, "unknown command %q%s", args[0], text)
}

// flagError says in our words what is wrong with an option.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var valueless *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &invalid):
		return fmt.Errorf("--%s=%s: %w", invalid.GetFlag().Name, invalid.GetValue(), valueError(invalid.Unwrap()))
	case errors.As(err, &unknown):
		name := "--" + unknown.GetSpecifiedName()
		if short := unknown.GetSpecifiedShortnames(); short != "" {
			name = "-" + unknown.GetSpecifiedName()
		}
		return &misuse{fmt.Errorf("unknown option %s", name), "'" + cmd.CommandPath() + " --help' lists the options"}
	case errors.As(err, &valueless):
		return misused(cmd, "--%s needs a value", valueless.GetFlag().Name)
	}
	return err
}

// valueError replaces the words of the parsers.
func valueError(err error) error {
	var number *strconv.NumError
	switch {
	case !errors.As(err, &number):
		return err
	case number.Func == "ParseBool":
		return errors.New("neither yes nor no")
	case errors.Is(number.Err, strconv.ErrRange):
		return errors.New("out of range")
	}
	return errors.New("not a number")
}

// abbreviate lets long options be cut short as far as they stay unmistakable,
// which getopt_long allows and the originals therefore do.
func abbreviate(f *pflag.FlagSet) { f.SetNormalizeFunc(abbreviation(f)) }

// abbreviation completes what is unmistakable among the options that a set has now.
func abbreviation(f *pflag.FlagSet) func(*pflag.FlagSet, string) pflag.NormalizedName {
	var names []string
	f.VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	return func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		var meant []string
		for _, n := range names {
			if n == name {
				return pflag.NormalizedName(name)
			}
			if strings.HasPrefix(n, name) {
				meant = append(meant, n)
			}
		}
		if len(meant) == 1 {
			name = meant[0]
		}
		return pflag.NormalizedName(name)
	}
}
