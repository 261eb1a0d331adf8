package portable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/image"
)

// fixture is a host with an image, as a tree of files. A path that ends with a
// slash is a directory, a text that begins with "→" is a link, and one that begins
// with "mode" and four digits has that mode.
type fixture map[string]string

const (
	fixtureImage = "srv/web_3/"
	fixtureUnits = fixtureImage + "usr/lib/systemd/system/"
	libraryDir   = fixtureImage + "usr/lib/x86_64-linux-gnu/"
	serviceText  = `[Unit]
Description=Pages, and more
After=network-online.target data.mount
Wants=network-online.target

[Service]
Environment=GOMAXPROCS=1 "TITLE=a b"
ExecStartPre=-clean --all
ExecStart=@/usr/bin/web web \
    --listen \; \
# comment
    --quick
StateDirectory=web
WorkingDirectory=/var/lib/web
Slice=web.slice

[Install]
WantedBy=multi-user.target
Also=web.socket
`
)

// good is an image that nothing is wrong with.
func good() fixture {
	return fixture{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nstatic:x:1:1::/:/bin/false\n", "etc/group": "root:x:0:\n",
		"etc/machine-id": "0123\n", "run/": "",
		fixtureImage + "usr/lib/os-release": "ID=web\nVERSION_ID=3\nPORTABLE_PREFIXES=web\nPORTABLE_PRETTY_NAME=\"Pages\"\n",
		fixtureImage + "etc/os-release":     "→../usr/lib/os-release",
		fixtureImage + "etc/machine-id":     "", fixtureImage + "etc/resolv.conf": "",
		fixtureImage + "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
		fixtureImage + "proc/":      "", fixtureImage + "sys/": "", fixtureImage + "dev/": "", fixtureImage + "run/": "",
		fixtureImage + "tmp/": "", fixtureImage + "var/tmp/": "", fixtureImage + "var/lib/web/": "",
		fixtureImage + "bin": "→usr/bin", fixtureImage + "lib": "→usr/lib", fixtureImage + "lib64": "→/usr/lib64",
		fixtureImage + "usr/bin/web":                       "mode0755" + makeELF(elfSpec{section: ".go.buildinfo"}),
		fixtureImage + "usr/bin/sh":                        "mode0755" + makeELF(elfSpec{interp: "/lib64/ld-linux-x86-64.so.2", needed: []string{"libc.so.6"}}),
		fixtureImage + "usr/bin/env":                       "→sh",
		fixtureImage + "usr/bin/clean":                     "mode0755#!/bin/sh -e\nexit 0\n",
		fixtureImage + "usr/bin/report":                    "mode0755#! /usr/bin/env clean\n",
		fixtureImage + "usr/lib64/ld-linux-x86-64.so.2":    "mode0755" + makeELF(elfSpec{}),
		libraryDir + "libc.so.6":                           makeELF(elfSpec{needed: []string{"ld-linux-x86-64.so.2"}}),
		fixtureUnits + "web.service":                       serviceText,
		fixtureUnits + "web.socket":                        "[Socket]\nListenStream=80\n[Install]\nWantedBy=sockets.target\n",
		fixtureUnits + "web-report.service":                "[Service]\nType=oneshot\nExecStart=/usr/bin/report\n",
		fixtureUnits + "web-report.timer":                  "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n",
		fixtureUnits + "web-talk.socket":                   "[Socket]\nListenStream=/run/talk\nAccept=yes\n[Install]\nWantedBy=sockets.target\n",
		fixtureUnits + "web-talk@.service":                 "[Unit]\nPartOf=web-talk.socket\n[Service]\nExecStart=-/bin/sh -c 'exit 0 ; x'\nStandardInput=socket\n",
		fixtureUnits + "web-drop.path":                     "[Path]\nDirectoryNotEmpty=/var/spool/web\nUnit=web-drop@a.service\n[Install]\nWantedBy=paths.target\n",
		fixtureUnits + "web-drop@.service":                 "[Service]\nExecStart=sh -c \"exec web %i\"\n",
		fixtureUnits + "web.target":                        "[Unit]\nRequires=web-report@%H.service web.service\n",
		fixtureUnits + "web-report@.service":               "[Service]\nEnvironment=GOMAXPROCS=1\nExecStart=:/usr/bin/web --day %%d --user %u\nBindPaths=/srv:/tmp/x\n",
		fixtureImage + "usr/lib/systemd/system/README.txt": "x",
	}
}

// with returns the fixture with a file changed.
func (f fixture) with(p, text string) fixture { f[p] = text; return f }

// without returns the fixture without a file and all below it.
func (f fixture) without(p string) fixture {
	for name := range f {
		if name == p || strings.HasPrefix(name, strings.TrimSuffix(p, "/")+"/") {
			delete(f, name)
		}
	}
	return f
}

// replace changes words of a file.
func (f fixture) replace(p string, words ...string) fixture {
	before := f[p]
	if f[p] = strings.NewReplacer(words...).Replace(before); f[p] == before {
		panic("nothing to replace in " + p)
	}
	return f
}

// service changes words of web.service.
func (f fixture) service(words ...string) fixture {
	return f.replace(fixtureUnits+"web.service", words...)
}

