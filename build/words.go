package build

import (
	"fmt"
	"strings"

	"github.com/lockport/lockport/internal/gpt"
)

// ParseFile reads SOURCE[:PATH], of which the source may have colons if there is
// a path.
func ParseFile(text string) File {
	if i := strings.LastIndex(text, ":/"); i > 0 {
		return File{text[:i], text[i+1:]}
	}
	return File{Source: text}
}

// ParseLink reads PATH:TARGET.
func ParseLink(text string) (Link, error) {
	path, target, ok := strings.Cut(text, ":")
	if !ok || path == "" || target == "" {
		return Link{}, fmt.Errorf("%w: %q is not PATH:TARGET", ErrSpec, text)
	}
	return Link{path, target}, nil
}

// ParseField reads KEY=VALUE.
func ParseField(text string) (Field, error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" || strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return Field{}, fmt.Errorf("%w: %q is not KEY=VALUE with a key of A-Z, 0-9 and _", ErrSpec, text)
	}
	return Field{key, value}, nil
}

// Architecture returns systemd's word for an architecture of Go's.
func Architecture(goarch string) string { return gpt.Architecture(goarch) }
