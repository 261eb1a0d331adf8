package portable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lockport/lockport/image"
)

// Severity is how much a finding matters.
type Severity string

// The severities, the gravest first.
const (
	Error   Severity = "error"   // a unit can't be attached, or will not start
	Warning Severity = "warning" // something does not do what whoever wrote it will expect
	Note    Severity = "note"    // good to know
)

// severities, the gravest first.
var severities = []Severity{Error, Warning, Note}

// ErrArchitecture: programs for this architecture are not known.
var ErrArchitecture = errors.New("no such architecture")

// Bounds on what an image may ask for, each far above what images have. An image
// of 2000 services makes some 8000 checks.
const (
	maxFindings  = 1000     // more than anyone will read
	maxUnits     = 1 << 12  // of all images
	maxUnitBytes = 32 << 20 // of all of their files
	maxChecks    = 1 << 14  // look-ups in an image or on the host
)

// Finding is one thing that is wrong with an image, and what mends it.
type Finding struct {
	Severity Severity `json:"severity"`
	// Rule is the identifier of what was checked, one of LintRules. It stays the same.
	Rule string `json:"rule"`
	// Image is the path of the image, beneath the host's root.
	Image string `json:"image"`
	// File is an absolute path in the image, empty for the image as such.
	File string `json:"file"`
	// Line is counted from 1, 0 for the file as such.
	Line int    `json:"line"`
	Text string `json:"text"`
	Fix  string `json:"fix"`
}

// Report is what Lint found.
type Report struct {
	Image        string    `json:"image"`
	Extensions   []string  `json:"extensions"`
	Profile      string    `json:"profile"`
	Architecture string    `json:"architecture"`
	Prefixes     []string  `json:"prefixes"` // none for all units
	Units        []string  `json:"units"`    // those that were looked at, sorted
	Findings     []Finding `json:"findings"` // sorted by image, file and line
}

