package ask

import (
	"strings"
	"unicode"
)

// maxText bounds what is shown to a person, in characters.
const maxText = 512

// clean makes text fit to be shown on a terminal and to stand on a line of a
// file: names of disks come from the disks, and could hold escape sequences.
func clean(text string) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > maxText {
			b.WriteString("...")
			break
		}
		// Invalid UTF-8 arrives as the replacement character, which prints.
		if !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// prompt returns the message with a colon, as people expect before they type.
func prompt(message string) string {
	message = strings.TrimRight(clean(message), " ")
	if strings.HasSuffix(message, ":") || strings.HasSuffix(message, "?") {
		return message
	}
	return message + ":"
}

// verificationID turns "cryptsetup:DEVICE" into what agents know for the second
// time of asking, "cryptsetup-verification:DEVICE".
func verificationID(id string) string {
	kind, rest, found := strings.Cut(id, ":")
	if !found {
		return id
	}
	return kind + "-verification:" + rest
}
