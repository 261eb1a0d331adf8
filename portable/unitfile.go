package portable

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxSettings is far more than any unit file has.
const maxSettings = 1 << 12

// unitFile is a unit file or a drop-in of one, as systemd.syntax(7) has it.
type unitFile struct {
	settings []setting
	flaws    []flaw
}

// setting is an assignment. Its value is without the white space around it and
// with continuation lines joined; quotes, escapes and specifiers are still there.
type setting struct {
	section, key, value string
	line                int  // of its beginning, counted from 1
	profile             bool // from the drop-in of a profile, not from the unit
}

// flaw is a line that the service manager passes over, or if it is fatal, that
// keeps it from loading the unit.
type flaw struct {
	line  int
	text  string
	fatal bool
}

// parseUnitFile reads what a service manager would read. Flaws are no errors:
// all of them are wanted, and what is right is read nevertheless. Only settings
// of the given sections are returned; sections called X-… are for others.
func parseUnitFile(text []byte, sections ...string) *unitFile {
	u := &unitFile{}
	section, skip := "", false
	logicalLines(string(text), func(n int, line string) bool {
		key, value, assigned := strings.Cut(line, "=")
		key = strings.TrimRight(key, " \t")
		switch {
		case !utf8.ValidString(line):
			u.flaw(n, "it is not UTF-8", false)
		case line[0] == '[' && line[len(line)-1] != ']':
			u.flaw(n, "the name of a section has no ] at its end", true)
			return false
		case line[0] == '[':
			section = line[1 : len(line)-1]
			if skip = !slices.Contains(sections, section); skip && !strings.HasPrefix(section, "X-") {
				u.flaw(n, "there is no section ["+shorten(section)+"] here", false)
			}
		case skip:
		case section == "":
			u.flaw(n, "it stands before the first section", false)
		case !assigned:
			u.flaw(n, `"`+shorten(line)+`" is no assignment`, false)
		case key == "":
			u.flaw(n, "the name of the setting is missing", false)
		case len(u.settings) == maxSettings:
			u.flaw(n, "there are more settings than any unit has", true)
			return false
		default:
			u.settings = append(u.settings, setting{section: section, key: key, value: strings.TrimLeft(value, " \t"), line: n})
		}
		return len(u.flaws) < maxSettings
	})
	return u
}

func (u *unitFile) flaw(line int, text string, fatal bool) {
	u.flaws = append(u.flaws, flaw{line, text, fatal})
}

// shorten keeps what is quoted in a message short.
func shorten(text string) string {
	const most = 60
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most]) + "…"
}

// logicalLines calls yield with each line that says something, without the white
// space around it, and where it begins. A backslash at the end of a line joins
// the next one that is no comment.
func logicalLines(text string, yield func(n int, line string) bool) {
	text = strings.TrimPrefix(text, "\uFEFF")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	var joined strings.Builder
	n, begin, open := 0, 0, false
	for part := range strings.SplitSeq(text, "\n") {
		n++
		part = strings.TrimLeft(part, " \t")
		if strings.HasPrefix(part, "#") || strings.HasPrefix(part, ";") {
			continue
		}
		if joined.Len() == 0 {
			begin = n
		}
		if open = continued(part); open {
			joined.WriteString(part[:len(part)-1] + " ")
			continue
		}
		joined.WriteString(part)
		line := strings.Trim(joined.String(), " \t")
		joined.Reset()
		if line != "" && !yield(begin, line) {
			return
		}
	}
	if line := strings.Trim(joined.String(), " \t"); open && line != "" {
		yield(begin, line)
	}
}

// continued tells whether a line ends with a backslash that is not itself escaped.
func continued(line string) bool {
	rest := strings.TrimRight(line, `\`)
	return (len(line)-len(rest))%2 == 1
}

// Setting is an assignment in a file of systemd.syntax(7), with continuation lines
// joined, and with its quotes and escapes.
type Setting struct {
	Section, Key, Value string
	Line                int // of its beginning, counted from 1
}

// ParseSettings reads a file of that syntax that has only these sections. What a
// service manager would pass over is an error here, with the line.
func ParseSettings(text []byte, sections ...string) ([]Setting, error) {
	u := parseUnitFile(text, sections...)
	if len(u.flaws) > 0 {
		return nil, fmt.Errorf("line %d: %s", u.flaws[0].line, u.flaws[0].text)
	}
	list := make([]Setting, 0, len(u.settings))
	for _, s := range u.settings {
		list = append(list, Setting{s.section, s.key, s.value, s.line})
	}
	return list, nil
}
