package imagefs

import (
	"io/fs"
	"time"
)

// Types are those of directory entries in ext4 and erofs, by their number.
// What is not in there is nothing to be in a directory.
var types = [...]fs.FileMode{
	fs.ModeIrregular, 0, fs.ModeDir, fs.ModeDevice | fs.ModeCharDevice, fs.ModeDevice, fs.ModeNamedPipe, fs.ModeSocket,
	fs.ModeSymlink,
}

// EntryType is what the file type of a directory's entry means in ext4 and
// erofs: [fs.ModeIrregular] if it means nothing.
func EntryType(number byte) fs.FileMode {
	if int(number) >= len(types) {
		return fs.ModeIrregular
	}
	return types[number]
}

// unixTypes are the types in a Unix mode, by its upper four bits.
var unixTypes = [16]fs.FileMode{
	1: fs.ModeNamedPipe, 2: fs.ModeDevice | fs.ModeCharDevice, 4: fs.ModeDir, 6: fs.ModeDevice, 8: 0, 10: fs.ModeSymlink,
	12: fs.ModeSocket,

	0: fs.ModeIrregular, 3: fs.ModeIrregular, 5: fs.ModeIrregular, 7: fs.ModeIrregular, 9: fs.ModeIrregular,
	11: fs.ModeIrregular, 13: fs.ModeIrregular, 14: fs.ModeIrregular, 15: fs.ModeIrregular,
}

// Mode is a Unix mode in Go's bits; [fs.ModeIrregular] if it is of no type.
func Mode(unix uint16) fs.FileMode {
	m := unixTypes[unix>>12] | fs.FileMode(unix&0o777)
	if unix&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if unix&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if unix&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// Device splits a device number as Linux packs it into 32 bits: the minor
// number grew around the major one.
func Device(number uint32) (major, minor uint32) {
	return number >> 8 & 0xfff, number&0xff | number>>12&0xfff00
}

// kindOf is a type in words.
func kindOf(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "symbolic link"
	case fs.ModeDevice:
		return "block device"
	case fs.ModeDevice | fs.ModeCharDevice:
		return "character device"
	case fs.ModeNamedPipe:
		return "fifo"
	case fs.ModeSocket:
		return "socket"
	}
	return "thing of no type"
}

// fileInfo describes a node under a name.
type fileInfo struct {
	name string
	n    Node
	Info
}

func describe(name string, n Node) fileInfo { return fileInfo{name, n, n.Info()} }

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.Info.Size }
func (i fileInfo) Mode() fs.FileMode  { return i.Info.Mode }
func (i fileInfo) ModTime() time.Time { return i.Info.ModTime }
func (i fileInfo) IsDir() bool        { return i.Info.Mode.IsDir() }
func (i fileInfo) String() string     { return fs.FormatFileInfo(i) }
func (i fileInfo) Sys() any {
	s := i.Stat
	s.node = i.n
	return &s
}

// entry is a directory's entry whose inode has not been read.
type entry struct {
	f   *FS
	dir uint64
	e   Dirent
}

func (e entry) Name() string      { return e.e.Name }
func (e entry) IsDir() bool       { return e.e.Type.IsDir() }
func (e entry) Type() fs.FileMode { return e.e.Type }
func (e entry) String() string    { return fs.FormatDirEntry(e) }

func (e entry) Info() (fs.FileInfo, error) {
	n, err := e.f.child(e.dir, e.e)
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: e.e.Name, Err: err}
	}
	return describe(e.e.Name, n), nil
}
