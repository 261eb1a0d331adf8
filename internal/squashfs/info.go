package squashfs

import (
	"io/fs"
	"time"
)

// Stat is what an inode has besides a [fs.FileInfo]'s fields, which returns it
// from Sys.
type Stat struct {
	Inode        uint32 // number; hard links of one file have the same
	Links        uint32
	UID, GID     uint32
	Major, Minor uint32 // of a device

	n *inode
}

func (n *inode) sys() *Stat {
	s := &Stat{Inode: n.number, Links: n.links, UID: n.uid, GID: n.gid, n: n}
	if n.kind == kindBlock || n.kind == kindChar {
		// Linux's packing: the minor number grew around the major one.
		s.Major, s.Minor = n.device>>8&0xfff, n.device&0xff|n.device>>12&0xfff00
	}
	return s
}

func (n *inode) mode() fs.FileMode {
	m := n.kind.words().mode | fs.FileMode(n.perm&0o777)
	if n.perm&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if n.perm&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if n.perm&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// info describes an inode under a name.
type info struct {
	name string
	n    *inode
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.n.size }
func (i info) Mode() fs.FileMode  { return i.n.mode() }
func (i info) ModTime() time.Time { return time.Unix(int64(i.n.modified), 0) }
func (i info) IsDir() bool        { return i.n.kind == kindDir }
func (i info) Sys() any           { return i.n.sys() }
func (i info) String() string     { return fs.FormatFileInfo(i) }

// entry is a directory's entry whose inode has not been read.
type entry struct {
	dir *inode
	e   dirent
}

func (e entry) Name() string      { return e.e.name }
func (e entry) IsDir() bool       { return e.e.kind == kindDir }
func (e entry) Type() fs.FileMode { return e.e.kind.words().mode }
func (e entry) String() string    { return fs.FormatDirEntry(e) }

func (e entry) Info() (fs.FileInfo, error) {
	n, err := e.dir.child(e.e)
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: e.e.name, Err: err}
	}
	return info{e.e.name, n}, nil
}
