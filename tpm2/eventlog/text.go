package eventlog

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxWords = 120 // bytes of a line
	maxText  = 512 // bytes of data that are looked at for one
)

func clip(b []byte) []byte { return b[:min(len(b), maxText)] }

// clipWords cuts a line to maxWords.
func clipWords(s string) string {
	if len(s) <= maxWords {
		return s
	}
	const more = "…"
	end := maxWords - len(more)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}

// text returns data that is text, quoted; "" if it is not. Firmware writes
// UTF-8 or UTF-16, with or without NUL at the end.
func text(b []byte) string {
	b = clip(b)
	if len(b) >= 2 && len(b)%2 == 0 && b[0] != 0 && b[1] == 0 {
		return readable(strings.TrimRight(utf16Text(b), "\x00"))
	}
	return readable(strings.TrimRight(string(b), "\x00"))
}

// readable returns what is text for the most part, quoted.
func readable(s string) string {
	printable, all := 0, 0
	for i, r := range s {
		all++
		if printableAt(s, i, r) {
			printable++
		}
	}
	if 4*printable < 3*all {
		return ""
	}
	return quote(s)
}

func printableAt(s string, i int, r rune) bool {
	if r == utf8.RuneError {
		_, n := utf8.DecodeRuneInString(s[i:])
		return n > 1
	}
	return unicode.IsPrint(r)
}

// quote replaces all that could do something to a terminal, or that no font has.
func quote(s string) string {
	var out strings.Builder
	for i, r := range s {
		switch {
		case printableAt(s, i, r):
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == utf8.RuneError || r < 0x80:
			fmt.Fprintf(&out, `\x%02x`, s[i])
		case r > 0xffff:
			fmt.Fprintf(&out, `\U%08x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

// count says how many there are of a thing.
func count(n uint64, thing string) string {
	switch {
	case n == 1:
		return "1 " + thing
	case strings.HasSuffix(thing, "h"):
		thing += "e"
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// size says a number of bytes.
func size(n uint64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return count(n, "byte")
}
