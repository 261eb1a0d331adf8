package pkcs11

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable keeps text of tokens and modules from steering a terminal.
func printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}
