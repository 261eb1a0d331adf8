package erofs

import (
	"bytes"

	"github.com/lockport/lockport/internal/imagefs"
)

// direntSize is the length of an entry. A block of a directory begins with its
// entries; the names come behind them.
const direntSize = 12

// List returns a directory's entries.
func (n *node) List() ([]imagefs.Dirent, error) {
	l := &listing{e: n.e, all: []imagefs.Dirent{}}
	if err := n.e.blocks.EachBlock(n, l.block); err != nil {
		return nil, err
	}
	return l.all, nil
}

// listing collects the entries of one directory. They are in order of name in
// all of it: Linux would not find them otherwise.
type listing struct {
	e    *reader
	all  []imagefs.Dirent
	last string
}

func (l *listing) block(b []byte) error {
	if len(b) < direntSize {
		return l.e.damage("its last block has %d bytes", len(b))
	}
	names := int(le.Uint16(b[8:]))
	if names < direntSize || names > len(b) || names%direntSize != 0 {
		return l.e.damage("names at %d of a block", names)
	}
	for at := 0; at < names; at += direntSize {
		from, to := int(le.Uint16(b[at+8:])), len(b)
		last := at+direntSize == names
		if !last {
			to = int(le.Uint16(b[at+direntSize+8:]))
		}
		if from < names || from >= to || to > len(b) {
			return l.e.damage("a name from %d to %d of a block", from, to)
		}
		name := b[from:to]
		if i := bytes.IndexByte(name, 0); last && i >= 0 {
			name = name[:i] // the block's rest is padding
		}
		if err := l.add(string(name), b[at:]); err != nil {
			return err
		}
	}
	return nil
}

func (l *listing) add(name string, dirent []byte) error {
	if len(l.all) >= imagefs.MaxEntries {
		return l.e.damage("more than %d entries", imagefs.MaxEntries)
	}
	if name <= l.last {
		return l.e.damage("%.300q after %.300q", name, l.last)
	}
	l.last = name
	if name == "." || name == ".." {
		return nil
	}
	l.all = append(l.all, imagefs.Dirent{Name: name, Inode: le.Uint64(dirent), Type: imagefs.EntryType(dirent[10])})
	return nil
}
