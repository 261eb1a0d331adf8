package bench

import (
	"slices"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	t.Parallel()
	calls := ""
	step := func(who string, d time.Duration) func() time.Duration {
		return func() time.Duration { calls += who; return d }
	}
	rows := []Row{
		Compare("attach", "≤ 0.5", 3, step("t", 800*time.Millisecond), step("o", 200*time.Millisecond)),
		{Work: "size", Unit: "MB", Ours: 5, Aim: "≤ 8 MB"},
	}
	if calls != "tototo" {
		t.Errorf("measured in the order %q, not in turns", calls)
	}
	want := "" +
		"work    theirs    ours      ratio  aim\n" +
		"attach  800.0 ms  200.0 ms  0.25   ≤ 0.5\n" +
		"size    -         5.0 MB    -      ≤ 8 MB\n"
	if got := Table(rows); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestCompareSteps(t *testing.T) {
	t.Parallel()
	calls := ""
	step := func(name string, d time.Duration) func() time.Duration {
		return func() time.Duration { calls += name; return d }
	}
	rows := CompareSteps([]string{"attach", "detach"}, "≤ 0.3", 2,
		[]func() time.Duration{step("A", 4*time.Millisecond), step("D", 3*time.Millisecond)},
		[]func() time.Duration{step("a", 2*time.Millisecond), step("d", time.Millisecond)})
	if calls != "ADadADad" {
		t.Errorf("taken in the order %q", calls)
	}
	want := []Row{{"attach", "ms", 4, 2, "≤ 0.3"}, {"detach", "ms", 3, 1, "≤ 0.3"}}
	if !slices.Equal(rows, want) {
		t.Errorf("got %v, want %v", rows, want)
	}
}
