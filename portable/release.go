package portable

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lockport/lockport/image"
)

// maxRelease is far more than any release file has.
const maxRelease = 64 << 10

// Release is an os-release or extension-release file.
type Release map[string]string

// ParseRelease reads assignments as a shell would that expands nothing. What a
// shell would not take for one assignment on a line is an error.
func ParseRelease(text []byte) (Release, error) {
	if len(text) > maxRelease {
		return nil, fmt.Errorf("more than %d bytes", maxRelease)
	}
	if !image.Printable(strings.NewReplacer("\n", " ", "\t", " ", "\r", " ").Replace(string(text))) {
		return nil, errors.New("control characters or invalid UTF-8")
	}
	r := Release{}
	n := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		n++
		line = strings.Trim(line, " \t\r")
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || !validKey(key) {
			return nil, fmt.Errorf("line %d: no assignment", n)
		}
		value, err := unquote(value)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		r[key] = value
	}
	return r, nil
}

func validKey(key string) bool {
	for i, c := range []byte(key) {
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return key != ""
}

// unquote takes the quotes and backslashes off a value. Quoted and unquoted
// pieces may follow each other.
func unquote(text string) (string, error) {
	if !image.Printable(strings.ReplaceAll(text, "\t", " ")) {
		return "", fmt.Errorf("control characters or invalid UTF-8 in a value")
	}
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote == 0 && (c == '"' || c == '\''), quote != 0 && c == quote:
			quote ^= c
		case quote == '\'':
			b.WriteByte(c)
		case c == '\\':
			if i++; i == len(text) {
				return "", fmt.Errorf("a backslash ends the line")
			}
			if quote == '"' && !strings.ContainsRune("\"$`\\", rune(text[i])) {
				b.WriteByte('\\')
			}
			b.WriteByte(text[i])
		case c == '$' || c == '`', quote == 0 && strings.ContainsRune(" \t;&|<>()", rune(c)):
			return "", fmt.Errorf("%q is neither quoted nor escaped", c)
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", fmt.Errorf("the quote %c is not closed", quote)
	}
	return b.String(), nil
}

// first is the first of some fields that is set.
func (r Release) first(keys ...string) string {
	for _, k := range keys {
		if r[k] != "" {
			return r[k]
		}
	}
	return ""
}

// nameAndVersion identifies an image in the journal. The prefix is that of an
// extension's fields, "" for the root image.
func (r Release) nameAndVersion(prefix string) string {
	id := r.first(prefix+"IMAGE_ID", prefix+"ID")
	version := r.first(prefix+"IMAGE_VERSION", prefix+"VERSION_ID", prefix+"BUILD_ID")
	if id == "" || version == "" {
		return id + version
	}
	return id + "_" + version
}
