package erofs

import (
	"cmp"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lockport/lockport/internal/imagefs"
	"github.com/lockport/lockport/internal/squashfs"
)

// Bounds on trees. Those of directories are the reader's, too.
const (
	maxNodeName    = 255
	maxNodeTarget  = 4095 // of the kernel: with its end, a page
	maxDepth       = 1000
	maxDirectories = 1 << 20
	maxInodes      = math.MaxUint32
)

// entity is an inode to be written.
type entity struct {
	squashfs.Node
	path     string // by which it was met first
	index    uint32 // from 1 on
	links    uint32
	time     moment
	parent   *entity // of a directory; the root is its own
	children []child
	start    int64 // of a directory's data that is not behind the inode, in bytes
	at       int64 // of the inode in the image, in bytes
}

// number is how directories refer to an inode.
func (e *entity) number() uint64 { return uint64(e.at / slotSize) }

// child is an entry of a directory.
type child struct {
	name string
	e    *entity
}

// moment is a time as inodes have it.
type moment struct {
	seconds     int64
	nanoseconds uint32
}

// scanner reads the tree's directories.
type scanner struct {
	b     *builder
	links map[squashfs.LinkID]*entity
	dirs  int
}

// scan reads the tree, but for the content of files.
func (b *builder) scan() error {
	n, err := b.src.Root()
	if err == nil && !n.Mode.IsDir() {
		err = unsuitable("it is none")
	}
	s := &scanner{b: b, links: map[squashfs.LinkID]*entity{}}
	if err == nil {
		b.root, err = s.entity(".", n)
	}
	if err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	b.root.parent = b.root
	return s.directory(b.root, 0)
}

// directory reads what is below a directory. What is in one directory has
// indexes that follow each other, and mostly is together in the image.
func (s *scanner) directory(d *entity, depth int) error {
	if err := s.b.ctx.Err(); err != nil {
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
		if !c.e.Mode.IsDir() {
			continue
		}
		d.links++
		c.e.parent = d
		if err := s.directory(c.e, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// children makes inodes of a directory's entries.
func (s *scanner) children(d *entity, list []squashfs.Node) error {
	if len(list) > imagefs.MaxEntries {
		return fmt.Errorf("%s: %w", d.path, unsuitable("%d entries in a directory", len(list)))
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b squashfs.Node) int { return cmp.Compare(a.Name, b.Name) })
	d.children = make([]child, 0, len(list))
	for i, n := range list {
		if err := checkName(n.Name); err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
		if i > 0 && list[i-1].Name == n.Name {
			return fmt.Errorf("%s: %w", d.path, unsuitable("%q is there twice", n.Name))
		}
		p := path.Join(d.path, n.Name)
		e, err := s.entity(p, n)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		d.children = append(d.children, child{n.Name, e})
	}
	return nil
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxNodeName || strings.ContainsAny(name, "/\x00") {
		return unsuitable("the name %q", name[:min(len(name), 300)])
	}
	return nil
}

// entity makes an inode, or finds the one that another name has already.
func (s *scanner) entity(path string, n squashfs.Node) (*entity, error) {
	linked := n.Link != (squashfs.LinkID{}) && !n.Mode.IsDir()
	if first := s.links[n.Link]; linked && first != nil {
		if first.Mode.Type() != n.Mode.Type() || first.Size != n.Size {
			return nil, unsuitable("a hard link of %s, which is another file", first.path)
		}
		first.links++
		return first, nil
	}
	if uint64(len(s.b.all)) >= maxInodes {
		return nil, unsuitable("more than %d inodes", uint32(maxInodes))
	}
	e := &entity{Node: n, path: path, links: 1, index: uint32(len(s.b.all)) + 1}
	if err := s.b.admit(e); err != nil {
		return nil, err
	}
	s.b.all = append(s.b.all, e)
	if linked {
		s.links[n.Link] = e
	}
	return e, nil
}

// admit checks that an image can hold an inode.
func (b *builder) admit(e *entity) (err error) {
	if !e.Mode.IsRegular() {
		e.Size = 0
	}
	switch e.Mode.Type() {
	case fs.ModeDir, fs.ModeNamedPipe, fs.ModeSocket:
	case 0:
		if e.Size < 0 || e.Size>>blockBits >= maxBlocks {
			return unsuitable("a file of %d bytes", e.Size)
		}
		b.sum.Content += e.Size
	case fs.ModeSymlink:
		if e.Target == "" || len(e.Target) > maxNodeTarget || strings.Contains(e.Target, "\x00") {
			return unsuitable("a link's target of %d bytes, or with a zero", len(e.Target))
		}
		e.Size = int64(len(e.Target))
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		if e.Major > 0xfff || e.Minor > 0xfffff {
			return unsuitable("the device %d:%d", e.Major, e.Minor)
		}
	default:
		return unsuitable("a file of mode %v", e.Mode)
	}
	if b.o.RootOwned {
		e.UID, e.GID = 0, 0
	}
	e.time = b.moment(e.ModTime)
	e.Attrs, err = b.shared.add(e.Attrs)
	return err
}

// moment is a time within bounds.
func (b *builder) moment(t time.Time) moment {
	if limit := b.o.NotAfter; !limit.IsZero() && t.After(limit) {
		t = limit
	}
	if t.IsZero() {
		return moment{}
	}
	return moment{t.Unix(), uint32(t.Nanosecond())}
}

// commonTime is the time that most inodes have, the earliest if there are
// several. They need not say it, which makes them half as long.
func (b *builder) commonTime() moment {
	counts := map[moment]int{}
	for _, e := range b.all {
		counts[e.time]++
	}
	var best moment
	for m, n := range counts {
		earlier := m.seconds < best.seconds || m.seconds == best.seconds && m.nanoseconds < best.nanoseconds
		if most := counts[best]; n > most || n == most && earlier {
			best = m
		}
	}
	return best
}
