package kernel

import (
	"fmt"
	"strings"
)

// Lengths that the kernel sets, without the closing NUL.
const (
	maxName = 127
	maxUUID = 128
)

// NodeName returns what the device-mapper calls the volume, which is also the
// name of its node below /dev/mapper: characters that udev would stumble over
// are written as \xNN. A name that is written so already is kept, as
// libdevmapper keeps it. It returns an error wrapping [ErrBadName] for names
// that the kernel or a directory can't hold.
func NodeName(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	node, err := mangle(name)
	if err != nil {
		return "", fmt.Errorf("%w %q: %w", ErrBadName, name, err)
	}
	if len(node) > maxName {
		return "", fmt.Errorf("%w %q: longer than %d bytes", ErrBadName, name, maxName)
	}
	return node, nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: empty", ErrBadName)
	case name == "." || name == ".." || name == "control":
		return fmt.Errorf("%w %q: reserved", ErrBadName, name)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%w %q: contains a slash or NUL", ErrBadName, name)
	}
	return nil
}

// plain reports whether udev leaves the character alone in a link's name.
func plain(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("#+-.:=@_", c) >= 0
}

// mangle writes characters that are not plain as \xNN. Text that holds \xNN
// already is taken to be mangled and returned as it is; a mixture is refused,
// because it could not be turned back.
func mangle(s string) (string, error) {
	var b strings.Builder
	done, needed := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && s[i+1] == 'x':
			if _, ok := hexEscape(s[i:]); !ok {
				return "", fmt.Errorf(`\x without two hexadecimal digits`)
			}
			b.WriteString(s[i : i+4])
			i += 3
			done = true
		case plain(c):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
			needed = true
		}
	}
	if done && needed || strings.Contains(s, `\x5cx`) {
		return "", fmt.Errorf(`\xNN beside characters that would need it`)
	}
	return b.String(), nil
}

// unmangle is the reverse of mangle. A backslash that begins no \xNN stays.
func unmangle(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, ok := hexEscape(s[i:]); ok {
			b.WriteByte(c)
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func hexEscape(s string) (byte, bool) {
	if len(s) < 4 || s[:2] != `\x` {
		return 0, false
	}
	hi, lo := hexDigit(s[2]), hexDigit(s[3])
	if hi < 0 || lo < 0 {
		return 0, false
	}
	return byte(hi<<4 | lo), true
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// mappingUUID is what the kernel stores for a table's UUID: cut to what
// fits, as libcryptsetup cuts it, and mangled like a name.
func mappingUUID(uuid string) (string, error) {
	uuid, err := mangle(uuid[:min(len(uuid), maxUUID)])
	if err != nil {
		return "", fmt.Errorf("%w in UUID %q: %w", ErrBadName, uuid, err)
	}
	if len(uuid) > maxUUID {
		return "", fmt.Errorf("%w: UUID %q is longer than %d bytes", ErrBadName, uuid, maxUUID)
	}
	return uuid, nil
}
