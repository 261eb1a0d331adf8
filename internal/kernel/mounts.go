package kernel

import (
	"bufio"
	"io"
	"slices"
	"strings"
)

// mountPoints returns where the device of number MAJOR:MINOR is mounted,
// according to the text of /proc/self/mountinfo. Filesystems that span devices
// show a number of their own; those are found by the node that was mounted.
func mountPoints(mountinfo io.Reader, number string, nodes ...string) []string {
	var points []string
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE ...
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, source := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 {
			continue
		}
		if fields[2] == number || len(source) > 1 && slices.Contains(nodes, unoctal(source[1])) {
			points = append(points, unoctal(fields[4]))
		}
	}
	return points
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
