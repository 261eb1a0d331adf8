// Package crypttab reads what is to be unlocked and how: the lines of
// /etc/crypttab and the option list that stands in them and in the arguments of
// attach. Both follow crypttab(5) of systemd 248 to 262.
//
// It opens no device and no key. What it cannot make sense of is an error where
// the original stops, and a [Warning] where the original warns and goes on.
package crypttab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of a table. They are far above anything real and keep a damaged or
// hostile file from filling memory.
const (
	maxTable   = 4 << 20
	maxLine    = 64 << 10
	maxEntries = 4096
)

// Entry is one volume of a table.
type Entry struct {
	Name      string // of the mapping, /dev/mapper/NAME; see [CheckName]
	Device    string // path or TAG=value; see [DeviceNode]
	KeyFile   string // "" for none
	KeyDevice string // where KeyFile lies when it is on a file system of its own, else ""
	Options   Options
	Warnings  []Warning
	Line      int      // counted from 1
	Fields    []string // two to four, as written
}

// Unsupported returns what the entry asks for and this release does not do, as
// [Options.Unsupported] does, with the key device as well.
func (e Entry) Unsupported() []string {
	missing := e.Options.Unsupported()
	if e.KeyDevice != "" {
		missing = append(missing, "a key file on a device of its own")
	}
	return missing
}

// Parse reads a table. Empty lines and lines that begin with "#" are skipped.
// Lines that make no sense are left out and reported, all together, in the
// error, which names their numbers: the entries are good even then. The entries
// are nil only when r fails or the table is too long to be one.
func Parse(r io.Reader) ([]Entry, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxTable+1))
	if err != nil {
		return nil, fmt.Errorf("reading the table: %w", err)
	}
	if len(text) > maxTable {
		return nil, fmt.Errorf("table is longer than %d bytes", maxTable)
	}
	var entries []Entry
	var errs []error
	names := map[string]int{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		entry, err := parseLine(line)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("line %d: %w", number, err))
			continue
		case entry == nil:
			continue
		case names[entry.Name] != 0:
			errs = append(errs, fmt.Errorf("line %d: volume %q is already on line %d", number, entry.Name, names[entry.Name]))
			continue
		case len(entries) == maxEntries:
			errs = append(errs, fmt.Errorf("line %d: more than %d volumes", number, maxEntries))
			return entries, errors.Join(errs...)
		}
		entry.Line = number
		names[entry.Name] = number
		entries = append(entries, *entry)
	}
	return entries, errors.Join(errs...)
}

// parseLine returns nil for a line that holds no entry.
func parseLine(line []byte) (*Entry, error) {
	if len(line) > maxLine {
		return nil, fmt.Errorf("longer than %d bytes", maxLine)
	}
	fields := strings.FieldsFunc(string(line), isBlank)
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return nil, nil
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return nil, errors.New("holds a NUL byte")
	}
	if len(fields) < 2 {
		return nil, fmt.Errorf("volume %q has no device", fields[0])
	}
	return parseFields(fields)
}

func parseFields(fields []string) (*Entry, error) {
	e := &Entry{Name: fields[0], Device: fields[1]}
	if err := CheckName(e.Name); err != nil {
		// The original still makes a unit for it, which can only fail; whoever
		// attaches the volume reports the error.
		e.warn("", err.Error())
	}
	rest := fields[min(len(fields), 4):]
	e.Fields = fields[:len(fields)-len(rest)]
	if len(rest) > 0 && !strings.HasPrefix(rest[0], "#") {
		// The original ignores it silently. Most often it is an option list
		// with a blank in it, so that options get lost.
		e.warn("", fmt.Sprintf("ignoring the text after the options: %q", strings.Join(rest, " ")))
	}
	if len(fields) > 2 {
		var warnings []Warning
		e.KeyFile, e.KeyDevice, warnings = ParseKey(fields[2])
		e.Warnings = append(e.Warnings, warnings...)
	}
	text := ""
	if len(fields) > 3 {
		text = fields[3]
	}
	options, warnings, err := ParseOptions(text)
	if err != nil {
		return nil, fmt.Errorf("volume %q: %w", e.Name, err)
	}
	if options.Swap && options.MakeFS != "" {
		return nil, fmt.Errorf("volume %q: swap and tmp exclude each other", e.Name)
	}
	e.Options = options
	e.Warnings = append(e.Warnings, warnings...)
	return e, nil
}

func (e *Entry) warn(option, text string) {
	e.Warnings = append(e.Warnings, Warning{Option: option, Text: text})
}

// isBlank tells the characters that separate fields. There is no quoting.
func isBlank(r rune) bool { return r == ' ' || (r >= '\t' && r <= '\r') }

// isNone tells the spellings of a field that is not given.
func isNone(field string) bool { return field == "" || field == "-" || field == "none" }

// CheckName returns an error when no volume can have that name: it becomes a
// file name below /dev/mapper.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is not a volume name", name)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("volume name %q holds a slash", name)
	case len(name) > 127:
		return fmt.Errorf("volume name %q is longer than 127 bytes", name)
	}
	return nil
}
