package build

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lockport/lockport/portable"
)

// SpecName is what a specification is called in the folder of a service.
const SpecName = "portable.conf"

// maxSpec is far more than any specification has.
const maxSpec = 1 << 20

// ReadRecipe reads a specification, a file of systemd's syntax. Paths of the host
// in it are relative to the folder that it is in.
func ReadRecipe(name string) (*Recipe, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSpec {
		return nil, fmt.Errorf("%w %s is larger than any", ErrSpec, name)
	}
	r, err := parseRecipe(text, filepath.Dir(name), func(file string) error { _, err := os.Stat(file); return err })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// ParseRecipe reads the text of a specification. Paths of the host in it are
// relative to a folder.
func ParseRecipe(text []byte, dir string) (*Recipe, error) {
	return parseRecipe(text, dir, func(string) error { return nil })
}

// parseRecipe also asks of each file that goes into the image if it is there: who
// finds out later doesn't know the line any more.
func parseRecipe(text []byte, dir string, there func(file string) error) (*Recipe, error) {
	list, err := portable.ParseSettings(text, "Image", "Content", "Output")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	r := &Recipe{}
	p := specParser{r, dir, there}
	for _, s := range list {
		set, ok := p.setters()[s.Section+"."+s.Key]
		if !ok {
			return nil, fmt.Errorf("%w: line %d: nothing is called %s= in [%s]", ErrSpec, s.Line, s.Key, s.Section)
		}
		if s.Value == "" {
			return nil, fmt.Errorf("%w: line %d: %s= has no value", ErrSpec, s.Line, s.Key)
		}
		if err := set(s.Value); err != nil {
			return nil, fmt.Errorf("line %d: %w", s.Line, err)
		}
	}
	return r, nil
}

type specParser struct {
	recipe *Recipe
	dir    string
	there  func(file string) error
}

// host is a path of the host.
func (p specParser) host(text string) string {
	if filepath.IsAbs(text) {
		return text
	}
	return filepath.Join(p.dir, text)
}

// setters has what each key of a specification does.
func (p specParser) setters() map[string]func(string) error {
	r := p.recipe
	return map[string]func(string) error{
		"Image.Name":             checked(checkName, once(&r.Name)),
		"Image.Version":          checked(checkVersion, once(&r.Version)),
		"Image.PrettyName":       once(&r.Pretty),
		"Image.Prefixes":         func(v string) error { r.Prefixes = append(r.Prefixes, strings.Fields(v)...); return nil },
		"Image.Release":          more(&r.Release, ParseField),
		"Content.Go":             p.files(&r.Go),
		"Content.Program":        p.files(&r.Programs),
		"Content.File":           p.files(&r.Files),
		"Content.Unit":           func(v string) error { return p.units(v) },
		"Content.Directory":      func(v string) error { r.Dirs = append(r.Dirs, v); return nil },
		"Content.Link":           more(&r.Links, ParseLink),
		"Content.FromTree":       p.hostOnce(&r.FromTree),
		"Content.FromOCI":        p.hostOnce(&r.FromOCI),
		"Output.File":            p.hostOnce(&r.File),
		"Output.Format":          checked(oneOf("format", formats), once(&r.Format)),
		"Output.Compress":        checked(oneOf("compressor", slices.Collect(maps.Keys(compressors))), once(&r.Compressor)),
		"Output.Level":           number(&r.Level),
		"Output.BlockSize":       number(&r.BlockSize),
		"Output.Verity":          checked(oneOf("place for a hash tree", protections), once(&r.Verity)),
		"Output.SignKey":         p.hostOnce(&r.KeyFile),
		"Output.SignCertificate": p.hostOnce(&r.Certificate),
	}
}

func once(to *string) func(string) error {
	return func(v string) error {
		if *to != "" {
			return fmt.Errorf("%w: there is %q already", ErrSpec, *to)
		}
		*to = v
		return nil
	}
}

// checked looks at a value first.
func checked(check, set func(string) error) func(string) error {
	return func(v string) error {
		if err := check(v); err != nil {
			return err
		}
		return set(v)
	}
}

func oneOf[T ~string](what string, words []T) func(string) error {
	return func(v string) error {
		if !slices.Contains(words, T(v)) {
			return fmt.Errorf("%w: %q is no %s", ErrSpec, v, what)
		}
		return nil
	}
}

func (p specParser) hostOnce(to *string) func(string) error {
	set := once(to)
	return func(v string) error { return set(p.host(v)) }
}

func number(to *int) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseUint(v, 10, 31)
		switch {
		case err != nil:
			return fmt.Errorf("%w: %q is no number", ErrSpec, v)
		case *to != 0:
			return fmt.Errorf("%w: there is %d already", ErrSpec, *to)
		}
		*to = int(n)
		return nil
	}
}

func more[T any](to *[]T, parse func(string) (T, error)) func(string) error {
	return func(v string) error {
		item, err := parse(v)
		if err == nil {
			*to = append(*to, item)
		}
		return err
	}
}

func (p specParser) files(to *[]File) func(string) error {
	return func(v string) error {
		f := ParseFile(v)
		f.Source = p.host(f.Source)
		*to = append(*to, f)
		return p.there(f.Source)
	}
}

// units adds units, several in a line.
func (p specParser) units(v string) error {
	for _, name := range strings.Fields(v) {
		unit := p.host(name)
		if err := p.there(unit); err != nil {
			return err
		}
		p.recipe.Units = append(p.recipe.Units, unit)
	}
	return nil
}

// With returns the recipe with another one's words: in addition where there can be
// several, and in place where there is one.
func (r *Recipe) With(o Recipe) Recipe {
	sum := *r
	for _, pair := range []struct{ to, from *string }{
		{&sum.Name, &o.Name}, {&sum.Version, &o.Version}, {&sum.Pretty, &o.Pretty}, {&sum.FromTree, &o.FromTree}, {&sum.FromOCI, &o.FromOCI},
		{&sum.File, &o.File}, {&sum.Format, &o.Format}, {&sum.Compressor, &o.Compressor}, {&sum.Verity, &o.Verity},
		{&sum.KeyFile, &o.KeyFile}, {&sum.Certificate, &o.Certificate},
	} {
		if *pair.from != "" {
			*pair.to = *pair.from
		}
	}
	for _, pair := range []struct{ to, from *int }{{&sum.Level, &o.Level}, {&sum.BlockSize, &o.BlockSize}} {
		if *pair.from != 0 {
			*pair.to = *pair.from
		}
	}
	sum.Prefixes = append(sum.Prefixes, o.Prefixes...)
	sum.Release = append(sum.Release, o.Release...)
	sum.Go = append(sum.Go, o.Go...)
	sum.Programs = append(sum.Programs, o.Programs...)
	sum.Units = append(sum.Units, o.Units...)
	sum.Files = append(sum.Files, o.Files...)
	sum.Dirs = append(sum.Dirs, o.Dirs...)
	sum.Links = append(sum.Links, o.Links...)
	return sum
}
