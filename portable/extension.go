package portable

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/lockport/lockport/image"
)

const releasePrefix = "extension-release."

// rootRelease reads the os-release of a root image. It returns the text, too.
func rootRelease(img *image.Image) (Release, []byte, error) {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		text, err := image.ReadFile(img, name, maxRelease)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return parsed(img, name, text, err)
	}
	return nil, nil, fmt.Errorf("%s: %w: there is no /usr/lib/os-release", img.Path, ErrRelease)
}

func parsed(img *image.Image, name string, text []byte, err error) (Release, []byte, error) {
	var r Release
	if err == nil {
		r, err = ParseRelease(text)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w: /%s: %w", img.Path, ErrRelease, name, err)
	}
	return r, text, nil
}

// extensionRelease reads what makes an image an extension.
func extensionRelease(img *image.Image, relaxed bool) (Release, []byte, error) {
	if _, err := img.Stat("usr/lib/os-release"); err == nil {
		return nil, nil, fmt.Errorf("%s: %w: with an os-release it is no extension", img.Path, ErrRelease)
	}
	for _, dir := range []string{"usr/lib/extension-release.d", "etc/extension-release.d"} {
		name, err := releaseName(img, dir, relaxed)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w: /%s: %w", img.Path, ErrRelease, dir, err)
		}
		if name != "" {
			text, err := image.ReadFile(img, name, maxRelease)
			return parsed(img, name, text, err)
		}
	}
	return nil, nil, fmt.Errorf("%s: %w: there is no /usr/lib/extension-release.d/%s%s", img.Path, ErrRelease, releasePrefix, image.Name(img.Path))
}

// releaseName finds the file whose name is that of the image, with or without
// the version, or which says that its name does not matter. Relaxed, any single
// file will do.
func releaseName(img *image.Image, dir string, relaxed bool) (string, error) {
	exact := image.Name(img.Path)
	entries, err := fs.ReadDir(img, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var found []string
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), releasePrefix)
		switch {
		case !ok:
		case name == exact:
			return path.Join(dir, e.Name()), nil
		case e.Type().IsRegular():
			p := path.Join(dir, e.Name())
			fits := relaxed || name == image.Unversioned(exact)
			if !fits {
				if fits, err = anyName(img, p); err != nil {
					return "", err
				}
			}
			if fits {
				found = append(found, p)
			}
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d files could be meant", len(found))
}

// anyName tells whether a file says of itself that its name need not be that of
// the image.
//
// Source: systemd, os-release(5): user.extension-release.strict.
func anyName(img *image.Image, name string) (bool, error) {
	value, ok, err := img.Attribute(name, "user.extension-release.strict")
	if err != nil || !ok {
		return false, err
	}
	word := strings.ToLower(strings.TrimRight(string(value), "\x00"))
	return slices.Contains([]string{"0", "no", "n", "false", "f", "off"}, word), nil
}

// matches tells why an extension is not for an image.
func (host Release) matches(ext Release, architecture string) error {
	mismatch := func(key, want, have string) error {
		return fmt.Errorf("%w: its %s is %q, and %q is needed", ErrMismatch, key, have, want)
	}
	scope := ext["SYSEXT_SCOPE"]
	if scope == "" {
		scope = "system portable"
	}
	switch {
	case !slices.Contains(strings.Fields(scope), "portable"):
		return mismatch("SYSEXT_SCOPE", "portable", scope)
	case ext["ARCHITECTURE"] != "" && ext["ARCHITECTURE"] != "_any" && ext["ARCHITECTURE"] != architecture:
		return mismatch("ARCHITECTURE", architecture, ext["ARCHITECTURE"])
	case ext["ID"] == "_any":
		return nil
	case ext["ID"] == "" || ext["ID"] != host["ID"]:
		return mismatch("ID", host["ID"], ext["ID"])
	case host["SYSEXT_LEVEL"] != "" && ext["SYSEXT_LEVEL"] != "":
		if host["SYSEXT_LEVEL"] != ext["SYSEXT_LEVEL"] {
			return mismatch("SYSEXT_LEVEL", host["SYSEXT_LEVEL"], ext["SYSEXT_LEVEL"])
		}
	case host["VERSION_ID"] != "" && host["VERSION_ID"] != ext["VERSION_ID"]:
		return mismatch("VERSION_ID", host["VERSION_ID"], ext["VERSION_ID"])
	}
	return nil
}

// architectures are systemd's words for Go's.
var architectures = map[string]string{
	"amd64": "x86-64", "386": "x86", "arm64": "arm64", "arm": "arm", "riscv64": "riscv64", "loong64": "loongarch64",
	"ppc64le": "ppc64-le", "ppc64": "ppc64", "s390x": "s390x", "mips64le": "mips64-le", "mips64": "mips64",
}
