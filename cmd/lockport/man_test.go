package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the manual pages")

// TestManPages keeps man/ what the commands' own help says. Write it anew with
// go test ./cmd/lockport -run TestManPages -update.
func TestManPages(t *testing.T) {
	const dir = "../../man"
	want := map[string]bool{}
	for _, cmd := range allCommands(newApp("lockport").command()) {
		name := pageName(cmd) + ".1"
		want[name] = true
		page := manPage(cmd)
		path := filepath.Join(dir, name)
		if *update {
			if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if diff := cmp.Diff(string(have), page); err != nil || diff != "" {
			t.Errorf("%s is not what the help says; run the test with -update: %v\n%s", name, err, diff)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !want[filepath.Base(f)] {
			t.Errorf("%s belongs to no command", f)
		}
	}
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is the help of a command in the language of man.
func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	section := func(title string) { fmt.Fprintf(&b, ".SH %s\n", title) }
	name := pageName(cmd)
	fmt.Fprintf(&b, ".TH %s 1 \"\" lockport \"lockport manual\"\n", strings.ToUpper(roff(name)))
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", roff(name), roff(strings.ToLower(cmd.Short[:1])+cmd.Short[1:]))
	section("SYNOPSIS")
	words := strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath())
	if cmd.HasAvailableSubCommands() {
		words = " COMMAND"
	}
	fmt.Fprintf(&b, ".B %s\n%s\n", roff(cmd.CommandPath()), roff(strings.TrimSpace(words)))
	section("DESCRIPTION")
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	b.WriteString(strings.ReplaceAll(roff(text), "\n\n", "\n.PP\n") + "\n")
	if cmd.HasAvailableSubCommands() {
		section("COMMANDS")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() && sub.Name() != "help" && sub.Name() != "completion" {
				fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s.\n", roff(pageName(sub)), roff(sub.Short))
			}
		}
	}
	section("OPTIONS")
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			b.WriteString(manOption(f))
		}
	})
	if cmd.Example != "" {
		section("EXAMPLES")
		fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roff(strings.ReplaceAll("\n"+cmd.Example, "\n  ", "\n")[1:]))
	}
	if cmd.HasParent() {
		section("SEE ALSO")
		fmt.Fprintf(&b, ".BR %s (1)\n", roff(pageName(cmd.Parent())))
	}
	return b.String()
}

func manOption(f *pflag.Flag) string {
	value, usage := pflag.UnquoteUsage(f)
	option := `\fB` + roff("--"+f.Name)
	if f.Shorthand != "" {
		option = `\fB` + roff("-"+f.Shorthand) + `\fR, ` + option
	}
	if value != "" {
		option += `=\fI` + roff(value)
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
		usage += " (default " + f.DefValue + ")"
	}
	return fmt.Sprintf(".TP\n%s\\fR\n%s\n", option, roff(usage))
}

// roff writes text so that nothing in it commands the formatter.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// allCommands returns a command and those below it that have something to say.
func allCommands(cmd *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" && sub.Name() != "help" {
			list = append(list, allCommands(sub)...)
		}
	}
	return list
}

// originalFlags lists the long options of the originals' manuals, versions 248
// to 262, that this release takes or refuses by name.
var originalFlags = map[string]string{
	"systemd-cryptenroll": `help version no-pager list-devices wipe-slot unlock-key-file unlock-fido2-device unlock-tpm2-device
		unlock-empty unlock-headless password recovery-key pkcs11-token-uri fido2-device fido2-credential-algorithm
		fido2-with-client-pin fido2-with-user-presence fido2-with-user-verification fido2-salt-file fido2-parameters-in-header
		tpm2-device tpm2-device-key tpm2-seal-key-handle tpm2-pcrs tpm2-public-key tpm2-public-key-pcrs
		tpm2-public-key-policyref tpm2-signature tpm2-pcrlock tpm2-with-pin tpm2-argon2id-memory tpm2-argon2id-iterations
		tpm2-argon2id-parallelism tpm2-argon2id-iter-time`,
	"systemd-cryptsetup": `help version`,
	"portablectl": `help version no-pager no-legend no-ask-password host machine quiet profile copy runtime no-reload cat enable
		now no-block extension force clean user system`,
}

func TestOriginalFlags(t *testing.T) {
	t.Parallel()
	for name, flags := range originalFlags {
		cmd := newApp(name).command()
		cmd.InitDefaultHelpFlag()
		cmd.InitDefaultVersionFlag()
		have := map[string]bool{}
		for f := range strings.FieldsSeq(cmd.Flags().FlagUsages()) {
			if long, ok := strings.CutPrefix(f, "--"); ok {
				have[long] = false
			}
		}
		for want := range strings.FieldsSeq(flags) {
			if cmd.Flags().Lookup(want) == nil {
				t.Errorf("%s does not know --%s", name, want)
			}
			delete(have, want)
		}
		for extra := range have {
			t.Errorf("%s offers --%s, which the original does not have", name, extra)
		}
	}
}
