package image

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/lockport/lockport/internal/gpt"
	"github.com/lockport/lockport/internal/version"
)

// pick says which entry of a directory is wanted: the best of those that are
// called NAME_VERSION[_ARCH][+LEFT[-DONE]]SUFFIX. See systemd.v(7), UAPI.16.
type pick struct {
	dir    string
	name   string
	suffix string // ".raw", or "" for directories
}

// parsePick takes apart a path DIR/NAME[.raw].v, or DIR.v/NAME___[.raw].
func parsePick(p string) (pick, bool) {
	p = path.Clean(p)
	if dir := path.Dir(p); strings.HasSuffix(dir, ".v") {
		if i := strings.LastIndex(path.Base(p), "___"); i > 0 {
			name, suffix := path.Base(p)[:i], path.Base(p)[i+3:]
			return pick{dir, name, suffix}, suffix == "" || suffix == ".raw"
		}
	}
	base, ok := strings.CutSuffix(path.Base(p), ".v")
	if !ok || base == "" {
		return pick{}, false
	}
	name, raw := strings.CutSuffix(base, ".raw")
	if name == "" {
		return pick{}, false
	}
	if raw {
		return pick{p, name, ".raw"}, true
	}
	return pick{p, name, ""}, true
}

// candidate is an entry that is called as wanted.
type candidate struct {
	entry, version string
	left, done     int // tries, as systemd-sysupdate counts them; -1 where they are not counted
	rank           int // of the architecture: 2 the machine's own, 1 one that it runs, too, 0 not named
}

// parse takes apart the name of an entry.
func (f pick) parse(entry string) (c candidate, ok bool) {
	rest, ok := strings.CutPrefix(entry, f.name+"_")
	if !ok {
		return c, false
	}
	if rest, ok = strings.CutSuffix(rest, f.suffix); !ok {
		return c, false
	}
	c = candidate{entry: entry, left: -1, done: -1}
	if i := strings.LastIndexByte(rest, '+'); i >= 0 {
		if !c.counters(rest[i+1:]) {
			return c, false
		}
		rest = rest[:i]
	}
	if i := strings.LastIndexByte(rest, '_'); i >= 0 && gpt.KnownArchitecture(rest[i+1:]) {
		native := gpt.Architecture(runtime.GOARCH)
		switch rest[i+1:] {
		case native:
			c.rank = 2
		case gpt.SecondaryArchitecture(native):
			c.rank = 1
		default:
			return c, false
		}
		rest = rest[:i]
	}
	c.version = rest
	return c, validVersion(rest)
}

func (c *candidate) counters(text string) bool {
	left, done, counted := strings.Cut(text, "-")
	var err error
	if c.left, err = parseCounter(left); err != nil {
		return false
	}
	if c.done = 0; counted {
		c.done, err = parseCounter(done)
	}
	return err == nil
}

func parseCounter(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || strings.HasPrefix(text, "+") {
		return 0, errors.New("no counter")
	}
	return int(n), nil
}

// validVersion tells whether text has the characters of a version: UAPI.10.
func validVersion(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune(".~^-+_", r)
	})
}

// compare puts the better one first.
func (c candidate) compare(o candidate) int {
	return cmp.Or(
		cmp.Compare(boolean(c.left == 0), boolean(o.left == 0)), // one without tries left is the last resort
		version.Compare(o.version, c.version),
		cmp.Compare(o.rank, c.rank),
		cmp.Compare(o.tries(), c.tries()),
		cmp.Compare(c.done, o.done),
		cmp.Compare(o.entry, c.entry),
	)
}

// tries left: without a counter there is no end to them.
func (c candidate) tries() int {
	if c.left < 0 {
		return int(^uint(0) >> 1)
	}
	return c.left
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// pick returns the path of the best entry. It returns [ErrNotFound] if there is
// none.
func (f pick) pick(t *Tree) (string, error) {
	entries, err := fs.ReadDir(t, fsPath(f.dir))
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", f.dir, cause(err))
	}
	var list []candidate
	for _, e := range entries {
		c, ok := f.parse(e.Name())
		if !ok {
			continue
		}
		s, err := t.Stat(fsPath(path.Join(f.dir, e.Name())))
		if err == nil && s.IsDir() == (f.suffix == "") {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return "", fmt.Errorf("%s: %w: no entry is called %s_VERSION%s", f.dir, ErrNotFound, f.name, f.suffix)
	}
	return path.Join(f.dir, slices.MinFunc(list, candidate.compare).entry), nil
}
