package squashfs

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// dirent is an entry of a directory.
type dirent struct {
	name   string
	ref    ref
	number uint32
	kind   kind
	at     int // in the listing
}

// listing reads the entries of a directory in order. They come in runs, with a
// header each, of entries whose inodes are in one block.
type listing struct {
	m     *metaCursor
	end   int // bytes of the listing
	base  int // bytes of it before the cursor started
	left  int // entries of this run
	block int64
	first uint32 // number that those of the run's entries are relative to
	last  string // name read before
	count int
}

// dots is what a listing's size counts for "." and "..", which it does not have.
const dots = 3

// list starts to read a directory from an offset, which is that of a header in
// the block at this position of the table.
func (n *inode) list(start ref, base int) (*listing, error) {
	l := &listing{end: int(n.size) - dots, base: base}
	if l.end <= base {
		return l, nil
	}
	m, err := n.f.metaAt(n.f.dirOf, start)
	if err != nil {
		return nil, err
	}
	l.m = m
	return l, nil
}

func (l *listing) at() int {
	if l.m == nil {
		return l.end
	}
	return l.base + l.m.used
}

// next reads an entry; there is none if ok is false.
func (l *listing) next() (e dirent, ok bool, err error) {
	if l.left == 0 && l.at() >= l.end {
		return dirent{}, false, nil
	}
	if l.left == 0 {
		if err := l.header(); err != nil {
			return dirent{}, false, err
		}
	}
	e, err = l.entry()
	return e, err == nil, err
}

func (l *listing) header() error {
	count := l.m.u32()
	l.block, l.first = int64(l.m.u32()), l.m.u32()
	if l.m.err != nil {
		return l.m.err
	}
	// One less than there are.
	if count > 255 {
		return damage("a run of %d entries", uint64(count)+1)
	}
	l.left = int(count) + 1
	return nil
}

func (l *listing) entry() (dirent, error) {
	e := dirent{at: l.at()}
	offset := l.m.u16()
	e.number = l.first + uint32(int32(int16(l.m.u16())))
	e.kind = kind(l.m.u16())
	size := int(l.m.u16()) + 1
	if l.m.err == nil && size > maxName {
		return e, damage("a name of %d bytes", size)
	}
	e.name = string(l.m.bytes(size))
	e.ref = ref(l.block)<<16 | ref(offset)
	if l.m.err != nil {
		return e, l.m.err
	}
	l.left--
	l.count++
	return e, l.check(e)
}

// check refuses what no file system would list. The order is the format's, and
// with it no name is there twice.
func (l *listing) check(e dirent) error {
	switch {
	case l.at() > l.end:
		return damage("the listing is longer than %d bytes", l.end)
	case l.count > maxEntries:
		return damage("more than %d entries", maxEntries)
	case !validName(e.name):
		return damage("an entry %q", e.name)
	case e.name <= l.last:
		return damage("%q after %q", e.name, l.last)
	case e.kind < kindDir || e.kind > kindSocket:
		return damage("%q is a %s", e.name, e.kind)
	}
	l.last = e.name
	return nil
}

func validName(name string) bool {
	return name != "" && name != "." && name != ".." && strings.IndexByte(name, '/') < 0 && strings.IndexByte(name, 0) < 0
}

// readDir returns all entries.
func (n *inode) readDir() ([]fs.DirEntry, error) {
	entries, err := n.readAllEntries()
	if err != nil {
		return nil, fmt.Errorf("directory %d: %w", n.number, err)
	}
	if len(entries) <= maxListed {
		n.f.last.Store(&lastListing{n.start, n.size, entries})
	}
	list := make([]fs.DirEntry, len(entries))
	for i, e := range entries {
		list[i] = entry{n, e}
	}
	return list, nil
}

func (n *inode) readAllEntries() ([]dirent, error) {
	l, err := n.list(n.start, 0)
	var entries []dirent
	for err == nil {
		e, ok, failed := l.next()
		if failed == nil && !ok {
			return entries, nil
		}
		entries, err = append(entries, e), failed
	}
	return nil, err
}

// lastListing is the listing that was read last. Whoever lists a directory often looks
// at each of its entries next.
type lastListing struct {
	start   ref
	size    int64
	entries []dirent // by name
}

// maxListed bounds the listing that is kept.
const maxListed = 1 << 16

// find looks a name up; there is none if ok is false.
func (n *inode) find(name string) (e dirent, ok bool, err error) {
	if l := n.f.last.Load(); l != nil && l.start == n.start && l.size == n.size {
		i, ok := slices.BinarySearchFunc(l.entries, name, func(e dirent, name string) int { return strings.Compare(e.name, name) })
		if !ok {
			return dirent{}, false, nil
		}
		return l.entries[i], true, nil
	}
	l, err := n.seek(name)
	for err == nil {
		e, ok, err = l.next()
		if err == nil && (!ok || e.name >= name) {
			return e, ok && e.name == name, nil
		}
	}
	return dirent{}, false, fmt.Errorf("directory %d: %w", n.number, err)
}

// seek starts at the last header that the directory's index has and whose first
// name is not behind the wanted one.
func (n *inode) seek(name string) (*listing, error) {
	start, base := n.start, 0
	if n.indexes == 0 {
		return n.list(start, base)
	}
	m, err := n.f.metaAt(n.f.inodeOf, n.index)
	if err != nil {
		return nil, err
	}
	for range n.indexes {
		offset, block, size := m.u32(), m.u32(), m.u32()
		if m.err == nil && (size >= maxName || int64(offset) > n.size) {
			return nil, damage("its index has a name of %d bytes, at %d", uint64(size)+1, offset)
		}
		first := string(m.bytes(int(size) + 1))
		if m.err != nil {
			return nil, fmt.Errorf("its index: %w", m.err)
		}
		if first > name {
			break
		}
		// The offset counts from the listing's start, which is within a block.
		start, base = ref(block)<<16|ref((int(offset)+n.start.offset())%metaSize), int(offset)
	}
	return n.list(start, base)
}
