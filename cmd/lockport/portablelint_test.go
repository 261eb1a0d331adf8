package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/portable"
)

// Colours are for terminals, and for severities only.
func TestPrintReportInColour(t *testing.T) {
	t.Parallel()
	r := &portable.Report{Image: "/i", Profile: "strict", Units: []string{"a.service"}, Findings: []portable.Finding{
		{Severity: portable.Note, Rule: "r", Image: "/i", Text: "text", Fix: "fix"},
		{Severity: portable.Error, Rule: "r", Image: "/x", File: "/f", Line: 3, Text: "text", Fix: "fix"},
	}}
	var b strings.Builder
	if err := printReport(&b, r, painter(true)); err != nil {
		t.Fatal(err)
	}
	const want = "/i\n  \x1b[1;36mnote\x1b[0m: text [r]\n      fix\n\n/x: /f\n  \x1b[1;31merror\x1b[0m: line 3: text [r]\n      fix\n\n" +
		"1 unit checked for the profile strict: 1 error, 0 warnings, 1 note.\n"
	if b.String() != want {
		t.Errorf("%q", b.String())
	}
}

// TestLintRulesPage keeps the list of rules what the library checks. Write it
// anew with go test ./cmd/lockport -run TestLintRulesPage -update.
func TestLintRulesPage(t *testing.T) {
	const page = "../../docs/portable-lint.md"
	var b strings.Builder
	b.WriteString(`# What lockport portable lint checks

A finding's rule stays the same from release to release, its words need not. The severity is what findings of the rule usually have: what
may fail, such as a command with "-", or what the service manager can mend by writing to the image, is a warning instead of an error.

| rule | severity | what is wrong |
|---|---|---|
`)
	for _, r := range portable.LintRules() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Name, r.Severity, r.Text)
	}
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if diff := cmp.Diff(string(have), b.String()); err != nil || diff != "" {
		t.Errorf("%s is not what is checked; run the test with -update: %v\n%s", page, err, diff)
	}
}
