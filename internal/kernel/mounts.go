package kernel

import (
	"bufio"
	"io"
	"iter"
	"slices"
	"strings"
)

// mount is a line of /proc/self/mountinfo.
type mount struct{ number, point, source string }

// mounts reads the text of /proc/self/mountinfo, each line as
// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS.
func mounts(mountinfo io.Reader) iter.Seq[mount] {
	return func(yield func(mount) bool) {
		for lines := bufio.NewScanner(mountinfo); lines.Scan(); {
			before, after, _ := strings.Cut(lines.Text(), " - ")
			fields, source := strings.Fields(before), strings.Fields(after)
			if len(fields) < 5 || len(source) < 2 {
				continue
			}
			if !yield(mount{fields[2], unoctal(fields[4]), unoctal(source[1])}) {
				return
			}
		}
	}
}

// mountPoints returns where the device of number MAJOR:MINOR is mounted.
// Filesystems that span devices show a number of their own; those are found by
// the node that was mounted.
func mountPoints(mountinfo io.Reader, number string, nodes ...string) []string {
	var points []string
	for m := range mounts(mountinfo) {
		if m.number == number || slices.Contains(nodes, m.source) {
			points = append(points, m.point)
		}
	}
	return points
}

// mountSource returns what is mounted where path lies, "" when that is nowhere.
// path is absolute and without links. Of mounts on the same point the last
// one counts.
func mountSource(mountinfo io.Reader, path string) string {
	best, source := -1, ""
	for m := range mounts(mountinfo) {
		below := strings.HasPrefix(path, strings.TrimSuffix(m.point, "/")+"/") || path == m.point
		if below && len(m.point) >= best {
			best, source = len(m.point), m.source
		}
	}
	return source
}

// unoctal undoes the kernel's \NNN for blanks and backslashes.
func unoctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '7' {
			return false
		}
	}
	return true
}
