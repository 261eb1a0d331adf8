package crypttab

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// ParseKey splits the key field of a table, or of the arguments of attach, into
// the file and the device that holds it. Both are "" when there is no key file:
// for "", "-" and "none", and with a warning for a path that is not absolute.
func ParseKey(field string) (file, device string, warnings []Warning) {
	if isNone(field) {
		return "", "", nil
	}
	file, device = splitDevice(field)
	if !path.IsAbs(file) {
		return "", "", []Warning{{Text: fmt.Sprintf("ignoring key file %q: not an absolute path", field)}}
	}
	return file, device, nil
}

// splitDevice cuts PATH:DEVICE at the last colon, unless what follows it is no
// device: then the colon belongs to the file name.
func splitDevice(field string) (file, device string) {
	i := strings.LastIndexByte(field, ':')
	if i < 0 || !path.IsAbs(DeviceNode(field[i+1:])) {
		return field, ""
	}
	return field[:i], field[i+1:]
}

// DeviceNode returns the path by which udev offers the device that a table
// names by UUID=, LABEL=, PARTUUID=, PARTLABEL= or ID=, with its value bare or
// quoted. Anything else it returns as it is.
func DeviceNode(spec string) string {
	tag, value, found := strings.Cut(spec, "=")
	if !found {
		return spec
	}
	for _, known := range [...]string{"UUID", "LABEL", "PARTUUID", "PARTLABEL", "ID"} {
		if tag == known {
			return "/dev/disk/by-" + strings.ToLower(tag) + "/" + encodeNode(unquote(value))
		}
	}
	return spec
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// encodeNode writes a label as udev does in the names of its links: characters
// other than a few become \x and two hexadecimal digits for each byte.
func encodeNode(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case n > 1, isNodeByte(s[0]):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		}
		s = s[n:]
	}
	return b.String()
}

func isNodeByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("#+-.:=@_", c) >= 0
}
