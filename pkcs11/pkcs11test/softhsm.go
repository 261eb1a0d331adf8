// Package pkcs11test has what tests of PKCS#11 work are made with: security tokens
// in software, real ones of SoftHSM behind p11-kit, and one of our own that
// misbehaves on demand. It knows nothing of package pkcs11.
package pkcs11test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// T is what a test gives a token: a [testing.TB], or a script.
type T interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	TempDir() string
}

// Need skips the test where a program is missing, but fails it where CI is set.
func Need(t T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatal(p + " is needed")
		}
		t.Skip(p + " is not installed")
	}
}

// SoftHSM is a folder of software tokens.
type SoftHSM struct {
	Module string   // the library
	Config string   // the file that leads to the tokens
	Env    []string // what the library has to find in its environment
	t      T
	tokens string // the folder
}

// modulePaths are where distributions put the library.
var modulePaths = []string{
	"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
}

// NewSoftHSM makes a folder of tokens out of archives, with none for no archives.
// The test is skipped where SoftHSM or p11-kit is missing, but fails where CI is set.
func NewSoftHSM(t T, archives ...string) *SoftHSM {
	t.Helper()
	Need(t, "p11-kit", "softhsm2-util")
	dir := t.TempDir()
	s := &SoftHSM{t: t, Config: filepath.Join(dir, "softhsm2.conf")}
	for _, path := range modulePaths {
		if _, err := os.Stat(path); err == nil {
			s.Module = path
		}
	}
	if s.Module == "" {
		t.Fatal("the library of SoftHSM is nowhere")
	}
	s.tokens = filepath.Join(dir, "tokens")
	if err := os.Mkdir(s.tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, a := range archives {
		s.Add(a)
	}
	text := "directories.tokendir = " + s.tokens + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
	if err := os.WriteFile(s.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Env = []string{"SOFTHSM2_CONF=" + s.Config, "PATH=" + os.Getenv("PATH")}
	return s
}

// Add adds the tokens of an archive.
func (s *SoftHSM) Add(archive string) {
	s.t.Helper()
	unpack(s.t, archive, s.tokens)
}

// unpack puts the tokens of an archive into a folder, without the folder that they
// are in there.
func unpack(t T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		path := filepath.Join(dir, filepath.FromSlash(name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var content []byte
			if content, err = io.ReadAll(io.LimitReader(r, 1<<20)); err == nil {
				err = os.WriteFile(path, content, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Init makes a token with this name and PIN.
func (s *SoftHSM) Init(label, pin string) {
	s.t.Helper()
	s.run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "so"+pin)
}

// Key makes a key pair, of a type such as rsa:2048 or EC:prime256v1, with
// pkcs11-tool of OpenSC.
func (s *SoftHSM) Key(token, pin, kind, id, label string, more ...string) {
	s.t.Helper()
	s.Tool(append([]string{"--token-label", token, "--login", "--pin", pin, "--keypairgen", "--key-type", kind,
		"--id", id, "--label", label}, more...)...)
}

// Tool runs pkcs11-tool on the tokens.
func (s *SoftHSM) Tool(args ...string) {
	s.t.Helper()
	Need(s.t, "pkcs11-tool")
	s.run("pkcs11-tool", append([]string{"--module", s.Module}, args...)...)
}

func (s *SoftHSM) run(program string, args ...string) {
	s.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = s.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}
