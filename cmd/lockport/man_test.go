package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

var update = flag.Bool("update", false, "write the manual pages")

// TestManPages keeps man/ what the commands' own help says. Write it anew with
// go test ./cmd/lockport -run TestManPages -update.
func TestManPages(t *testing.T) {
	const dir = "../../man"
	want := map[string]bool{}
	for _, cmd := range allCommands(newApp("lockport").command()) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		want[name] = true
		cmd.DisableAutoGenTag = true
		var page bytes.Buffer
		// The date is that of the page's form, not of its making: the same
		// source gives the same bytes.
		date := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		header := &doc.GenManHeader{Section: "1", Source: "lockport", Manual: "lockport", Date: &date}
		if err := doc.GenMan(cmd, header, &page); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if *update {
			if err := os.WriteFile(path, page.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if diff := cmp.Diff(string(have), page.String()); err != nil || diff != "" {
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