// Count returns how many findings have a severity.
func (r *Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// LintOptions say for what an image is checked.
type LintOptions struct {
	// Profile that the image will be attached with, "" for the default.
	Profile string
	// Architecture that the programs are for, in systemd's words as in
	// ConditionArchitecture=; "" for that of this process.
	Architecture string
}

// Lint looks for everything that will keep services from being attached or from
// running, all at once, and changes nothing. What is wrong with the image is in
// the report; an error is returned only if it can't be checked: there is no such
// image or profile, or it can't be read at all.
func Lint(ctx context.Context, h *Host, ref Ref, o LintOptions) (*Report, error) {
	l, err := newLint(ctx, h, ref, o)
	if err != nil {
		return nil, err
	}
	defer l.close()
	for _, check := range []func() error{
		l.checkReleases, l.checkImages, l.collectUnits, l.relate, l.checkPrefixes, l.checkUnits, l.checkReferences,
	} {
		if err := errors.Join(check(), ctx.Err()); err != nil {
			return nil, err
		}
	}
	return l.report(), nil
}

// lint is a check in progress.
type lint struct {
	ctx      context.Context
	host     *Host
	ref      Ref
	profile  profile
	sandbox  map[string]settings // of the profile, for each type of unit
	arch     string              // in systemd's words
	prefixes []string
	layers   layers    // the root image, then the extensions
	releases []Release // of the layers; nil where there is none
	osFile   string    // the os-release
	units    []*lintUnit
	byName   map[string]*lintUnit
	started  map[string]bool  // units that others start
	trigger  map[string]bool  // those of them that a socket, timer or path starts
	others   map[string]place // units in the images that are not attached
	folders  []foundFolder
	findings []Finding
	seen     map[Finding]bool
	size     int  // of the unit files
	broken   bool // a part of an image can't be read
	checks   int
	programs map[string]inspected // what is known of files that are executed
	dirs     []string             // where shared libraries are, once it is known
	names    map[string]bool      // whether a unit is known, as far as it was asked for
	mounts   map[string]bool      // what was checked that the profile mounts
}

func newLint(ctx context.Context, h *Host, ref Ref, o LintOptions) (*lint, error) {
	prefixes, err := prefixesOf(ref.Image, ref.Prefixes)
	if err != nil {
		return nil, err
	}
	p, err := h.findProfile(cmp.Or(o.Profile, DefaultProfile))
	if err != nil {
		return nil, err
	}
	sandbox, err := h.profileSettings(p)
	if err != nil {
		return nil, err
	}
	l := &lint{ctx: ctx, host: h, ref: ref, profile: p, sandbox: sandbox, prefixes: prefixes, arch: cmp.Or(o.Architecture, architectures[runtime.GOARCH]),
		byName: map[string]*lintUnit{}, started: map[string]bool{}, trigger: map[string]bool{}, others: map[string]place{},
		seen: map[Finding]bool{}, programs: map[string]inspected{}, names: map[string]bool{}, mounts: map[string]bool{}}
	if _, ok := machines[l.arch]; !ok {
		return nil, fmt.Errorf("%q: %w", l.arch, ErrArchitecture)
	}
	for _, name := range append([]string{ref.Image}, ref.Extensions...) {
		img, err := image.Open(ctx, h.dir, name, h.images...)
		if err != nil {
			l.close()
			return nil, err
		}
		l.layers = append(l.layers, img)
	}
	return l, nil
}

// profileSettings reads what a profile sets for each type of unit.
func (h *Host) profileSettings(p profile) (map[string]settings, error) {
	all := map[string]settings{}
	for _, t := range unitTypes {
		_, text, err := h.profileDropIn(p, t)
		if err != nil {
			return nil, err
		}
		for _, s := range parseUnitFile(text, unitSections[t]...).settings {
			s.profile = true
			all[t] = append(all[t], s)
		}
	}
	return all, nil
}

func (l *lint) close() {
	for _, img := range l.layers {
		_ = img.Close() // only read from
	}
}

// may counts look-ups. With more than any image needs, the rest is left out.
func (l *lint) may() bool {
	if l.checks++; l.checks == maxChecks {
		l.found("too-much", place{}, "there is more to check than any image should have, and not all of it was", "find out who makes units of such a size")
	}
	return l.checks < maxChecks && l.ctx.Err() == nil
}

// place is what a finding is about.
type place struct {
	layer int
	file  string
	line  int
}

// found notes a finding with the severity that its rule has.
func (l *lint) found(rule string, at place, text, fix string) {
	l.foundAs(severityOf(rule), rule, at, text, fix)
}

func (l *lint) foundAs(s Severity, rule string, at place, text, fix string) {
	f := Finding{s, rule, l.layers[at.layer].Path, visible(at.file), at.line, visible(text), visible(fix)}
	if len(l.findings) == maxFindings-1 {
		f = Finding{Warning, "too-much", l.layers[0].Path, "", 0, "there are more findings than these", "mend these, and look again"}
	}
	if len(l.findings) < maxFindings && !l.seen[f] {
		l.seen[f] = true
		l.findings = append(l.findings, f)
	}
}

// visible escapes what an image may have put into a text to fool a terminal.
func visible(text string) string {
	if image.Printable(text) {
		return text
	}
	var b strings.Builder
	for _, c := range []byte(strings.ToValidUTF8(text, "\uFFFD")) {
		if c < 0x20 || c == 0x7f {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	// The control characters beyond ASCII have two bytes each.
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, b.String())
}

func (l *lint) report() *Report {
	r := &Report{Image: l.layers[0].Path, Extensions: []string{}, Profile: l.profile.name, Architecture: l.arch,
		Prefixes: append([]string{}, l.prefixes...), Units: []string{}, Findings: append([]Finding{}, l.findings...)}
	for _, img := range l.layers[1:] {
		r.Extensions = append(r.Extensions, img.Path)
	}
	for _, u := range l.units {
		r.Units = append(r.Units, u.Name)
	}
	slices.Sort(r.Units)
	order := map[string]int{}
	for i, img := range l.layers {
		order[img.Path] = i
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(order[a.Image]-order[b.Image], cmp.Compare(a.File, b.File), a.Line-b.Line, slices.Index(severities, a.Severity)-slices.Index(severities, b.Severity),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Text, b.Text))
	})
	return r
}
