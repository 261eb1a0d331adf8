package squashfs

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"time"
)

// Tree is what [Write] makes an image of. Paths are those of [io/fs], but names
// need not be UTF-8. ReadDir and Open are not called by several goroutines at
// once, and Open's files are read while others are open.
type Tree interface {
	// Root describes the root directory. Its name is not used.
	Root() (Node, error)
	// ReadDir describes what is in a directory, in any order.
	ReadDir(path string) ([]Node, error)
	// Open opens a regular file. What it returns is read from start to end, at
	// most twice, for which it is opened again. It may be a [DataSeeker].
	Open(path string) (io.ReadCloser, error)
}

// DataSeeker is a file that knows its holes, which then are not read.
type DataSeeker interface {
	io.Seeker
	// NextData returns the first position from off on that may be data; if there
	// is none, one that is behind the end, or [io.EOF].
	NextData(off int64) (int64, error)
}

// Node describes a file of any kind.
type Node struct {
	Name         string      // at most 255 bytes
	Mode         fs.FileMode // kind and permissions
	UID, GID     uint32
	ModTime      time.Time // in seconds; what is before 1970 or after 2106 becomes these
	Size         int64     // of a regular file
	Target       string    // of a symbolic link
	Major, Minor uint32    // of a device
	Attrs        []Attr    // in the namespaces user, trusted and security
	Link         LinkID
}

// LinkID tells hard links: nodes with the same one, other than the zero value,
// are names of one file. What the first says of it counts.
type LinkID struct{ Device, Inode uint64 }

// Bounds on trees. Those of entries and directories are the reader's, too.
const (
	maxNodeName   = 255
	maxNodeTarget = 4095 // of the kernel: with its end, a page
	maxDepth      = 1000
	maxInodes     = math.MaxUint32 - 1 // the root's parent has a number of its own
)

// node is an inode to be written.
type node struct {
	Node
	kind     kind
	path     string // by which it was met first
	number   uint32
	links    uint32
	parent   uint32 // number of a directory's parent
	children []name
	ref      ref
	attrs    uint32
	content  *content // of a regular file
	listing  listed   // of a directory
}

// name is an entry of a directory.
type name struct {
	name string
	node *node
}

// scanner reads the tree's directories.
type scanner struct {
	b     *builder
	ctx   context.Context
	links map[LinkID]*node
	dirs  int
}

// scan reads the tree, but for the content of files, and numbers its inodes.
func (b *builder) scan(ctx context.Context) error {
	n, err := b.src.Root()
	if err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	if !n.Mode.IsDir() {
		return fmt.Errorf("root directory: %w", unsuitable("it is none"))
	}
	s := &scanner{b: b, ctx: ctx, links: map[LinkID]*node{}}
	b.root, err = s.node(".", n)
	if err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	if err := s.directory(b.root, 0); err != nil {
		return err
	}
	b.root.parent = uint32(len(b.inodes)) + 1
	if !b.o.NotAfter.IsZero() {
		b.newest = b.seconds(b.o.NotAfter)
	}
	return nil
}

