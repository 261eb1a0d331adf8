package portable

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lockport/lockport/image"
)

// The first line of 20-portable.conf says whose unit it is.
const (
	markerBegin = "# Drop-in created for image '"
	markerEnd   = "', do not edit."
)

// Marker lists the images that a unit was attached from: the root image, then
// the extensions.
type Marker []string

// String is the line without its end.
func (m Marker) String() string {
	var escaped []string
	for _, p := range m {
		escaped = append(escaped, escapeMarker(p))
	}
	return markerBegin + strings.Join(escaped, ":") + markerEnd
}

func escapeMarker(p string) string {
	var b strings.Builder
	for _, c := range []byte(p) {
		if c < 0x20 || c >= 0x7f || c == '\\' || c == ':' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// ParseMarker reads the first line of a drop-in. It is ok only if the drop-in
// is one of an attached unit.
func ParseMarker(dropIn []byte) (m Marker, ok bool) {
	line, _, _ := strings.Cut(string(dropIn), "\n")
	text, begins := strings.CutPrefix(line, markerBegin)
	text, ends := strings.CutSuffix(text, markerEnd)
	if !begins || !ends {
		return nil, false
	}
	for p := range strings.SplitSeq(text, ":") {
		if p, ok = unescapeMarker(p); !ok {
			return nil, false
		}
		m = append(m, p)
	}
	return m, true
}

func unescapeMarker(text string) (string, bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, `\`)
		b.WriteString(before)
		if !found {
			return b.String(), b.Len() > 0
		}
		if len(after) < 3 || after[0] != 'x' {
			return "", false
		}
		c, err := strconv.ParseUint(after[1:3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		text = after[3:]
	}
}

// sameButVersion tells whether two markers name the same images, apart from
// where they are and their versions.
func (m Marker) sameButVersion(other Marker) bool {
	if len(m) != len(other) {
		return false
	}
	for i := range m {
		if image.Unversioned(image.Name(m[i])) != image.Unversioned(image.Name(other[i])) {
			return false
		}
	}
	return true
}
