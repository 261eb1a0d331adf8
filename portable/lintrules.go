package portable

import "slices"

// LintRule is one thing that Lint checks.
type LintRule struct {
	Name     string   // stays the same
	Severity Severity // what its findings usually have
	Text     string   // what is wrong
}

// LintRules returns the rules, in the order of their subjects.
func LintRules() []LintRule { return slices.Clone(lintRules) }

func severityOf(rule string) Severity {
	i := slices.IndexFunc(lintRules, func(r LintRule) bool { return r.Name == rule })
	if i < 0 {
		panic("no such rule: " + rule) // a slip of ours, which the tests of all rules find
	}
	return lintRules[i].Severity
}

var lintRules = []LintRule{
	{"os-release-missing", Error, "the image has no os-release"},
	{"os-release-invalid", Error, "the release file can't be read, or is no list of assignments"},
	{"os-release-id", Error, "ID is not set"},
	{"os-release-version", Note, "no field says which version of the image this is"},
	{"portable-name-unset", Note, "PORTABLE_PRETTY_NAME is not set"},
	{"portable-prefixes-unset", Warning, "PORTABLE_PREFIXES is not set"},
	{"portable-prefixes-mismatch", Error, "PORTABLE_PREFIXES does not allow the prefix"},
	{"portable-prefixes-unused", Warning, "no unit has one of the PORTABLE_PREFIXES"},
	{"extension-release-invalid", Error, "an extension has no valid extension-release, or an os-release besides"},
	{"extension-mismatch", Error, "an extension is not for this image, or given twice"},
	{"image-path", Error, "no unit file can name the path of the image"},
	{"image-damaged", Error, "a part of the image can't be read"},
	{"too-much", Error, "the image has more units than are looked at"},
	{"machine-id", Warning, "/etc/machine-id has content"},
	{"not-protected", Note, "an image file has no verity data"},

	{"no-units", Error, "no unit matches"},
	{"unit-name", Warning, "a file is called like a unit but for a character that no unit's name has"},
	{"unit-type", Warning, "units of this type are not attached"},
	{"unit-not-attached", Warning, "a unit does not have the prefix"},
	{"unit-exists", Warning, "the host has a unit of this name"},
	{"unit-clash", Warning, "an earlier image has a unit of this name"},
	{"unit-irregular", Error, "a unit file is no regular file, or is too large"},
	{"unit-empty", Warning, "a unit file is empty or a link to /dev/null"},
	{"unit-link-broken", Error, "a unit file is a link to what is not in the image"},
	{"unit-link-absolute", Warning, "a unit file is an absolute link, which systemd-portabled follows out of the image"},
	{"unit-characters", Error, "a unit file has control characters, or is not UTF-8"},
	{"unit-syntax", Warning, "a line is not what a unit file has"},
	{"unit-incomplete", Error, "what units of this type need is missing"},
	{"drop-in-ignored", Warning, "drop-ins and enablement links of the image are not attached"},
	{"specifier", Error, "a percent sign begins no specifier"},
	{"value-syntax", Error, "the quotes in a value don't match"},

	{"exec-relative", Error, "a command is neither an absolute path nor a bare name"},
	{"exec-missing", Error, "a program is not in the image"},
	{"exec-directory", Error, "a program is a directory or the like"},
	{"exec-not-executable", Error, "a program is not executable for the user of the service"},
	{"exec-format", Error, "a program is neither an ELF file nor a script"},
	{"exec-architecture", Error, "a program is for another architecture"},
	{"exec-interpreter-missing", Error, "the interpreter of a script, or the loader of a program, is not in the image"},
	{"exec-library-missing", Error, "a shared library is not in the image"},
	{"exec-on-host", Warning, "a command is run on the host and not in the image"},
	{"path-not-searchable", Error, "the user of the service may not enter a directory"},
	{"working-directory-missing", Error, "WorkingDirectory= is not in the image"},
	{"condition-on-host", Warning, "a path in a condition is in the image, but looked for on the host"},
	{"environment-file-on-host", Warning, "EnvironmentFile= is in the image, but is read on the host"},

	{"mount-point-missing", Error, "something is mounted where the image has nothing"},
	{"mount-point-type", Error, "a directory is mounted on a file, or a file on a directory"},
	{"root-in-unit", Error, "a unit says itself which image it runs in"},
	{"setting-overridden", Note, "the profile sets something else"},
	{"user-unknown", Warning, "a user or group is not known where it is needed"},
	{"bus-name-dynamic", Error, "a service with a dynamic user wants to own a bus name"},
	{"tasks-max-go", Warning, "a Go program is given fewer tasks than it needs"},
	{"no-network", Note, "a service without a socket unit has no network"},

	{"trigger-missing", Error, "a socket, timer or path has no unit to start"},
	{"reference-missing", Warning, "a unit refers to one that neither the image nor the host has"},
	{"reference-not-attached", Warning, "a unit refers to one of the image that is not attached"},
	{"install-missing", Note, "nothing starts the unit, and it can't be enabled"},
}
