// Package deps checks the rules about who may import and call what. It reads
// every Go file of the module, for all systems and build tags.
package deps

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/lockport/lockport/"

// arrows says what of ours each package may import. A new noun gets its line
// here. Support for tests (a folder called like its package with "test" at the
// end) may import what its package may, and that package.
var arrows = map[string][]string{
	"secret":          {},
	"internal/argon2": {"secret"},
	"luks2":           {"internal/argon2", "secret"},
	"volume":          {"luks2", "secret"},
	"tpm2/eventlog":   {},
	"tpm2/uki":        {},
	"tpm2":            {"tpm2/eventlog", "tpm2/uki", "volume", "luks2", "internal/argon2", "secret"},
	"fido2":           {"volume", "luks2", "secret"},
	"pkcs11":          {"volume", "luks2", "secret"},
	"crypttab":        {"volume", "luks2", "secret"},
	"internal/ask":    {"volume", "luks2", "secret"},
	"internal/kernel": {"luks2", "image", "secret"},

	"internal/zstd":     {},
	"internal/squashfs": {"internal/zstd"},
	"internal/imagefs":  {},
	"internal/erofs":    {"internal/imagefs", "internal/squashfs"},
	"internal/ext4":     {"internal/imagefs"},
	"internal/version":  {},
	"internal/gpt":      {"internal/version"},
	"internal/verity":   {},
	"image":             {"internal/squashfs", "internal/imagefs", "internal/erofs", "internal/ext4", "internal/gpt", "internal/verity", "internal/version"},
	"portable":          {"image", "internal/squashfs"},
	"build":             {"portable", "image", "internal/squashfs", "internal/erofs", "internal/gpt", "internal/verity", "secret"},
	"internal/bus":      {"portable", "image"},
	"internal/journal":  {},
	"idle":              {},

	"cmd/lockport": {
		"internal/bus", "internal/journal", "build", "portable", "image", "idle",
		"tpm2", "tpm2/eventlog", "tpm2/uki", "fido2", "pkcs11", "crypttab", "internal/ask", "internal/kernel",
		"volume", "luks2", "secret",
	},
	"examples/walkthrough": {"idle"},
	"examples/activate":    {},
}

// unixFolders may import x/sys/unix in every file, all others in *_linux.go.
var unixFolders = []string{"internal/kernel", "internal/ask", "internal/argon2", "secret"}

// vagueNames say nothing about what is inside.
var vagueNames = []string{"util", "utils", "common", "types", "manager", "helpers", "misc"}

// file is one parsed Go file; folder and name are slash paths below the module.
type file struct {
	folder, name string
	ast          *ast.File
	fset         *token.FileSet
}

func (f file) imports() []string {
	var paths []string
	for _, i := range f.ast.Imports {
		p, _ := strconv.Unquote(i.Path.Value) // the parser has checked it
		paths = append(paths, p)
	}
	return paths
}

// forTests tells whether the file's code is never in the product.
func (f file) forTests() bool {
	return strings.HasSuffix(f.name, "_test.go") || f.folder == "test" || strings.HasPrefix(f.folder, "test/") ||
		supported(f.folder) != ""
}

// supported is the package that a test support folder belongs to, or "".
func supported(folder string) string {
	parent, base := path.Split(folder)
	parent = strings.TrimSuffix(parent, "/")
	if parent != "" && base == path.Base(parent)+"test" {
		return parent
	}
	return ""
}

// parsed is done once for all tests; they only read it.
var parsed = sync.OnceValues(parse)

// load returns all Go files of the module.
func load(t *testing.T) []file {
	t.Helper()
	files, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found only %d Go files; the module is not where this test looks for it", len(files))
	}
	return slices.Clone(files)
}

func parse() ([]file, error) {
	var files []file
	root := "../.."
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && rel != "." && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(base, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(rel))
		files = append(files, file{folder, folder + "/" + base, tree, fset})
		return nil
	})
	return files, err
}

