package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/lockport/lockport/internal/squashfs"
)

// Names with which a layer says what of those below isn't there any more:
// image-spec, layer.md, "Whiteouts". Names with the long prefix other than the
// opaque one were for the file system that this was invented for.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// apply puts a layer on those below. It is read three times, because what it
// hides is only ever in layers below, wherever in the archive it says so.
func (i *ociImporter) apply(s *ociSpool) error {
	if len(i.tree.top.children) > 0 {
		if err := i.each(s, i.makeWay); err != nil {
			return err
		}
		if err := i.each(s, i.whiteOut); err != nil {
			return err
		}
	}
	return i.each(s, i.add)
}

// ociEntry is an entry of a layer.
type ociEntry struct {
	*tar.Header
	path     string // clean and absolute
	name     string // its last component
	whiteout bool
	content  io.Reader
	spool    *ociSpool
	offset   int64 // of the content in the spool
}

func (e *ociEntry) dir() string { return path.Dir(e.path) }

// each calls f with the entries of a layer.
func (i *ociImporter) each(s *ociSpool, f func(*ociEntry) error) error {
	section := io.NewSectionReader(s.file, 0, s.size)
	r := tar.NewReader(section)
	for count := i.entries; ; count++ {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, tar.ErrInsecurePath): // names are checked here
			return fmt.Errorf("reading the archive: %w", err)
		case count >= i.limits.entries:
			return refuse("more than %d entries", i.limits.entries)
		case i.ctx.Err() != nil:
			return i.ctx.Err()
		case h.Typeflag == tar.TypeXGlobalHeader:
			continue
		}
		e := &ociEntry{Header: h, content: r, spool: s}
		// The reader reads no further than it has to.
		if e.offset, err = section.Seek(0, io.SeekCurrent); err != nil {
			return err
		}
		ignored, err := e.classify()
		if err == nil && !ignored {
			err = f(e)
		}
		if err != nil {
			return fmt.Errorf("entry %.300q: %w", h.Name, err)
		}
	}
}

// classify finds out what an entry is by its name.
func (e *ociEntry) classify() (ignored bool, err error) {
	if e.path, err = cleanName(e.Name); err != nil {
		return false, err
	}
	e.name = path.Base(e.path)
	for _, part := range parts(e.path) {
		if strings.HasPrefix(part, whiteoutMeta) && !(part == whiteoutOpaque && part == e.name) {
			return true, nil
		}
	}
	for _, part := range parts(e.dir()) {
		if strings.HasPrefix(part, whiteoutPrefix) {
			return false, refuse("no directory can have such a name")
		}
	}
	if !strings.HasPrefix(e.name, whiteoutPrefix) {
		return false, nil
	}
	e.whiteout = true
	switch hidden := e.name[len(whiteoutPrefix):]; {
	case hidden == "", hidden == ".", hidden == "..":
		return false, refuse("a whiteout of nothing")
	case e.Typeflag == tar.TypeDir:
		return false, refuse("a whiteout is no directory")
	}
	return false, nil
}

// Bounds on names, of the kernel.
const (
	maxName = 255
	maxPath = 4095
)

// cleanName checks a path of an archive, and makes it absolute.
func cleanName(name string) (string, error) {
	if name == "" || len(name) > maxPath || strings.Contains(name, "\x00") {
		return "", refuse("a path of %d bytes, or with a zero", len(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "..":
			return "", refuse("the path goes up")
		case len(part) > maxName:
			return "", refuse("a name of %d bytes", len(part))
		}
	}
	return path.Clean("/" + name), nil
}

// below returns the directory that an entry is in, nil if there is none yet.
func (i *ociImporter) below(e *ociEntry) *node {
	dir, err := i.tree.walk(e.dir(), true, false)
	if err != nil || dir.children == nil {
		return nil
	}
	return dir
}

// makeWay puts empty directories where the layer has one and a layer below has
// something else: through a link there, what the layer hides in the directory
// would be hidden elsewhere.
func (i *ociImporter) makeWay(e *ociEntry) error {
	if e.Typeflag != tar.TypeDir || e.path == "/" {
		return nil
	}
	if dir := i.below(e); dir != nil {
		if old := dir.children[e.name]; old != nil && old.children == nil {
			dir.children[e.name] = directory(e.name, 0o755)
		}
	}
	return nil
}

// whiteOut hides what a whiteout says, which is never followed if it is a link.
func (i *ociImporter) whiteOut(e *ociEntry) error {
	if !e.whiteout {
		return nil
	}
	switch dir := i.below(e); {
	case dir == nil:
	case e.name == whiteoutOpaque:
		clear(dir.children)
	default:
		delete(dir.children, e.name[len(whiteoutPrefix):])
	}
	return nil
}

// add adds an entry, in place of what has its name, of which only a directory's
// content stays if the entry is one too: layer.md, "Changeset over existing files".
func (i *ociImporter) add(e *ociEntry) error {
	i.entries++
	if e.whiteout {
		return nil
	}
	n, err := i.node(e)
	if err != nil {
		return err
	}
	if err := i.keep(e, n); err != nil {
		return err
	}
	if e.path == "/" {
		if n.children == nil {
			return refuse("the top is no directory")
		}
		i.tree.top.Node = n.Node
		return nil
	}
	dir, err := i.tree.walk(e.dir(), true, true)
	if err == nil && dir.children == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return err
	}
	return i.place(dir, n)
}

func (i *ociImporter) place(dir, n *node) error {
	if old := dir.children[n.Name]; old != nil && old.children != nil && n.children != nil {
		old.Node = n.Node
		return nil
	}
	if err := i.tree.add(dir, n); err != nil {
		return err
	}
	if i.tree.count > i.limits.nodes {
		return refuse("more than %d files", i.limits.nodes)
	}
	return nil
}

// keep counts what is kept of an entry.
func (i *ociImporter) keep(e *ociEntry, n *node) error {
	i.names += int64(len(e.path) + len(n.Target))
	for _, a := range n.Attrs {
		i.names += int64(len(a.Name) + len(a.Value))
	}
	if i.names > i.limits.names {
		return refuse("more than %d bytes of names and attributes", i.limits.names)
	}
	return nil
}

// take counts the content of a file.
func (i *ociImporter) take(size int64) error {
	if size < 0 || size > i.limits.bytes-i.content {
		return refuse("more than %d bytes in files", i.limits.bytes)
	}
	i.content += size
	return nil
}

// hardLink makes another name of a file, also of a layer below. What the entry
// says of owner and mode is that of the file already.
func (i *ociImporter) hardLink(e *ociEntry) (*node, error) {
	p, err := cleanName(e.Linkname)
	if err != nil {
		return nil, fmt.Errorf("hard link to %.300q: %w", e.Linkname, err)
	}
	file, err := i.tree.walk(p, false, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("hard link to %.300q: %w", e.Linkname, fs.ErrNotExist)
	case err != nil:
		return nil, err
	case file.children != nil:
		return nil, refuse("a hard link to the directory %.300q", e.Linkname)
	}
	if file.Link == (squashfs.LinkID{}) {
		i.links++
		file.Link = squashfs.LinkID{Inode: i.links}
	}
	n := &node{Node: file.Node, open: file.open}
	n.Name = e.name
	return n, i.take(n.Size)
}