// unit writes a unit.
func (f fixture) unit(name, text string) fixture { return f.with(fixtureUnits+name, text) }

func (f fixture) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range f {
		p := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		mode := fs.FileMode(0o644)
		rest, hasMode := strings.CutPrefix(text, "mode")
		if hasMode {
			_, err := fmt.Sscanf(rest[:4], "%o", &mode)
			must(t, err)
			text = rest[4:]
		}
		target, link := strings.CutPrefix(text, "→")
		switch {
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(p, 0o755))
			if hasMode {
				must(t, os.Chmod(p, mode))
			}
		case link:
			must(t, os.Symlink(target, p))
		default:
			must(t, os.WriteFile(p, []byte(text), mode))
			must(t, os.Chmod(p, mode)) // whatever the umask is
		}
	}
	return dir
}

// lintFixture returns one line for each finding: severity, rule, file and line.
func lintFixture(t *testing.T, f fixture, ref Ref, o LintOptions) []string {
	t.Helper()
	r, err := Lint(ctx(), openHost(t, f.write(t)), ref, o)
	must(t, err)
	list := []string{}
	for _, f := range r.Findings {
		list = append(list, describeFinding(f))
		if f.Text == "" || f.Fix == "" || f.Image == "" || !image.Printable(f.Text+f.Fix) {
			t.Errorf("%+v", f)
		}
	}
	return list
}

func describeFinding(f Finding) string {
	file := strings.TrimPrefix(f.File, "/usr/lib/systemd/system/")
	text := strings.TrimSpace(string(f.Severity) + " " + f.Rule + " " + file)
	if f.Line > 0 {
		text += fmt.Sprintf(":%d", f.Line)
	}
	return text
}

func TestLintGoodImage(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"default", "nonetwork", "strict", "trusted"} {
		if diff := cmp.Diff([]string{}, lintFixture(t, good(), Ref{Image: "/srv/web_3"}, LintOptions{Profile: p, Architecture: "x86-64"})); diff != "" {
			t.Errorf("%s:\n%s", p, diff)
		}
	}
}

func TestLintRules(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range LintRules() {
		if seen[r.Name] || r.Text == "" || !slices.Contains(severities, r.Severity) {
			t.Errorf("%+v", r)
		}
		seen[r.Name] = true
	}
}

func TestLintErrors(t *testing.T) {
	t.Parallel()
	h := openHost(t, good().with("etc/systemd/portable/profile/odd/service.conf/", "").write(t))
	for want, c := range map[error]struct {
		ref Ref
		o   LintOptions
	}{
		image.ErrNotFound: {Ref{Image: "/srv/none"}, LintOptions{}},
		ErrNoProfile:      {Ref{Image: "/srv/web_3"}, LintOptions{Profile: "strickt"}},
		// A sandbox that can't be read is none to check for.
		image.ErrNotRegular: {Ref{Image: "/srv/web_3"}, LintOptions{Profile: "odd"}},
		ErrArchitecture:     {Ref{Image: "/srv/web_3"}, LintOptions{Architecture: "amd64"}},
		ErrBadPrefix:        {Ref{Image: "/srv/web_3", Prefixes: []string{"a,b"}}, LintOptions{}},
	} {
		if r, err := Lint(ctx(), h, c.ref, c.o); !errors.Is(err, want) || r != nil {
			t.Errorf("%v: %v", want, err)
		}
	}
}

// Whatever is in a unit and in a program, there is a report.
func FuzzLint(f *testing.F) {
	f.Add([]byte(serviceText), []byte(makeELF(elfSpec{interp: "/lib64/ld-linux-x86-64.so.2", needed: []string{"libc.so.6"}, runpath: "$ORIGIN"})))
	f.Add([]byte("[Service]\nExecStart=-+web \"a\nBindPaths=:/::\nUser=%i\n"), []byte("#! /usr/bin/env  web\n"))
	f.Add([]byte("[Service]\nExecStart=web\\x1b[2J\nExecStart=/usr/bin/web\n"), []byte("#!we\xff\x1b\xc2\x9b"))
	dir := good().write(f)
	h, err := OpenHost(dir)
	must(f, err)
	f.Cleanup(func() { _ = h.Close() })
	f.Fuzz(func(t *testing.T, unit, program []byte) {
		must(t, os.WriteFile(filepath.Join(dir, fixtureUnits+"web.service"), unit, 0o644))
		must(t, os.WriteFile(filepath.Join(dir, fixtureImage+"usr/bin/web"), program, 0o755))
		r, err := Lint(ctx(), h, Ref{Image: "/srv/web_3"}, LintOptions{Profile: "strict"})
		must(t, err)
		for _, f := range r.Findings {
			if severityOf(f.Rule); !image.Printable(f.Text + f.Fix + f.File) {
				t.Errorf("%+v", f)
			}
		}
	})
}

// A path is below another by whole parts.
func TestBelow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p, top string
		want   bool
	}{{"/run", "/run", true}, {"/run/x", "/run", true}, {"/run/x", "/run/", true}, {"/runx", "/run", false}, {"/r", "/run", false}, {"/x", "/", true}} {
		if below(c.p, c.top) != c.want {
			t.Errorf("%s and %s: %v", c.p, c.top, !c.want)
		}
	}
}
