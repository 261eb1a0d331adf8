package portable

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// AllUnits is the prefix that stands for every unit.
const AllUnits = "-"

// unitTypes are those that are taken from images.
var unitTypes = []string{"service", "socket", "target", "timer", "path"}

// ErrBadPrefix: a name can't be a prefix of units.
var ErrBadPrefix = errors.New("no valid prefix of unit names")

// Prefix derives from the name or path of an image what its units begin with.
func Prefix(ref string) (string, error) {
	base := path.Base(ref)
	prefix, _, versioned := strings.Cut(base, "_")
	if !versioned {
		prefix = strings.TrimSuffix(base, ".raw")
	}
	return prefix, checkPrefix(prefix)
}

func checkPrefix(prefix string) error {
	const more = "-."
	if prefix == "" || strings.ContainsFunc(prefix, func(r rune) bool { return !alphanumeric(r) && !strings.ContainsRune(more, r) }) {
		return fmt.Errorf("%q: %w", prefix, ErrBadPrefix)
	}
	return nil
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// prefixesOf checks what the caller wants, or takes what the image's name says.
func prefixesOf(ref string, given []string) ([]string, error) {
	switch {
	case len(given) == 0:
		p, err := Prefix(ref)
		return []string{p}, err
	case len(given) == 1 && given[0] == AllUnits:
		return nil, nil
	}
	for _, p := range given {
		if err := checkPrefix(p); err != nil {
			return nil, err
		}
	}
	return given, nil
}

// matchUnit tells whether a unit is meant by the prefixes; no prefixes mean all.
func matchUnit(unit string, prefixes []string) bool {
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p string) bool {
		rest, ok := strings.CutPrefix(unit, p)
		return ok && (rest == "" || strings.ContainsRune("-.@", rune(rest[0])))
	})
}

// unitType is the type of a unit that may come from an image, "" for other names.
func unitType(name string) string {
	i := strings.LastIndexByte(name, '.')
	if i <= 0 || name[0] == '@' || len(name) > 255 || !slices.Contains(unitTypes, name[i+1:]) {
		return ""
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !alphanumeric(r) && !strings.ContainsRune(`:-_.\@`, r) }) {
		return ""
	}
	return name[i+1:]
}

// allowPrefixes checks PORTABLE_PREFIXES, which one image at least must have for
// it to forbid anything.
func allowPrefixes(prefixes []string, releases ...Release) error {
	var allowed []string
	for _, r := range releases {
		allowed = append(allowed, strings.Fields(r["PORTABLE_PREFIXES"])...)
	}
	if len(allowed) == 0 {
		return nil
	}
	for _, p := range prefixes {
		if !slices.Contains(allowed, p) {
			return fmt.Errorf("%w: %q is not among PORTABLE_PREFIXES=%s", ErrPrefix, p, strings.Join(allowed, " "))
		}
	}
	return nil
}

// Matching returns the units whose names begin with one of the prefixes, all of
// them if there are none or AllUnits is the only one.
func Matching(units, prefixes []string) []string {
	if len(prefixes) == 1 && prefixes[0] == AllUnits {
		prefixes = nil
	}
	return slices.DeleteFunc(slices.Clone(units), func(u string) bool { return !matchUnit(u, prefixes) })
}
