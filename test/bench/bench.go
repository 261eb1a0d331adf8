// Package bench measures our programs beside the originals, in one run and in
// turns, and prints what came out as a table of ratios. Its cases stand in the
// tests with the build tag bench and in the guest tests called TestBench….
package bench

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A Row is one thing measured: durations, bytes or counts, as Unit says.
type Row struct {
	Work         string
	Unit         string  // "ms", "MB", …
	Theirs, Ours float64 // Theirs is 0 when there is nothing to compare with
	Aim          string  // what we want, as the documents say it
}

// Compare runs theirs and ours in turns, so that noise of the host meets both,
// and returns the medians in milliseconds as a row.
func Compare(work, aim string, rounds int, theirs, ours func() time.Duration) Row {
	var a, b []time.Duration
	for range rounds {
		a = append(a, theirs())
		b = append(b, ours())
	}
	return Row{Work: work, Unit: "ms", Theirs: median(a), Ours: median(b), Aim: aim}
}

// CompareSteps does the same for steps of which each prepares the next and the
// last leaves all as it was. It returns a row for each.
func CompareSteps(work []string, aim string, rounds int, theirs, ours []func() time.Duration) []Row {
	a, b := make([][]time.Duration, len(work)), make([][]time.Duration, len(work))
	for range rounds {
		for i, step := range theirs {
			a[i] = append(a[i], step())
		}
		for i, step := range ours {
			b[i] = append(b[i], step())
		}
	}
	var rows []Row
	for i, w := range work {
		rows = append(rows, Row{Work: w, Unit: "ms", Theirs: median(a[i]), Ours: median(b[i]), Aim: aim})
	}
	return rows
}

// Timed is how long f takes.
func Timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds()) / 1000
}

// Table renders rows: work, theirs, ours, ratio ours/theirs, aim.
func Table(rows []Row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "work\ttheirs\tours\tratio\taim")
	for _, r := range rows {
		theirs, ratio := "-", "-"
		if r.Theirs > 0 {
			theirs = fmt.Sprintf("%.1f %s", r.Theirs, r.Unit)
			ratio = fmt.Sprintf("%.2f", r.Ours/r.Theirs)
		}
		fmt.Fprintf(w, "%s\t%s\t%.1f %s\t%s\t%s\n", r.Work, theirs, r.Ours, r.Unit, ratio, r.Aim)
	}
	w.Flush()
	return b.String()
}
