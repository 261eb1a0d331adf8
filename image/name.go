package image

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is what a directory entry can hold.
const maxName = 255

// ValidName tells whether text is the name of an image, and not a path to one.
func ValidName(text string) bool {
	return text != "" && len(text) <= maxName && text != "." && text != ".." &&
		!strings.Contains(text, "/") && !strings.HasPrefix(text, ".#") && Printable(text)
}

// Printable tells whether text is UTF-8 without control characters.
func Printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// Name is the name of the image at a path: its last component without the
// suffix of an image file.
func Name(p string) string {
	base := path.Base(p)
	if strings.HasSuffix(p, "/") {
		return base // a directory, whatever it is called
	}
	for _, suffix := range []string{".sysext.raw", ".confext.raw", ".raw"} {
		if name, ok := strings.CutSuffix(base, suffix); ok && name != "" {
			return name
		}
	}
	return base
}

// Unversioned cuts the version off the name of an image.
func Unversioned(name string) string {
	if i := strings.IndexAny(name, "_+"); i >= 0 {
		return name[:i]
	}
	return name
}
