package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64 // seconds
}

// name identifies a test, or a package when Test is empty.
type name struct{ pkg, test string }

func (n name) String() string { return strings.TrimSpace(n.pkg + " " + n.test) }

// tally is the state of one stream of events.
type tally struct {
	w                       io.Writer
	verbose                 bool
	passed, failed, skipped int

	open    map[name]string // what has begun and not ended, with what it printed
	red     map[string]bool // packages with a failed test
	tests   map[string]int  // tests per package
	skips   []string        // a line per skipped test
	fails   []string        // names of what failed
	ranAny  bool
	endedOK bool
}

func newTally(w io.Writer, verbose bool) *tally {
	return &tally{w: w, verbose: verbose, open: map[name]string{}, red: map[string]bool{}, tests: map[string]int{}}
}

// read takes events to the end of the stream. Lines that are none are printed.
func (t *tally) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			t.line(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprint(t.w, line)
		return
	}
	n := name{e.Package, e.Test}
	switch e.Action {
	case "start", "run":
		t.open[n] = ""
	case "output":
		t.output(n, e.Output)
	case "build-output":
		fmt.Fprint(t.w, e.Output)
	case "pass", "fail", "skip":
		if n.test == "" {
			t.endPackage(n, e)
		} else {
			t.endTest(n, e.Action)
		}
		delete(t.open, n)
	}
}

// output prints or keeps what a test said.
func (t *tally) output(n name, text string) {
	if t.verbose {
		fmt.Fprint(t.w, text)
	}
	t.open[n] += text
}

// endTest counts one test, and shows what it printed when it failed.
func (t *tally) endTest(n name, action string) {
	t.ranAny = true
	t.tests[n.pkg]++
	switch action {
	case "pass":
		t.passed++
	case "skip":
		t.skipped++
		t.skips = append(t.skips, fmt.Sprintf("%v: %s", n, reason(t.open[n])))
	case "fail":
		t.failed++
		t.red[n.pkg] = true
		t.fails = append(t.fails, n.String())
		if !t.verbose {
			fmt.Fprint(t.w, t.open[n])
		}
	}
}

// reason is what a skipped test said about it: its lines but those of the
// test framework.
func reason(output string) string {
	var said []string
	for _, l := range strings.Split(output, "\n") {
		l = strings.TrimSpace(l)
		if l != "" && !strings.HasPrefix(l, "=== ") && !strings.HasPrefix(l, "--- ") {
			said = append(said, l)
		}
	}
	return strings.Join(said, " ")
}

// endPackage prints one line for a package. One that fails without a failed
// test (it did not build, it exited, a secret stayed alive) counts as a failure.
func (t *tally) endPackage(n name, e event) {
	t.endedOK = true
	if e.Action == "fail" {
		for _, lost := range t.unended(n.pkg) {
			t.endTest(lost, "fail")
			delete(t.open, lost)
		}
		if !t.red[n.pkg] {
			t.failed++
			t.fails = append(t.fails, n.String())
		}
		if !t.verbose {
			fmt.Fprint(t.w, t.open[n])
		}
	}
	if e.Action != "skip" && n.pkg != "" {
		fmt.Fprintf(t.w, "%s %s: %d tests, %.1f s\n", e.Action, n.pkg, t.tests[n.pkg], e.Elapsed)
	}
}

// unended lists the tests of a package that have begun and not ended.
func (t *tally) unended(pkg string) []name {
	var names []name
	for n := range maps.Keys(t.open) {
		if n.pkg == pkg && n.test != "" {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b name) int { return strings.Compare(a.test, b.test) })
	return names
}

// finish reports what never ended, then names skips and failures and prints the sums.
func (t *tally) finish() {
	for _, n := range slices.SortedFunc(maps.Keys(t.open), func(a, b name) int {
		return strings.Compare(a.String(), b.String())
	}) {
		t.failed++
		fmt.Fprintf(t.w, "never ended: %v\n%s", n, t.open[n])
	}
	if !t.ranAny && t.failed == 0 || !t.endedOK {
		t.failed = max(t.failed, 1)
		fmt.Fprintln(t.w, "no test ran to its end")
	}
	for _, s := range t.skips {
		fmt.Fprintf(t.w, "skipped %s\n", s)
	}
	for _, f := range t.fails {
		fmt.Fprintf(t.w, "failed %s\n", f)
	}
	fmt.Fprintf(t.w, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
}
