package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/build"
	"github.com/lockport/lockport/portable"
)

// buildOptions are those of build that are not a recipe's.
type buildOptions struct {
	build.Recipe
	programs, sources, files, links, fields []string
	profile                                 string
	noLint, replace, json                   bool
}

func (a *app) portableBuildCommand() *cobra.Command {
	o := &buildOptions{}
	cmd := &cobra.Command{
		Use:   "build [OPTIONS] [SPEC|DIR]",
		Short: "Build an image of a service",
		Long: `Builds an image of a service, without root and without other programs: from a
specification in the file SPEC, or in DIR/portable.conf, from an installed system
in DIR, or from options alone. Without any, it takes the working directory. What
PID 1 needs to start a service in an image is always there: empty directories and
files to mount over, also for each StateDirectory= and the like of the units. At
the end the image is looked through as by 'lockport portable lint'.

An OCI image is a folder or an archive with an image layout, or an archive made by
docker save; where there are several images in it, PATH:NAME says which. Of images
for several architectures the one of this machine is taken.

The same input gives the same image on every machine. All is owned by root, and
times are those of SOURCE_DATE_EPOCH, or 1970; a tree that is taken as it is keeps
its owners if root builds it, and its times up to SOURCE_DATE_EPOCH.

With --go, Go programs are compiled first, which is the one thing for which
another program, go, is called.

Files are read and compressed in pieces. Of squashfs, memory is taken for twice as
many blocks as there are processors and four more, twice each, for as many
compressors (with zstd 3 MiB each at 128 KiB blocks, with xz 10 MiB), and for some
hundred bytes for each file: as a rule less than 100 MiB. Layers of OCI images are
unpacked to TMPDIR or, without it, to /var/tmp, and removed at the end. If the
command is interrupted, it leaves nothing behind.

zstd gives the smallest images. xz is for kernels without zstd: its images are a
tenth to a fifth larger than those of mksquashfs.

A directory can't hold devices, pipes and sockets, and, unless root builds it, some
attributes; these are errors. An image file holds them all.`,
		Example: `  lockport portable build --name=hello --image-version=1 --go=. --unit=hello.service --unit=hello.socket
  lockport portable build --verity=partitions --sign-key=key.pem --sign-cert=vendor.crt
  lockport portable build --from-tree=/srv/debian --unit=web.service --name=web --output=web_3.raw`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.portableBuild(cmd.Context(), args, o) },
	}
	a.bindBuild(cmd, o)
	return cmd
}

