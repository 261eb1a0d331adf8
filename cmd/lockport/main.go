// Command lockport unlocks LUKS2 volumes and manages their keyslots, and attaches
// portable services. Called as systemd-cryptenroll, systemd-cryptsetup or
// portablectl it takes the options of those.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/secret"
)

// version is set when linking.
var version = "unknown"

func main() { os.Exit(run()) }

// run is main with its exit code: 0 for success, 1 for everything else, as the
// originals have it, but for commands of our own that have others.
func run() int { return newApp(filepath.Base(os.Args[0])).run(os.Args[1:]) }

func (a *app) run(args []string) int {
	if err := secret.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, "lockport: forbidding core dumps:", err)
	}
	// The first signal cancels what is under way, so that terminals are put
	// back and locks released; a second one ends the program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)

	// A reader that goes away, or a file that may not grow, is an error like
	// others: a recovery key that nobody received is withdrawn.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGXFSZ)

	cmd := a.command()
	cmd.SetArgs(args)
	cmd.SetOut(os.Stdout)
	cmd.SetErr(os.Stderr)
	if err := cmd.ExecuteContext(ctx); err != nil {
		var status exitStatus
		if errors.As(err, &status) {
			return int(status)
		}
		// A reader that has had enough, such as head, need not be told so.
		if !errors.Is(err, syscall.EPIPE) || errors.Is(err, errKeyLost) {
			a.fail(err)
		}
		return 1
	}
	return 0
}

// command returns the command that the program was called as.
func (a *app) command() *cobra.Command {
	var cmd *cobra.Command
	switch a.name {
	case "systemd-cryptenroll":
		a.original = true
		cmd = a.enrollCommand()
		cmd.Use = a.name + " [OPTIONS] [DEVICE]"
		cmd.Example = `  systemd-cryptenroll --recovery-key /dev/sda2
  systemd-cryptenroll --password --wipe-slot=empty /dev/sda2`
	case "systemd-cryptsetup":
		a.original = true
		cmd = a.cryptsetupCommand()
	case "portablectl":
		a.original = true
		cmd = a.portablectlCommand()
	default:
		cmd = a.rootCommand()
	}
	cmd.Version = version
	if a.original {
		cmd.Version += " (lockport)"
	}
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	// Without the short form that cobra would give it: -v is not the originals'.
	cmd.Flags().Bool("version", false, "print the version and exit")
	cmd.SetFlagErrorFunc(flagError)
	cmd.SetUsageFunc(usage(cmd.UsageFunc()))
	cmd.SetHelpCommand(helpCommand())
	tidy(cmd)
	if a.original && cmd.GlobalNormalizationFunc() == nil {
		abbreviate(cmd.Flags())
	}
	return cmd
}

func (a *app) rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lockport",
		Short: "Unlock LUKS2 volumes and manage their keyslots",
		Long: `lockport unlocks LUKS2 volumes and manages their keyslots, compatible with
cryptsetup and with systemd-cryptenroll and systemd-cryptsetup in both
directions. It also attaches portable services, compatible with portablectl.
Called under one of those last three names it takes exactly their options.

Data goes to standard output, everything else to standard error. The exit status
is 0 on success and 1 otherwise, unless the help of a command says more.`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddGroup(&cobra.Group{ID: "open", Title: "Open a volume:"},
		&cobra.Group{ID: "slots", Title: "Keyslots:"},
		&cobra.Group{ID: "tpm2", Title: "TPM2:"},
		&cobra.Group{ID: "volume", Title: "The volume itself:"},
		&cobra.Group{ID: "portable", Title: "Portable services:"})
	cmd.AddCommand(
		inGroup("open", a.attachCommand()), inGroup("open", a.detachCommand()), inGroup("open", a.exportCommand()),
		inGroup("slots", a.slotsCommand()), inGroup("slots", a.enrollCommand()), inGroup("slots", a.testCommand()),
		inGroup("slots", a.nameCommand()), inGroup("slots", a.wipeCommand()),
		inGroup("tpm2", a.explainCommand()), inGroup("tpm2", a.refreshCommand()), inGroup("tpm2", a.doctorCommand()), inGroup("tpm2", a.pcrCommand()),
		inGroup("volume", a.formatCommand()), inGroup("volume", a.headerCommand()),
		inGroup("portable", a.portableCommand()),
	)
	return cmd
}

// cryptsetupCommand is systemd-cryptsetup.
func (a *app) cryptsetupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "systemd-cryptsetup",
		Short: "Attach or detach an encrypted block device",
		Args:  noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return misusedCommand(cmd, "a verb is missing: attach or detach")
		},
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.AddCommand(a.attachCommand(), a.detachCommand())
	for _, sub := range cmd.Commands() {
		sub.Example = strings.ReplaceAll(sub.Example, "lockport ", cmd.Use+" ")
	}
	return cmd
}

func inGroup(id string, cmd *cobra.Command) *cobra.Command {
	cmd.GroupID = id
	return cmd
}
