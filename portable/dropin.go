package portable

import (
	"fmt"
	"path"
	"strings"

	"github.com/lockport/lockport/image"
)

// dropIn is the content of 20-portable.conf.
func dropIn(m *Metadata, u Unit, relaxed bool, policy *image.Policy) []byte {
	var b strings.Builder
	line := func(key, value string) { fmt.Fprintf(&b, "%s=%s\n", key, value) }
	field := func(key, name, value string) {
		if value != "" {
			line(key, word(name+"="+value))
		}
	}
	b.WriteString(m.marker().String() + "\n")
	for _, c := range m.copies {
		b.WriteString(c.String() + "\n")
	}
	if unitType(u.Name) != "service" {
		return []byte(b.String())
	}
	b.WriteString("\n[Service]\n")
	line(rootSetting(m.Image.Type), specifiers(m.Image.Path))
	if policy != nil {
		// Systemd has these since 254; before, it only warns.
		line("RootImagePolicy", policy.String())
		line("ExtensionImagePolicy", policy.String())
	}
	own := path.Base(m.info(u).Path)
	field("Environment", "PORTABLE", own)
	field("LogExtraFields", "PORTABLE", own)
	if len(m.Extensions) == 0 {
		field("LogExtraFields", "PORTABLE_NAME_AND_VERSION", m.Release.nameAndVersion(""))
		return []byte(b.String())
	}
	root := path.Base(m.Image.Path)
	field("Environment", "PORTABLE_ROOT", root)
	field("LogExtraFields", "PORTABLE_ROOT", root)
	field("LogExtraFields", "PORTABLE_ROOT_NAME_AND_VERSION", m.Release.nameAndVersion(""))
	// Systemd up to 257 leaves these out for units of the root image, which
	// then run without what the extensions bring.
	for _, e := range m.Extensions {
		b.WriteString("\n")
		line(extensionSetting(e, relaxed))
		field("LogExtraFields", "PORTABLE_EXTENSION", path.Base(e.Image.Path))
		for _, kind := range []string{"SYSEXT_", "CONFEXT_"} {
			field("LogExtraFields", "PORTABLE_EXTENSION_NAME_AND_VERSION", e.Release.nameAndVersion(kind))
		}
	}
	return []byte(b.String())
}

// isTree tells whether the files of an image are files of the host.
func isTree(t image.Type) bool { return t == image.Directory || t == image.Subvolume }

func rootSetting(t image.Type) string {
	if isTree(t) {
		return "RootDirectory"
	}
	return "RootImage"
}

func extensionSetting(e Extension, relaxed bool) (key, value string) {
	if isTree(e.Image.Type) {
		return "ExtensionDirectories", word(e.Image.Path)
	}
	// A colon begins the options of an image.
	value = strings.ReplaceAll(e.Image.Path, ":", `\:`)
	if relaxed {
		value += ":x-systemd.relax-extension-release-check"
	}
	return "ExtensionImages", word(value)
}

// word writes a value of a setting that takes a list of words. Only what needs
// quotes gets them, as the original writes none.
func word(text string) string {
	text = specifiers(text)
	if !strings.ContainsAny(text, " \t'\"\\") {
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// specifiers keeps the service manager from expanding anything.
func specifiers(text string) string { return strings.ReplaceAll(text, "%", "%%") }