func (a *app) bindBuild(cmd *cobra.Command, o *buildOptions) {
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "`NAME` of the image, and what the names of its units begin with")
	f.StringVar(&o.Version, "image-version", "", "`VERSION` of the image")
	f.StringVar(&o.Pretty, "pretty-name", "", "`NAME` for people")
	f.StringArrayVar(&o.Prefixes, "prefix", nil, "allow units whose names begin with `PREFIX` instead; may be given again")
	f.StringArrayVar(&o.fields, "release", nil, "further `KEY=VALUE` in os-release; may be given again")
	f.StringArrayVar(&o.sources, "go", nil, "compile the Go program in `DIR[:PATH]`, to /usr/bin/NAME; may be given again")
	f.StringArrayVar(&o.programs, "program", nil, "add the program `FILE[:PATH]`, to /usr/bin; may be given again")
	f.StringArrayVar(&o.Units, "unit", nil, "add the unit in `FILE`; may be given again")
	f.StringArrayVar(&o.files, "file", nil, "add a file or directory, `SOURCE:PATH`; may be given again")
	f.StringArrayVar(&o.Dirs, "directory", nil, "add an empty directory at `PATH`; may be given again")
	f.StringArrayVar(&o.links, "link", nil, "add a symbolic link, `PATH:TARGET`; may be given again")
	f.StringVar(&o.FromTree, "from-tree", "", "begin with the installed system in `DIR`")
	f.StringVar(&o.FromOCI, "from-oci", "", "begin with the OCI image at `PATH[:NAME]`")
	f.StringVarP(&o.File, "output", "o", "", "write the image to `FILE`; without, NAME_VERSION.raw")
	f.StringVar(&o.Format, "format", "", "`FORMAT` of the image: squashfs, erofs or directory; without, squashfs")
	f.StringVar(&o.Compressor, "compress", "", "compress squashfs with `NAME`: zstd, gzip, xz or lz4; without, zstd")
	f.IntVar(&o.Level, "level", 0, "how hard to compress, the compressor's own `NUMBER`; 0 for its default")
	f.IntVar(&o.BlockSize, "block-size", 0, "compress `BYTES` at once; 0 for the default, 131072 for squashfs")
	f.StringVar(&o.Verity, "verity", "", "add a hash tree, `WHERE`: partitions (of the image), beside (it, as files), or no; signed images have partitions")
	f.StringVar(&o.KeyFile, "sign-key", "", "sign the root hash with the private key in `FILE` (PEM)")
	f.StringVar(&o.Certificate, "sign-cert", "", "certificate of that key, in `FILE` (PEM)")
	f.StringVarP(&o.profile, "profile", "p", portable.DefaultProfile, "look through the image for the sandbox `NAME`")
	f.BoolVar(&o.noLint, "no-lint", false, "do not look through the image")
	f.BoolVar(&o.replace, "force", false, "replace the image if there is one")
	f.BoolVar(&o.json, "json", false, "print JSON")
	a.bindQuiet(f)
}

func (a *app) portableBuild(ctx context.Context, args []string, o *buildOptions) error {
	if err := o.parse(args); err != nil {
		return err
	}
	name, out, err := o.Output()
	if err != nil {
		return err
	}
	e := build.Environment{Architecture: runtime.GOARCH, Variables: os.Environ(), Log: a.err, Scratch: scratch()}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if e.Time, err = sourceDate(epoch); err != nil {
		return err
	}
	alone := o.FromTree == "" && o.FromOCI == ""
	if alone || epoch != "" {
		out.NotAfter = e.Time
	}
	out.Replace, out.Architecture, out.RootOwned = o.replace, build.Architecture(e.Architecture), alone || o.FromTree != "" && os.Geteuid() != 0
	r, err := a.buildImage(ctx, o, e, name, out)
	if err != nil {
		return err
	}
	if err := a.reportBuild(o, r); err != nil || o.noLint {
		return err
	}
	return a.lintBuilt(ctx, o, name)
}

// buildImage makes the tree and writes the image.
func (a *app) buildImage(ctx context.Context, o *buildOptions, e build.Environment, name string, out build.Output) (*build.Result, error) {
	p := a.progress("unpacking " + o.FromOCI)
	e.Progress = p.update
	t, done, err := o.Tree(ctx, e)
	p.end()
	if err != nil {
		return nil, err
	}
	p = a.progress("writing " + name)
	out.Progress = p.update
	var r *build.Result
	if err = t.Complete(portable.StateDirectories); err == nil {
		r, err = build.Write(ctx, t, name, out)
	}
	p.end()
	return r, errors.Join(err, done())
}

// reportBuild says what was written.
func (a *app) reportBuild(o *buildOptions, r *build.Result) error {
	if o.json {
		return printPretty(a.out, builtJSON{r.Files, r.Size, r.Content, r.Inodes, hex.EncodeToString(r.RootHash)})
	}
	for i, f := range r.Files {
		if i == 0 {
			a.say("Written %s: %s, from %s in %d files.", f, usageText(uint64(r.Size)), usageText(uint64(r.Content)), r.Inodes)
		} else {
			a.say("Written %s.", f)
		}
	}
	if r.RootHash != nil {
		a.say("Root hash: %x", r.RootHash)
	}
	return nil
}