// directory reads what is below a directory. Its children get numbers that
// follow each other, which keeps listings short.
func (s *scanner) directory(d *node, depth int) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if s.dirs++; s.dirs > maxDirectories {
		return fmt.Errorf("%s: %w", d.path, unsuitable("more than %d directories", maxDirectories))
	}
	if depth > maxDepth {
		return fmt.Errorf("%s: %w", d.path, unsuitable("directories more than %d deep", maxDepth))
	}
	list, err := s.b.src.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("reading directory %s: %w", d.path, err)
	}
	if err := s.children(d, list); err != nil {
		return err
	}
	d.links = 2
	for _, c := range d.children {
		if c.node.kind != kindDir {
			continue
		}
		d.links++
		c.node.parent = d.number
		if err := s.directory(c.node, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// children makes inodes of a directory's entries.
func (s *scanner) children(d *node, list []Node) error {
	if len(list) > maxEntries {
		return fmt.Errorf("%s: %w", d.path, unsuitable("%d entries in a directory", len(list)))
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	d.children = make([]name, 0, len(list))
	for i, n := range list {
		if err := checkName(n.Name); err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
		if i > 0 && list[i-1].Name == n.Name {
			return fmt.Errorf("%s: %w", d.path, unsuitable("%q is there twice", n.Name))
		}
		p := path.Join(d.path, n.Name)
		c, err := s.node(p, n)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		d.children = append(d.children, name{n.Name, c})
	}
	return nil
}

func checkName(name string) error {
	if !validName(name) || len(name) > maxNodeName {
		return unsuitable("the name %q", name[:min(len(name), 300)])
	}
	return nil
}

// node makes an inode, or finds the one that another name has already.
func (s *scanner) node(path string, n Node) (*node, error) {
	first := s.links[n.Link]
	if n.Link != (LinkID{}) && first != nil && !n.Mode.IsDir() {
		if first.Mode.Type() != n.Mode.Type() || first.Size != n.Size {
			return nil, unsuitable("a hard link of %s, which is another file", first.path)
		}
		first.links++
		return first, nil
	}
	if uint64(len(s.b.inodes)) >= maxInodes {
		return nil, unsuitable("more than %d inodes", uint32(maxInodes))
	}
	out := &node{Node: n, path: path, links: 1, number: uint32(len(s.b.inodes)) + 1, ref: noRef}
	if err := s.b.admit(out); err != nil {
		return nil, err
	}
	s.b.inodes = append(s.b.inodes, out)
	if n.Link != (LinkID{}) && !n.Mode.IsDir() {
		s.links[n.Link] = out
	}
	return out, nil
}

// admit checks that an image can hold an inode, and notes what it needs of the
// tables.
func (b *builder) admit(n *node) (err error) {
	if n.kind, err = kindOf(n.Mode); err != nil {
		return err
	}
	switch n.kind {
	case kindFile:
		if n.Size < 0 || n.Size/int64(b.o.BlockSize) >= maxBlocks {
			return unsuitable("a file of %d bytes", n.Size)
		}
		b.sum.Content += n.Size
	case kindLink:
		if n.Target == "" || len(n.Target) > maxNodeTarget || strings.Contains(n.Target, "\x00") {
			return unsuitable("a link's target of %d bytes, or with a zero", len(n.Target))
		}
	case kindBlock, kindChar:
		if n.Major > 0xfff || n.Minor > 0xfffff {
			return unsuitable("the device %d:%d", n.Major, n.Minor)
		}
	}
	if b.o.RootOwned {
		n.UID, n.GID = 0, 0
	}
	b.newest = max(b.newest, b.seconds(n.ModTime))
	if n.attrs, err = b.attrs.add(n.Attrs); err != nil {
		return err
	}
	return b.addIDs(n)
}

func kindOf(mode fs.FileMode) (kind, error) {
	for k := kindDir; k <= kindSocket; k++ {
		if k.words().mode == mode.Type() {
			return k, nil
		}
	}
	return 0, unsuitable("a file of mode %v", mode)
}

// seconds is a time as inodes have it.
func (b *builder) seconds(t time.Time) uint32 {
	if limit := b.o.NotAfter; !limit.IsZero() && t.After(limit) {
		t = limit
	}
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}

// permissions are a mode's lower twelve bits in Unix's order.
func permissions(m fs.FileMode) uint16 {
	p := uint16(m.Perm())
	if m&fs.ModeSetuid != 0 {
		p |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		p |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		p |= 0o1000
	}
	return p
}

// addIDs notes an inode's owners.
func (b *builder) addIDs(n *node) error {
	for _, id := range []uint32{n.UID, n.GID} {
		if _, ok := b.ids[id]; ok {
			continue
		}
		if len(b.idList) == math.MaxUint16 {
			return unsuitable("more than %d users and groups", math.MaxUint16)
		}
		b.ids[id] = uint16(len(b.idList))
		b.idList = append(b.idList, id)
	}
	return nil
}
