package portable

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/lockport/lockport/image"
)

const osRelease = "/usr/lib/os-release"

// checkReleases reads what the images say of themselves.
func (l *lint) checkReleases() error {
	for i, img := range l.layers {
		var r Release
		if i == 0 {
			r = l.checkOSRelease(img)
		} else {
			r = l.checkExtension(i, img)
		}
		l.releases = append(l.releases, r)
	}
	return nil
}

// inFile is the error of a release file without the path of the image and of
// the file, which the finding has anyway.
func inFile(err error, prefixes ...string) string {
	text := err.Error()
	for _, p := range prefixes {
		text = strings.TrimPrefix(text, p+": ")
	}
	return text
}

func (l *lint) checkOSRelease(img *image.Image) Release {
	r, _, err := rootRelease(img)
	l.osFile = osRelease
	if _, e := img.Stat("etc/os-release"); e == nil {
		l.osFile = "/etc/os-release"
	}
	switch {
	case err != nil && errors.Is(noRelease(img), fs.ErrNotExist):
		l.found("os-release-missing", place{0, osRelease, 0}, "the image has no os-release, which is what makes it one",
			"add the file with at least ID=, VERSION_ID= and PORTABLE_PREFIXES=")
		return nil
	case err != nil && lineOf(err) == 0 && !errors.Is(err, image.ErrNotRegular) && !errors.Is(err, image.ErrTooLarge):
		l.damaged(place{0, l.osFile, 0}, err)
		return nil
	case err != nil:
		l.found("os-release-invalid", place{0, l.osFile, lineOf(err)}, inFile(err, img.Path, ErrRelease.Error(), l.osFile), "mend this line")
		return nil
	}
	l.checkFields(r)
	return r
}

// noRelease is the error of looking for an os-release.
func noRelease(img *image.Image) error {
	if _, err := img.Stat("etc/os-release"); err == nil {
		return nil
	}
	_, err := img.Stat("usr/lib/os-release")
	return err
}

// lineOf is the line that an error of ParseRelease speaks of, 0 if of none.
func lineOf(err error) int {
	n := 0
	if _, text, ok := strings.Cut(err.Error(), ": line "); ok {
		_, _ = fmt.Sscanf(text, "%d", &n)
	}
	return n
}

func (l *lint) checkFields(r Release) {
	at := place{0, l.osFile, 0}
	if r["ID"] == "" {
		l.found("os-release-id", at, "ID is not set, without which nothing is attached", "add ID=, such as the name of the service")
	}
	if r.first("IMAGE_VERSION", "VERSION_ID", "BUILD_ID") == "" {
		l.found("os-release-version", at, "nothing says which version this is, and so the journal will not", "add VERSION_ID= or IMAGE_VERSION=")
	}
	if r["PORTABLE_PRETTY_NAME"] == "" {
		l.found("portable-name-unset", at, "PORTABLE_PRETTY_NAME is not set", "add a name for people to read")
	}
}

func (l *lint) checkExtension(number int, img *image.Image) Release {
	for i, other := range l.layers[:number] {
		if i > 0 && other.Name == img.Name {
			l.found("extension-mismatch", place{number, "", 0}, "the extension is given twice", "give it once")
		}
	}
	r, _, err := extensionRelease(img, l.ref.Relaxed)
	if err != nil {
		l.found("extension-release-invalid", place{number, "", 0}, inFile(err, img.Path, ErrRelease.Error()),
			"add /usr/lib/extension-release.d/"+releasePrefix+image.Name(img.Path)+" with the ID= of the image that it is for, and no os-release")
		return nil
	}
	if root := l.releases[0]; root != nil {
		if err := root.matches(r, l.arch); err != nil {
			l.found("extension-mismatch", place{number, "", 0}, err.Error(), "take an extension that was built for this image")
		}
	}
	return r
}

// checkPrefixes compares PORTABLE_PREFIXES with what is attached.
func (l *lint) checkPrefixes() error {
	var allowed []string
	for _, r := range l.releases {
		allowed = append(allowed, strings.Fields(r["PORTABLE_PREFIXES"])...)
	}
	at := place{0, l.osFile, 0}
	if len(allowed) == 0 {
		if l.releases[0] != nil {
			l.found("portable-prefixes-unset", at, "PORTABLE_PREFIXES is not set: whoever renames the image chooses which units are attached",
				"add PORTABLE_PREFIXES="+strings.Join(l.prefixes, " "))
		}
		return nil
	}
	for _, p := range l.prefixes {
		if !slices.Contains(allowed, p) {
			l.found("portable-prefixes-mismatch", at, fmt.Sprintf("PORTABLE_PREFIXES does not allow the prefix %s", p),
				"add it there, or rename the image; allowed are "+strings.Join(allowed, " "))
		}
	}
	for _, p := range allowed {
		if !l.anyUnit(p) {
			l.found("portable-prefixes-unused", at, fmt.Sprintf("no unit has %s, which is one of the PORTABLE_PREFIXES", p),
				"take it out, or rename the units")
		}
	}
	return nil
}

// anyUnit tells whether a unit of the images has a prefix.
func (l *lint) anyUnit(prefix string) bool {
	for name := range l.others {
		if matchUnit(name, []string{prefix}) {
			return true
		}
	}
	return slices.ContainsFunc(l.units, func(u *lintUnit) bool { return matchUnit(u.Name, []string{prefix}) })
}

// checkImages looks at what is not about units.
func (l *lint) checkImages() error {
	for i, img := range l.layers {
		if len(checkPaths(Marker{img.Path})) > 0 {
			l.found("image-path", place{i, "", 0}, "the path of the image has characters that no unit file can have", "rename it")
		}
		l.checkProtection(i, img)
	}
	const id = "/etc/machine-id"
	text, err := l.layers.readFile(id, maxRelease)
	if word := strings.TrimSpace(string(text)); err == nil && word != "" && word != "uninitialized" {
		l.found("machine-id", place{0, id, 0}, "the image brings a machine ID, which then is that of many machines", "make the file empty")
	}
	return nil
}

// checkProtection tells of image files that anyone may change. Directories have
// nothing that could keep them from it.
func (l *lint) checkProtection(layer int, img *image.Image) {
	at := place{layer, "", 0}
	switch {
	case img.Layout == nil:
	case img.Layout.Verity == nil:
		l.found("not-protected", at, "nothing notices if the image is changed or damaged", "build it with verity data, and sign them")
	case errors.Is(img.Layout.Verity.Unsigned, image.ErrUnsigned):
		l.found("not-protected", at, "the image has verity data, but nobody signed them: who can change it can change them, too", "sign the root hash")
	}
}

// rootPart is the part of an image file that is mounted as its root; nil if there
// is none, and an empty root in memory takes its place.
func rootPart(img *image.Image) *image.Part {
	for i, p := range img.Layout.Parts {
		if p.Designator == "root" {
			return &img.Layout.Parts[i]
		}
	}
	return nil
}