// builtJSON is what build says as JSON.
type builtJSON struct {
	Files    []string `json:"files"`
	Size     int64    `json:"size"`    // bytes of the image
	Content  int64    `json:"content"` // bytes of all files in it
	Inodes   int      `json:"inodes"`
	RootHash string   `json:"rootHash,omitempty"`
}

// lintBuilt looks through the image as lint does. An image with an error in it
// stays, and makes the command fail.
func (a *app) lintBuilt(ctx context.Context, o *buildOptions, name string) error {
	p, err := resolved(name)
	if err != nil {
		return err
	}
	l := &lintOptions{portableOptions: portableOptions{root: "/", profile: o.profile}}
	h, err := a.openHost(&l.portableOptions)
	if err != nil {
		return err
	}
	defer h.Close()
	prefixes := o.Prefixes
	if len(prefixes) == 0 && o.Name != "" {
		prefixes = []string{o.Name}
	}
	r, err := portable.Lint(ctx, h, portable.Ref{Image: p, Prefixes: prefixes}, portable.LintOptions{Profile: o.profile})
	if err != nil {
		return fmt.Errorf("looking through the image: %w", err)
	}
	if r.Count(portable.Error)+r.Count(portable.Warning) > 0 {
		err = printReport(a.err, r, a.painter(a.err))
	}
	if r.Count(portable.Error) > 0 {
		return errors.Join(err, lintErrors)
	}
	return err
}

// parse makes a recipe of the arguments.
func (o *buildOptions) parse(args []string) error {
	if len(args) == 0 && o.Name == "" && o.FromTree == "" && o.FromOCI == "" {
		args = []string{"."}
	}
	if len(args) > 0 {
		if err := o.begin(args[0]); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		words []string
		to    *[]build.File
	}{{o.programs, &o.Programs}, {o.sources, &o.Go}, {o.files, &o.Files}} {
		for _, w := range list.words {
			*list.to = append(*list.to, build.ParseFile(w))
		}
	}
	for _, w := range o.links {
		l, err := build.ParseLink(w)
		if err != nil {
			return fmt.Errorf("--link: %w", err)
		}
		o.Links = append(o.Links, l)
	}
	for _, w := range o.fields {
		f, err := build.ParseField(w)
		if err != nil {
			return fmt.Errorf("--release: %w", err)
		}
		o.Release = append(o.Release, f)
	}
	return nil
}

// begin takes a specification, or a folder with one or with an installed system.
// What options say counts besides, and where there can be only one, instead.
func (o *buildOptions) begin(arg string) error {
	s, err := os.Stat(arg)
	if err != nil {
		return err
	}
	if s.IsDir() {
		spec := filepath.Join(arg, build.SpecName)
		if _, err := os.Stat(spec); err == nil {
			arg = spec
		} else if isSystem(arg) && o.FromTree == "" {
			o.FromTree = arg
			return nil
		} else {
			return marked{fmt.Errorf("%s has neither a %s nor an os-release", arg, build.SpecName), errNoSpec}
		}
	}
	r, err := build.ReadRecipe(arg)
	if err != nil {
		return err
	}
	o.Recipe = r.With(o.Recipe)
	return nil
}

func isSystem(dir string) bool {
	for _, name := range []string{"usr/lib/os-release", "etc/os-release"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// scratch is where large temporary files go: /tmp is often memory. "" leaves the
// choice to the system, and to TMPDIR.
func scratch() string {
	const large = "/var/tmp"
	if s, err := os.Stat(large); os.Getenv("TMPDIR") != "" || err != nil || !s.IsDir() {
		return ""
	}
	return large
}

// sourceDate is the time of SOURCE_DATE_EPOCH, or else the beginning of time.
func sourceDate(text string) (time.Time, error) {
	if text == "" {
		return time.Unix(0, 0), nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s: no number of seconds", text)
	}
	return time.Unix(int64(n), 0), nil
}