// product is load without code for tests.
func product(t *testing.T) []file {
	t.Helper()
	return slices.DeleteFunc(load(t), file.forTests)
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	for _, f := range load(t) {
		if strings.HasSuffix(f.name, "_test.go") || strings.HasPrefix(f.folder, "test/") {
			continue
		}
		folder := f.folder
		may, known := arrows[folder]
		if p := supported(folder); p != "" {
			may, known = append(slices.Clone(arrows[p]), p), true
		}
		if !known {
			t.Errorf("%s: package %s has no line in the table of arrows", f.name, folder)
			continue
		}
		for _, i := range f.imports() {
			ours, ok := strings.CutPrefix(i, module)
			if ok && !slices.Contains(may, ours) {
				t.Errorf("%s: %s may not import %s", f.name, folder, ours)
			}
		}
	}
}

// Fakes and test harnesses never reach the product.
func TestOnlyTestsImportTestSupport(t *testing.T) {
	t.Parallel()
	for _, f := range product(t) {
		for _, i := range f.imports() {
			if ours, ok := strings.CutPrefix(i, module); ok && supported(ours) != "" || i == "testing" {
				t.Errorf("%s: imports %s, which is for tests", f.name, i)
			}
		}
	}
}

func TestSystemCallsStayAtTheEdge(t *testing.T) {
	t.Parallel()
	for _, f := range product(t) {
		if slices.Contains(unixFolders, f.folder) || strings.HasSuffix(f.name, "_linux.go") {
			continue
		}
		if slices.Contains(f.imports(), "golang.org/x/sys/unix") {
			t.Errorf("%s: imports x/sys/unix, but is neither in one of %v nor a *_linux.go", f.name, unixFolders)
		}
	}
}

func TestCommandsAreThin(t *testing.T) {
	t.Parallel()
	for _, f := range product(t) {
		if f.folder != "cmd/lockport" {
			continue
		}
		for _, i := range f.imports() {
			if strings.HasPrefix(i, "crypto/") || strings.HasPrefix(i, "golang.org/x/crypto") {
				t.Errorf("%s: imports %s; commands know no cryptography", f.name, i)
			}
			if i == module+"internal/kernel" && path.Base(f.name) != "deps.go" {
				t.Errorf("%s: imports internal/kernel; only deps.go may", f.name)
			}
		}
	}
}

func TestNoInit(t *testing.T) {
	t.Parallel()
	for _, f := range product(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init; wiring is an explicit list", f.name)
			}
		}
	}
}

// forbidden are names of the standard library that print, exit or look at the
// environment and the terminal.
//
// idle may ask the environment for what the service manager has put there, when
// its caller has it do so.
var forbidden = map[string]*regexp.Regexp{
	"os":  regexp.MustCompile(`^(Exit|Getenv|LookupEnv|Environ|ExpandEnv|Stdin|Stdout|Stderr)$`),
	"fmt": regexp.MustCompile(`^(Print|Scan)`),
	"log": regexp.MustCompile(`.`),
}

// program tells whether the file is part of a program and not of a library.
func program(f file) bool {
	return strings.HasPrefix(f.folder, "cmd/") || strings.HasPrefix(f.folder, "examples/")
}

func TestLibrariesAreSilent(t *testing.T) {
	t.Parallel()
	for _, f := range product(t) {
		if program(f) || f.folder == "internal/ask" || f.name == "idle/manager.go" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if ok && forbidden[pkg.Name] != nil && slices.Contains(f.imports(), pkg.Name) && forbidden[pkg.Name].MatchString(sel.Sel.Name) {
				t.Errorf("%s: %s.%s belongs into cmd", f.fset.Position(n.Pos()), pkg.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

var flagName = regexp.MustCompile(`(^|[^-])--[a-z]`)

func TestLibrariesNameNoFlags(t *testing.T) {
	t.Parallel()
	for _, f := range product(t) {
		if program(f) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && flagName.MatchString(lit.Value[1:]) {
				t.Errorf("%s: names a flag; only cmd knows them", f.fset.Position(n.Pos()))
			}
			return true
		})
	}
}

func TestPackageNamesAreNouns(t *testing.T) {
	t.Parallel()
	for _, f := range load(t) {
		if slices.Contains(vagueNames, f.ast.Name.Name) {
			t.Errorf("%s: a package called %s", f.name, f.ast.Name.Name)
		}
	}
}
