package main

import (
	"fmt"
	"strings"
	"testing"
)

// ev is one event line: action package test, then what it printed.
func ev(action, pkg, test, output string) string {
	return fmt.Sprintf(`{"Action":%q,"Package":%q,"Test":%q,"Output":%q}`+"\n", action, pkg, test, output)
}

func TestTally(t *testing.T) {
	t.Parallel()
	passing := ev("run", "p", "A", "") + ev("output", "p", "A", "quiet\n") + ev("pass", "p", "A", "")
	tests := []struct {
		name                    string
		in                      string
		passed, failed, skipped int
		want, not               string // must and must not be printed
	}{
		{"pass", ev("start", "p", "", "") + passing + ev("pass", "p", "", ""), 1, 0, 0, "pass p: 1 tests", "quiet"},
		{"subtests count", ev("run", "p", "A", "") + ev("run", "p", "A/x", "") + ev("pass", "p", "A/x", "") +
			ev("pass", "p", "A", "") + ev("pass", "p", "", ""), 2, 0, 0, "2 passed", ""},
		{"failure shows its output", ev("run", "p", "A", "") + ev("output", "p", "A", "loud\n") + ev("fail", "p", "A", "") +
			ev("fail", "p", "", ""), 0, 1, 0, "loud\nfail p: 1 tests, 0.0 s\nfailed p A\n", ""},
		{"skip gives its reason", ev("run", "p", "A", "") + ev("output", "p", "A", "=== RUN   A\n") +
			ev("output", "p", "A", "    a_test.go:3: no peer\n") + ev("skip", "p", "A", "") + ev("pass", "p", "", ""),
			0, 0, 1, "skipped p A: a_test.go:3: no peer", "RUN"},
		{"package fails alone", ev("start", "p", "", "") + passing + ev("output", "p", "", "never wiped\n") +
			ev("fail", "p", "", ""), 1, 1, 0, "never wiped", ""},
		{"build failure", `{"Action":"build-output","ImportPath":"p","Output":"syntax error\n"}` + "\n" +
			ev("start", "p", "", "") + ev("fail", "p", "", ""), 0, 1, 0, "syntax error", ""},
		{"test cut off in a failed package", ev("run", "p", "A", "") + ev("output", "p", "A", "deadlock\n") +
			ev("fail", "p", "", ""), 0, 1, 0, "deadlock", ""},
		{"stream cut off", ev("start", "p", "", "") + passing + ev("run", "p", "B", ""), 1, 2, 0, "never ended: p B", ""},
		{"nothing", "", 0, 1, 0, "no test ran", ""},
		{"only packages without tests", ev("skip", "p", "", ""), 0, 1, 0, "no test ran", ""},
		{"other lines", "plain text\n" + passing + ev("pass", "p", "", ""), 1, 0, 0, "plain text", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			c := newTally(&out, false)
			if err := c.read(strings.NewReader(tt.in)); err != nil {
				t.Fatal(err)
			}
			c.finish()
			if c.passed != tt.passed || c.failed != tt.failed || c.skipped != tt.skipped {
				t.Errorf("counted %d passed, %d failed, %d skipped\n%s", c.passed, c.failed, c.skipped, &out)
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("did not print %q:\n%s", tt.want, &out)
			}
			if tt.not != "" && strings.Contains(out.String(), tt.not) {
				t.Errorf("printed %q:\n%s", tt.not, &out)
			}
		})
	}
}

func TestVerbosePrintsOnce(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	c := newTally(&out, true)
	in := ev("run", "p", "A", "") + ev("output", "p", "A", "loud\n") + ev("fail", "p", "A", "") + ev("fail", "p", "", "")
	if err := c.read(strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	c.finish()
	if n := strings.Count(out.String(), "loud"); n != 1 {
		t.Errorf("printed the output %d times:\n%s", n, &out)
	}
}
