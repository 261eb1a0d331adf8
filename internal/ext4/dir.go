package ext4

import (
	"fmt"
	"io/fs"

	"github.com/lockport/lockport/internal/imagefs"
)

// direntSize is the length of an entry before its name.
const direntSize = 8

// List returns a directory's entries. One with an index of hashes is read like
// one without: the index is in entries that are marked as unused.
func (n *node) List() ([]imagefs.Dirent, error) {
	l := &listing{e: n.e, all: []imagefs.Dirent{}}
	if n.flags&flagInline != 0 {
		return l.inline(n)
	}
	err := n.e.blocks.EachBlock(n, func(b []byte) error {
		if int64(len(b)) != n.e.super.blockSize() {
			return n.e.damage("its last block has %d bytes", len(b))
		}
		return l.block(b)
	})
	if err != nil {
		return nil, err
	}
	return l.all, nil
}

// listing collects the entries of one directory.
type listing struct {
	e   *reader
	all []imagefs.Dirent
}

// inline reads a small directory, which is in two parts of the inode. The first
// one begins with the number of the parent, instead of "." and "..".
func (l *listing) inline(n *node) ([]imagefs.Dirent, error) {
	b, err := n.e.blocks.Content(n, int64(len(n.raw)))
	if err != nil {
		return nil, err
	}
	if len(b) < pointersSize {
		return nil, n.e.damage("%d bytes within the inode", len(b))
	}
	for _, part := range [][]byte{b[4:pointersSize], b[pointersSize:]} {
		if err := l.block(part); err != nil {
			return nil, err
		}
	}
	return l.all, nil
}

// block reads the entries in a block, which they fill.
func (l *listing) block(b []byte) error {
	for at := 0; at < len(b); {
		rest := b[at:]
		if len(rest) < direntSize {
			return l.e.damage("an entry in %d bytes", len(rest))
		}
		size, name := recordSize(le.Uint16(rest[4:]), len(b)), int(rest[6])
		if size%4 != 0 || size < direntSize+name || size > len(rest) {
			return l.e.damage("an entry of %d bytes with a name of %d", size, name)
		}
		if err := l.add(rest, string(rest[direntSize:direntSize+name])); err != nil {
			return err
		}
		at += size
	}
	return nil
}

// recordSize is the length of an entry: of blocks of 64 KiB it has its upper two
// bits in the lower ones.
func recordSize(word uint16, block int) int {
	switch {
	case block < 1<<16:
		return int(word)
	case word == 0 || word == 1<<16-1:
		return block
	}
	return int(word&^3) | int(word&3)<<16
}

func (l *listing) add(dirent []byte, name string) error {
	inode := uint64(le.Uint32(dirent))
	if inode == 0 || name == "." || name == ".." {
		return nil
	}
	if len(l.all) >= imagefs.MaxEntries {
		return l.e.damage("more than %d entries", imagefs.MaxEntries)
	}
	kind, err := l.kind(inode, dirent[7])
	if err != nil {
		return fmt.Errorf("%.300q: %w", name, err)
	}
	l.all = append(l.all, imagefs.Dirent{Name: name, Inode: inode, Type: kind})
	return nil
}

// kind is the type of an entry. Old images only have it in the inode, and so have
// entries that say that they do not know it.
func (l *listing) kind(inode uint64, number byte) (fs.FileMode, error) {
	if l.e.super.incompat&incompatFileType != 0 && number != 0 {
		return imagefs.EntryType(number), nil
	}
	n, err := l.e.readInode(inode)
	if err != nil {
		return 0, err
	}
	return n.info.Mode.Type(), nil
}
