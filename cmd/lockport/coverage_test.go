package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestScriptsCoverAll wants each command and each option in a script.
func TestScriptsCoverAll(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var scripts strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		scripts.Write(text)
	}
	for _, cmd := range allCommands(newApp("lockport").command()) {
		call := regexp.QuoteMeta(cmd.CommandPath()) + `\b`
		if !regexp.MustCompile(call).MatchString(scripts.String()) {
			t.Errorf("no script calls %s", cmd.CommandPath())
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			option := "--" + f.Name + `\b`
			if f.Shorthand != "" {
				option = "(" + option + "|-" + f.Shorthand + `\b)`
			}
			if f.Name == "help" || f.Hidden {
				return
			}
			if !regexp.MustCompile(call + ".* " + option).MatchString(scripts.String()) {
				t.Errorf("no script calls %s with --%s", cmd.CommandPath(), f.Name)
			}
		})
	}
}
