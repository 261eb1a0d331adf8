package version

import (
	"cmp"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The examples of the specification, and what they leave open.
func TestCompare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a    string
		want int
		b    string
	}{
		{"", 0, ""}, {"11", 0, "11"}, {"systemd-123", 0, "systemd-123"}, {"bar-123", -1, "foo-123"},
		{"123a", 1, "123"}, {"123.a", 1, "123"}, {"123.a", -1, "123.b"}, {"123a", 1, "123.a"}, {"11α", 0, "11β"},
		{"B", -1, "a"}, {"", -1, "0"}, {"0.", 1, "0"}, {"0.0", 1, "0"}, {"0", 1, "~"}, {"", 1, "~"},
		{"1_", 0, "1"}, {"_1", 0, "1"}, {"1_", -1, "1.2"}, {"1_2_3", 1, "1.3.3"},
		{"1+", 0, "1"}, {"+1", 0, "1"}, {"1+", -1, "1.2"}, {"1+2+3", 1, "1.3.3"},
		{"007", 0, "7"}, {"10", 1, "9"}, {"18446744073709551617", 1, "18446744073709551616"},
		{"a0", 0, "a00"}, {"a", -1, "a0"}, {"ab", 1, "a"}, {"~~", 1, "~"}, {"1~", -1, "1"},
		{"\xff1\x80", 0, "1"}, {"1\x00", 0, "1"}, {"0", 1, "a"}, {"a", -1, "0"},
	} {
		if got := Compare(c.a, c.b); got != c.want {
			t.Errorf("Compare(%q, %q) = %d, not %d", c.a, c.b, got, c.want)
		}
		if got := Compare(c.b, c.a); got != -c.want {
			t.Errorf("Compare(%q, %q) = %d, not %d", c.b, c.a, got, -c.want)
		}
	}
}

func TestCompareOrdersTheSpecificationsChain(t *testing.T) {
	t.Parallel()
	chain := []string{"122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1",
		"123.1-1", "123a-1", "124-1"}
	for i, a := range chain {
		for j, b := range chain {
			if got := Compare(a, b); got != cmp.Compare(i, j) {
				t.Errorf("Compare(%q, %q) = %d", a, b, got)
			}
		}
	}
}

// systemd's order is the one that others see, and the specification is unclear
// about what has no number.
func TestCompareAsSystemd(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	words := []string{"", "0", "00", "a", "~", "~~", "1", "1.", "1.0", "1.a", "1.0a", "1-0", "1-a", "1^", "1~a", "1_2", "A", "1..2"}
	for i, a := range words {
		for _, b := range words[i:] {
			out, _ := exec.Command(path, "compare-versions", a, b).Output() // the exit code tells the order too
			sign := map[int]string{-1: "<", 0: "==", 1: ">"}[Compare(a, b)]
			if !strings.Contains(string(out), " "+sign+" ") {
				t.Errorf("Compare(%q, %q): %s, but systemd: %s", a, b, sign, out)
			}
		}
	}
}

func FuzzCompare(f *testing.F) {
	f.Add("123~rc1-1", "123-a.1")
	f.Add("0", "a")
	f.Fuzz(func(t *testing.T, a, b string) {
		if Compare(a, b) != -Compare(b, a) || Compare(a, a) != 0 {
			t.Errorf("%q, %q: no order", a, b)
		}
	})
}
