package portable

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/lockport/lockport/image"
)

// profileFolders are where profiles are looked for, the first hit counts.
var profileFolders = []string{
	"/etc/systemd/portable/profile", "/run/systemd/portable/profile",
	"/usr/local/lib/systemd/portable/profile", "/usr/lib/systemd/portable/profile",
}

// ownProfiles are for hosts without systemd's.
//
//go:embed profile/*/service.conf
var ownProfiles embed.FS

// A profile is a sandbox by name.
type profile struct {
	name string
	own  bool // from ownProfiles
}

// Profiles returns the names of the profiles there are, sorted.
func (h *Host) Profiles() ([]string, error) {
	names := map[string]bool{}
	own, err := ownProfiles.ReadDir("profile")
	if err != nil {
		return nil, err
	}
	for _, e := range own {
		names[e.Name()] = true
	}
	for _, folder := range profileFolders {
		entries, err := h.readDir(folder)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if s, err := h.tree.Stat(path.Join(folder, e.Name())[1:]); err == nil && s.IsDir() {
				names[e.Name()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// findProfile makes sure that a profile of this name exists: a misspelt one must
// not come to no sandbox at all.
func (h *Host) findProfile(name string) (profile, error) {
	for _, folder := range profileFolders {
		s, err := h.tree.Stat(path.Join(folder, path.Base(name))[1:])
		if err == nil && s.IsDir() && image.ValidName(name) {
			return profile{name: name}, nil
		}
	}
	if image.ValidName(name) {
		if _, err := fs.Stat(ownProfiles, "profile/"+name); err == nil {
			return profile{name: name, own: true}, nil
		}
	}
	names, err := h.Profiles()
	if err != nil {
		return profile{}, err
	}
	return profile{}, fmt.Errorf("%q: %w: there are %s", name, ErrNoProfile, strings.Join(names, ", "))
}

// dropIn returns the profile's drop-in for a type of unit, nil if it has none.
// Source is empty for one of our own.
func (h *Host) profileDropIn(p profile, unitType string) (source string, content []byte, err error) {
	file := p.name + "/" + unitType + ".conf"
	if p.own {
		content, err = ownProfiles.ReadFile("profile/" + file)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return "", content, err
	}
	for _, folder := range profileFolders {
		source = path.Join(folder, file)
		content, err = image.ReadFile(h.tree, source[1:], maxUnit)
		if err == nil {
			return source, content, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("profile %s: %w", p.name, err)
		}
	}
	if unitType != "service" {
		return "", nil, nil
	}
	// A service does not go without a sandbox because a file is missing.
	content, err = ownProfiles.ReadFile("profile/" + file)
	if err != nil {
		return "", nil, fmt.Errorf("%q: %w: it has no service.conf", p.name, ErrNoProfile)
	}
	return "", content, nil
}
