package main

import (
	"bytes"
	"strings"

	"github.com/spf13/cobra"
)

// tidy gives a command and those below it the same manners.
func tidy(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	if cmd.Flags().Lookup("help") == nil {
		cmd.Flags().BoolP("help", "h", false, "show this help")
	}
	for _, sub := range cmd.Commands() {
		tidy(sub)
	}
}

// usage prints cobra's usage text in the words of the manual. It edits the text
// and not cobra's template: setting one would link the whole template engine,
// and every method that a template could call, into the program.
func usage(plain func(*cobra.Command) error) func(*cobra.Command) error {
	return func(cmd *cobra.Command) error {
		out := cmd.OutOrStderr()
		var text bytes.Buffer
		cmd.SetOut(&text)
		err := plain(cmd)
		cmd.SetOut(out)
		if err != nil {
			return err
		}
		words := []string{
			"\nFlags:\n", "\nOptions:\n", "\nGlobal Flags:\n", "\nOptions of all verbs:\n",
			"[command] --help", "COMMAND --help", "[command]", "COMMAND",
			"for more information about a command", "for more about a command",
			"--json MODE[=pretty]", "--json[=MODE]       ",
			"Additional Commands:", "More:", "Available Commands:", "Commands:",
		}
		if cmd.HasAvailableSubCommands() {
			// Without the line that calls the command alone: that only prints help.
			words = append(words, "Usage:\n  "+cmd.UseLine()+"\n", "Usage:\n")
		}
		_, err = strings.NewReplacer(words...).WriteString(out, text.String())
		return err
	}
}

// helpCommand differs from cobra's in that an unknown command is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, c := range cmd.Root().Commands() {
				if c.IsAvailableCommand() {
					names = append(names, c.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return noSuchCommand(topic, rest)
			}
			return topic.Help()
		},
	}
}
