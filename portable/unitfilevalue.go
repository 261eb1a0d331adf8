package portable

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// settings are those of a unit in the order in which they count: the file first,
// then what overrides it.
type settings []setting

// all returns what a setting comes to that may be repeated: an empty value takes
// back all before it.
func (s settings) all(section, key string) []setting {
	var list []setting
	for _, v := range s {
		switch {
		case v.section != section || v.key != key:
		case v.value == "":
			list = nil
		default:
			list = append(list, v)
		}
	}
	return list
}

// last returns the setting that counts where only one does; it is ok if it has a value.
func (s settings) last(section, key string) (last setting, ok bool) {
	for _, v := range s {
		if v.section == section && v.key == key {
			last = v
		}
	}
	return last, last.value != ""
}

// isTrue is the value of a boolean, or what it is without one.
func (s settings) isTrue(section, key string, otherwise bool) bool {
	v, ok := s.last(section, key)
	if !ok {
		return otherwise
	}
	b, ok := parseBool(v.value)
	return ok && b || !ok && otherwise
}

// parseBool reads a boolean in any spelling of systemd's.
func parseBool(text string) (value, ok bool) {
	switch strings.ToLower(text) {
	case "1", "yes", "y", "true", "t", "on":
		return true, true
	case "0", "no", "n", "false", "f", "off":
		return false, true
	}
	return false, false
}

var (
	errQuote  = errors.New("a quote is not closed")
	errEscape = errors.New("a backslash ends it")
)

// splitWords splits a value at white space as systemd.syntax(7) says: words or
// parts of them may be quoted, and escapes are those of C. An escape that there
// is none of stays as it is.
func splitWords(text string) ([]string, error) {
	var list []string
	for {
		text = strings.TrimLeft(text, " \t\n")
		if text == "" {
			return list, nil
		}
		word, rest, err := firstWord(text)
		if err != nil {
			return nil, err
		}
		list, text = append(list, word), rest
	}
}

// firstWord takes the first word off a text that begins with one.
func firstWord(text string) (word, rest string, err error) {
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\\':
			if i+1 == len(text) {
				return "", "", errEscape
			}
			plain, n := unescape(text[i:])
			b.WriteString(plain)
			i += n
			continue
		case quote == 0 && (c == '"' || c == '\''), quote != 0 && c == quote:
			quote ^= c
		case quote == 0 && strings.IndexByte(" \t\n", c) >= 0:
			return b.String(), text[i:], nil
		default:
			b.WriteByte(c)
		}
		i++
	}
	if quote != 0 {
		return "", "", errQuote
	}
	return b.String(), "", nil
}

const (
	escapes = `abfnrtv\"'s`
	escaped = "\a\b\f\n\r\t\v\\\"' "
)

// unescape reads the escape that text begins with, and how long it is.
func unescape(text string) (plain string, n int) {
	c := text[1]
	if i := strings.IndexByte(escapes, c); i >= 0 {
		return escaped[i : i+1], 2
	}
	digits, base, from := 0, 16, 2
	switch {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c >= '0' && c <= '7':
		digits, base, from = 3, 8, 1
	}
	if digits > 0 && len(text) >= from+digits {
		v, err := strconv.ParseUint(text[from:from+digits], base, 32)
		switch {
		case err != nil || v == 0:
		case digits <= 3 && v < 256:
			return string([]byte{byte(v)}), from + digits
		case digits > 3 && utf8.ValidRune(rune(v)):
			return string(rune(v)), from + digits
		}
	}
	_, size := utf8.DecodeRuneInString(text[1:])
	return text[:1+size], 1 + size
}

// fixedSpecifiers are those whose value every system has, by systemd.unit(5).
var fixedSpecifiers = map[byte]string{
	'%': "%", 'C': "/var/cache", 'E': "/etc", 'L': "/var/log", 'S': "/var/lib", 'T': "/tmp", 'V': "/var/tmp", 't': "/run",
	'D': "/usr/share", 'h': "/root", 'u': "root", 'g': "root", 'U': "0", 'G': "0", 's': "/bin/sh",
}

// hostSpecifiers are those that a host fills in, or the service manager when it
// starts the unit.
const hostSpecifiers = "aAbBcdfHlmMoqrRvwWyY"

// expansion is a value with its specifiers replaced.
type expansion struct {
	text    string
	known   bool   // no part is only known when the unit starts
	strange []byte // specifiers that there are none of, for which the value is not used
}

// expand replaces the specifiers in a value of the named unit. What is only
// known when it starts becomes a letter.
func expand(text, unit string) expansion {
	e := expansion{text: text, known: true}
	if !strings.Contains(text, "%") {
		return e
	}
	own := unitSpecifiers(unit)
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		c := text[i]
		if v, ok := fixedSpecifiers[c]; ok {
			b.WriteString(v)
		} else if v, ok := own[c]; ok && v != "" {
			b.WriteString(v)
		} else if ok || strings.IndexByte(hostSpecifiers, c) >= 0 {
			e.known = false
			b.WriteByte('x')
		} else {
			// What no specifier can be stays as it is.
			if alphanumeric(rune(c)) {
				e.strange = append(e.strange, c)
			}
			b.WriteString(text[i-1 : i+1])
		}
	}
	e.text = b.String()
	return e
}

// unitSpecifiers are those that a unit's name says; of a template, the instance
// is empty.
func unitSpecifiers(unit string) map[byte]string {
	stem := unit[:max(0, strings.LastIndexByte(unit, '.'))]
	prefix, instance, instantiable := strings.Cut(stem, "@")
	last := prefix[strings.LastIndexByte(prefix, '-')+1:]
	own := map[byte]string{
		'n': unit, 'N': stem, 'p': prefix, 'P': unescapeName(prefix), 'i': instance, 'I': unescapeName(instance),
		'j': last, 'J': unescapeName(last),
	}
	if instantiable && instance == "" {
		own['n'], own['N'] = "", ""
	}
	return own
}

// unescapeName undoes what systemd-escape does to a part of a name.
func unescapeName(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '-':
			b.WriteByte('/')
		case strings.HasPrefix(text[i:], `\x`):
			plain, n := unescape(text[i:])
			b.WriteString(plain)
			i += n - 1
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}
