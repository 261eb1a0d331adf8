// Package version orders the versions of images, partitions and boot entries.
package version

import (
	"cmp"
	"strings"
)

// Compare tells whether version a is lower (-1), equal (0) or higher (1) than b,
// as the UAPI.10 Version Format Specification, "Version Comparison", has it.
// Every string is a version. Strings that differ can be equal: "1_" and "1".
func Compare(a, b string) int {
	for {
		a, b = strings.TrimLeftFunc(a, separates), strings.TrimLeftFunc(b, separates)
		if less, done := before(&a, &b, '~'); done {
			return less
		}
		if a == "" || b == "" {
			return cmp.Compare(len(a), len(b))
		}
		for _, mark := range []byte("-^.") {
			if less, done := before(&a, &b, mark); done {
				return less
			}
		}
		class, order := letter, cmp.Compare[string]
		if starts(a, digit) || starts(b, digit) {
			class, order = digit, compareNumbers
		}
		var x, y string
		x, a = cut(a, class)
		y, b = cut(b, class)
		if c := order(x, y); c != 0 {
			return c
		}
	}
}

// before compares versions of which one begins with a mark that the other has
// not, which is then the higher one. A mark that both have is cut off.
func before(a, b *string, mark byte) (order int, done bool) {
	is := func(c byte) bool { return c == mark }
	x, y := starts(*a, is), starts(*b, is)
	switch {
	case x && y:
		*a, *b = (*a)[1:], (*b)[1:]
	case x:
		return -1, true
	case y:
		return 1, true
	}
	return 0, false
}

// compareNumbers compares runs of digits of any length. The specification has
// none at all count as 0; systemd, as here, puts it below 0.
func compareNumbers(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(a), len(b))
	}
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// cut splits s behind its leading bytes of a class.
func cut(s string, class func(byte) bool) (head, tail string) {
	n := 0
	for n < len(s) && class(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

func starts(s string, class func(byte) bool) bool { return s != "" && class(s[0]) }

func digit(c byte) bool { return c >= '0' && c <= '9' }

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// separates tells what is skipped: letters and digits beyond ASCII too.
func separates(r rune) bool {
	return r > '~' || !digit(byte(r)) && !letter(byte(r)) && !strings.ContainsRune("-.~^", r)
}
