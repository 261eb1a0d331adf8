package image

import (
	"cmp"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// mounts is the tree of several file systems, the longest paths first. Like
// those it is made of, it follows no links.
type mounts []mountPoint

type mountPoint struct {
	at    string // "." is the top
	files fs.ReadLinkFS
}

func (m mounts) sorted() mounts {
	slices.SortFunc(m, func(a, b mountPoint) int { return cmp.Compare(b.at, a.at) })
	return m
}

// below finds the file system that a path is in, and its path in there.
func (m mounts) below(name string) (fs.ReadLinkFS, string) {
	for _, p := range m {
		if p.at == "." {
			continue
		}
		if name == p.at {
			return p.files, "."
		}
		if rest, ok := strings.CutPrefix(name, p.at+"/"); ok {
			return p.files, rest
		}
	}
	return m[len(m)-1].files, name
}

func (m mounts) Open(name string) (fs.File, error) {
	files, at := m.below(name)
	f, err := files.Open(at)
	if err != nil {
		return nil, err
	}
	if extra := m.extra(name); len(extra) > 0 {
		return &extended{f, extra, false}, nil
	}
	return f, nil
}

func (m mounts) Lstat(name string) (fs.FileInfo, error) {
	files, at := m.below(name)
	info, err := files.Lstat(at)
	if err == nil && at == "." {
		info = named{info, path.Base(name)}
	}
	return info, err
}

func (m mounts) ReadLink(name string) (string, error) {
	files, at := m.below(name)
	return files.ReadLink(at)
}

// extra lists the mount points in a directory that it may not have an entry for:
// nothing is made in an image.
func (m mounts) extra(name string) []fs.DirEntry {
	files, at := m.below(name)
	var list []fs.DirEntry
	for _, p := range m {
		if p.at == "." || path.Dir(p.at) != name {
			continue
		}
		if _, err := files.Lstat(path.Join(at, path.Base(p.at))); err == nil {
			continue
		}
		if info, err := m.Lstat(p.at); err == nil {
			list = append(list, fs.FileInfoToDirEntry(info))
		}
	}
	return list
}

// named is a file under another name.
type named struct {
	fs.FileInfo
	name string
}

func (n named) Name() string { return n.name }

// extended is a directory with more entries.
type extended struct {
	fs.File
	more []fs.DirEntry
	end  bool
}

// ReadDir has the further entries behind all others.
func (e *extended) ReadDir(n int) ([]fs.DirEntry, error) {
	d, ok := e.File.(fs.ReadDirFile)
	if !ok || e.end {
		if n > 0 {
			return nil, io.EOF
		}
		return nil, nil
	}
	list, err := d.ReadDir(n)
	if n <= 0 && err == nil || err == io.EOF {
		e.end = true
		return append(list, e.more...), nil
	}
	return list, err
}

// bareRoot is the root directory of an image that has only a /usr: empty but for
// what the service manager makes in it, systemd's base-filesystem.c.
type bareRoot struct{}

var bareDirectories = []string{"boot", "dev", "etc", "home", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var"}

var bareLinks = map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}

func (bareRoot) Open(name string) (fs.File, error) {
	info, err := bareRoot{}.Lstat(name)
	if err != nil {
		return nil, err
	}
	return &bareFile{info.(bareInfo), false}, nil
}

func (bareRoot) Lstat(name string) (fs.FileInfo, error) {
	if _, link := bareLinks[name]; link || name == "." || slices.Contains(bareDirectories, name) {
		return bareInfo(name), nil
	}
	if first, _, _ := strings.Cut(name, "/"); bareLinks[first] != "" {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: syscall.ELOOP}
	}
	return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
}

func (bareRoot) ReadLink(name string) (string, error) {
	if target, ok := bareLinks[name]; ok {
		return target, nil
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
}

// bareInfo describes a directory or link by its name.
type bareInfo string

func (i bareInfo) Name() string { return string(i) }
func (i bareInfo) Size() int64  { return int64(len(bareLinks[string(i)])) }
func (i bareInfo) Mode() fs.FileMode {
	if _, link := bareLinks[string(i)]; link {
		return fs.ModeSymlink | 0o777
	}
	return fs.ModeDir | 0o755
}
func (i bareInfo) ModTime() time.Time { return time.Time{} }
func (i bareInfo) IsDir() bool        { return i.Mode().IsDir() }
func (i bareInfo) Sys() any           { return nil }

type bareFile struct {
	info bareInfo
	read bool
}

func (f *bareFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *bareFile) Close() error               { return nil }
func (f *bareFile) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.info.Name(), Err: fs.ErrInvalid}
}

func (f *bareFile) ReadDir(n int) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	if f.info == "." && !f.read {
		for _, name := range bareDirectories {
			list = append(list, fs.FileInfoToDirEntry(bareInfo(name)))
		}
		for name := range bareLinks {
			list = append(list, fs.FileInfoToDirEntry(bareInfo(name)))
		}
		slices.SortFunc(list, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	}
	if f.read = true; n > 0 && len(list) == 0 {
		return nil, io.EOF
	}
	return list, nil
}
