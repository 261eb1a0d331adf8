package main

import (
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

// usageTemplate is cobra's in the words of the manual.
func usageTemplate(cmd *cobra.Command) string {
	return strings.NewReplacer(
		"\nFlags:\n", "\nOptions:\n",
		"[command] --help", "COMMAND --help", "[command]", "COMMAND",
		"for more information about a command", "for more about a command",
		"Additional Commands:", "More:", "Available Commands:", "Commands:",
		// Without the line that calls the command alone: that only prints help.
		"Usage:{{if .Runnable}}", "Usage:{{if and .Runnable (not .HasAvailableSubCommands)}}",
	).Replace(cmd.UsageTemplate())
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
