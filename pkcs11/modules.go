package pkcs11

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Module is a PKCS#11 library that can be loaded.
type Module struct {
	Name     string // of its configuration, "softhsm2"; "" if named directly
	Path     string // as configured; p11-kit looks for a relative one in its own folder
	Reserved string // what it is to be told when it starts, "" for nothing
	priority int
}

// title names the module for a message.
func (m Module) title() string {
	if m.Name != "" {
		return m.Name
	}
	return m.Path
}

// Config is where modules are configured. Format and meaning: pkcs11.conf(5).
type Config struct {
	Root string // of the file system, "/"
	User string // the folder of a person's own, "" for none: what root runs has none
	// Programs are the names that enable-in and disable-in know this program by.
	Programs []string
}

// Limits of what is read of a configuration.
const (
	maxConfig  = 64 << 10 // bytes of one file
	maxModules = 64
)

// Modules returns the configured modules that are enabled and may have keys, those
// that are preferred first. A file that can't be read, or makes no sense, is skipped and
// named in the error, which may come along with modules.
func (c Config) Modules() ([]Module, error) {
	var errs []error
	fields := map[string]map[string]string{}
	for _, dir := range c.folders(&errs) {
		errs = append(errs, addFolder(fields, dir)...)
	}
	var list []Module
	for name, f := range fields {
		// A "remote" of p11-kit's is a program of its own choice: we start only
		// modules. What is about whom to trust has no keys.
		if f["module"] == "" || !c.enabled(f) || f["trust-policy"] == "yes" {
			continue
		}
		priority, _ := strconv.Atoi(f["priority"])
		list = append(list, Module{Name: name, Path: f["module"], Reserved: f["x-init-reserved"], priority: priority})
	}
	slices.SortFunc(list, func(a, b Module) int {
		if a.priority != b.priority {
			return b.priority - a.priority
		}
		return strings.Compare(a.Name, b.Name)
	})
	if len(list) > maxModules {
		errs = append(errs, fmt.Errorf("of %d PKCS#11 modules only %d are used", len(list), maxModules))
		list = list[:maxModules]
	}
	return list, errors.Join(errs...)
}

// folders lists where modules are configured, the first one first: what it says
// counts.
func (c Config) folders(errs *[]error) []string {
	system := []string{filepath.Join(c.Root, "etc/pkcs11/modules"), filepath.Join(c.Root, "usr/share/p11-kit/modules")}
	if c.User == "" {
		return system
	}
	mode := "merge"
	for _, file := range []string{filepath.Join(c.Root, "etc/pkcs11/pkcs11.conf"), filepath.Join(c.User, "pkcs11.conf")} {
		f, err := readConfig(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			*errs = append(*errs, err)
		}
		if m := f["user-config"]; m != "" {
			mode = m
		}
		if mode == "none" {
			return system
		}
	}
	own := filepath.Join(c.User, "modules")
	if mode == "only" || mode == "override" {
		return []string{own}
	}
	return append([]string{own}, system...)
}

// addFolder adds what the files of a folder say and earlier ones have left open.
func addFolder(fields map[string]map[string]string, dir string) []error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return []error{err}
	}
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".module")
		if !ok || !isModuleName(name) {
			continue
		}
		f, err := readConfig(filepath.Join(dir, e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if fields[name] == nil {
			fields[name] = map[string]string{}
		}
		for key, value := range f {
			if _, ok := fields[name][key]; !ok {
				fields[name][key] = value
			}
		}
	}
	return errs
}

// isModuleName is what p11-kit asks of the name of such a file.
func isModuleName(name string) bool {
	for i, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '_' && c != '-' && c != '.') {
			return false
		}
	}
	return name != ""
}

func readConfig(file string) (map[string]string, error) {
	f, err := openFile(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	fields, err := parseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return fields, nil
}

// openFile opens a regular file; a pipe would hold us up.
func openFile(file string) (*os.File, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file", file)
	}
	return os.Open(file)
}

// parseConfig reads lines of the form "name: value".
func parseConfig(text []byte) (map[string]string, error) {
	if len(text) > maxConfig {
		return nil, fmt.Errorf("longer than %d bytes", maxConfig)
	}
	fields := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxConfig+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || line[0] == '[' {
			return nil, fmt.Errorf("line %d: not of the form name: value", n)
		}
		fields[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return fields, lines.Err()
}

// enabled tells whether a module is for this program.
func (c Config) enabled(f map[string]string) bool {
	ours := func(list string) bool {
		return slices.ContainsFunc(strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }),
			func(name string) bool { return slices.Contains(c.Programs, name) })
	}
	if in, ok := f["enable-in"]; ok {
		return ours(in)
	}
	return !ours(f["disable-in"])
}
