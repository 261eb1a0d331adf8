package build

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lockport/lockport/internal/squashfs"
	"github.com/lockport/lockport/internal/verity"
	"github.com/lockport/lockport/secret"
)

// Recipe says how an image is made: what is in it, and what it is written as.
// Its paths are relative to the working directory.
type Recipe struct {
	Spec
	Go       []File // folders with Go programs to compile; without a target, to /usr/bin
	FromTree string // folder with an installed system to begin with
	FromOCI  string // OCI image to begin with

	Format      string // "" for squashfs
	Compressor  string
	Level       int
	BlockSize   int
	Verity      string // "" for partitions if it is signed, and else no
	KeyFile     string // PEM
	Certificate string // file, PEM
	File        string // to write; "" for NAME_VERSION.raw
}

// Environment is what making an image takes from where it is made.
type Environment struct {
	// Time is that of all files, or the latest of those of an installed system.
	Time time.Time
	// Architecture is that of the programs, in Go's words.
	Architecture string
	// Variables are those of programs that are called.
	Variables []string
	// Go is the command that compiles, "" for go.
	Go string
	// Log is where programs that are called write to.
	Log io.Writer
	// Scratch is the folder for what is compiled and for the unpacked layers of an
	// OCI image, which can be larger than the image; "" for the system's.
	Scratch string
	// Progress, if not nil, is told how much of an OCI image is unpacked, in bytes.
	Progress func(done, total int64)
}

// Tree makes the tree of files. The caller calls done when the tree is not used
// any more.
func (r *Recipe) Tree(ctx context.Context, e Environment) (t *Tree, done func() error, err error) {
	if r.FromTree != "" && r.FromOCI != "" {
		return nil, nil, fmt.Errorf("%w: an image begins with one system, not two", ErrSpec)
	}
	dir, err := os.MkdirTemp(e.Scratch, "lockport-build-")
	if err != nil {
		return nil, nil, err
	}
	done = func() error { return os.RemoveAll(dir) }
	t, err = r.tree(ctx, e, dir)
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return t, done, nil
}

func (r *Recipe) tree(ctx context.Context, e Environment, dir string) (*Tree, error) {
	spec := r.Spec
	for _, f := range r.Go {
		program, err := compile(ctx, e, f, dir)
		if err != nil {
			return nil, err
		}
		spec.Programs = append(spec.Programs[:len(spec.Programs):len(spec.Programs)], program)
	}
	switch {
	case r.FromTree != "":
		t := New()
		if err := t.Import("/", squashfs.DirTree(r.FromTree)); err != nil {
			return nil, fmt.Errorf("%s: %w", r.FromTree, err)
		}
		return t, spec.AddTo(t)
	case r.FromOCI != "":
		t := New()
		if err := t.importOCI(ctx, r.FromOCI, dir, e.Architecture, defaultOCILimits(), e.Progress); err != nil {
			return nil, err
		}
		return t, spec.AddTo(t)
	}
	return spec.Tree(e.Time)
}

// patience is how long a compiler that is to stop may take to clean up.
const patience = 10 * time.Second

// compile compiles a Go program into a folder. The result depends on nothing but
// the sources and the compiler. When it is cancelled, the compiler has nothing
// left of its temporary files, which are below the folder, too.
func compile(ctx context.Context, e Environment, f File, dir string) (File, error) {
	source, err := filepath.Abs(f.Source)
	if err != nil {
		return File{}, err
	}
	folder, err := filepath.Abs(dir) // the compiler works in another
	if err != nil {
		return File{}, err
	}
	if s, err := os.Stat(source); err != nil || !s.IsDir() {
		return File{}, fmt.Errorf("%w: %s is no folder with a Go program", ErrSpec, f.Source)
	}
	out := filepath.Join(folder, filepath.Base(source))
	if _, err := os.Lstat(out); err == nil {
		return File{}, fmt.Errorf("%w: two programs are called %s", ErrSpec, filepath.Base(source))
	}
	tool := e.Go
	if tool == "" {
		tool = "go"
	}
	cmd := exec.CommandContext(ctx, tool, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, ".")
	cmd.Dir = source
	cmd.Env = append(e.Variables[:len(e.Variables):len(e.Variables)], "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+e.Architecture, "GOTMPDIR="+folder)
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, patience
	cmd.Stdout, cmd.Stderr = e.Log, e.Log
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // and not by which signal the compiler ended
		}
		return File{}, fmt.Errorf("compiling %s: %w", f.Source, err)
	}
	return File{out, f.Target}, nil
}

// Output says what the tree is written as, and to which file. The key of a
// signature is read.
func (r *Recipe) Output() (name string, o Output, err error) {
	o = Output{Format: Format(r.Format), Compressor: r.Compressor, Level: r.Level, BlockSize: r.BlockSize, Protection: Protection(r.Verity), Label: r.Label()}
	if o.Format == "" {
		o.Format = Squashfs
	}
	if o.Protection == "" {
		o.Protection = Naked
		if r.KeyFile != "" {
			o.Protection = Partitions
		}
	}
	if !slices.Contains(protections, o.Protection) {
		return "", o, fmt.Errorf("%w: %q is no place for a hash tree", ErrSpec, r.Verity)
	}
	if name = r.File; name == "" {
		if r.Name == "" {
			return "", o, fmt.Errorf("%w: neither the image nor the file to write has a name", ErrSpec)
		}
		name = r.Label()
		if o.Format != Directory {
			name += ".raw"
		}
	}
	if o.Label == "" {
		o.Label = strings.TrimSuffix(filepath.Base(name), ".raw")
	}
	if r.KeyFile != "" {
		if o.Key, err = readKey(r.KeyFile); err != nil {
			return "", o, err
		}
	}
	if r.Certificate != "" {
		o.Certificate, err = readCertificate(r.Certificate)
	}
	return name, o, err
}

// maxPEM is more than any key or certificate has.
const maxPEM = 1 << 20

func readKey(name string) (crypto.Signer, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := secret.ReadAll(f, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer text.Wipe()
	key, err := verity.ParsePrivateKey(text.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

func readCertificate(name string) (*x509.Certificate, error) {
	s, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !s.Mode().IsRegular() || s.Size() > maxPEM {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrInvalid)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	c, err := verity.ParseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}
