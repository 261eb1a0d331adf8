package images_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/imagefs"
	"github.com/lockport/lockport/internal/squashfs"
)

// facts is what is compared of each entry.
type facts struct {
	Mode     fs.FileMode
	Size     int64
	Time     int64 // ns
	UID, GID uint32
	Device   string
	Links    uint32
	Inode    uint64
	Target   string
	Sum      string
	Attrs    []string
}

// ours is what one of our file systems says of all entries.
func ours(t testing.TB, fsys fs.ReadLinkFS) map[string]facts {
	t.Helper()
	all := map[string]facts{}
	must(t, fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type() != info.Mode().Type() {
			t.Errorf("%s: listed as %v, but %v", path, d.Type(), info.Mode())
		}
		f, err := ourFacts(info)
		if err != nil {
			return err
		}
		all[path], err = contents(f, info, fsys.ReadLink, func(path string) (io.ReadCloser, error) { return fsys.Open(path) }, path)
		return err
	}))
	return all
}

func ourFacts(info fs.FileInfo) (facts, error) {
	f := facts{Mode: info.Mode(), Size: info.Size(), Time: info.ModTime().UnixNano()}
	var major, minor uint32
	var err error
	switch s := info.Sys().(type) {
	case *imagefs.Stat:
		f.UID, f.GID, f.Links, f.Inode, major, minor = s.UID, s.GID, s.Links, s.Inode, s.Major, s.Minor
		list, failed := s.Xattrs()
		for err = failed; len(list) > 0; list = list[1:] {
			f.Attrs = append(f.Attrs, fmt.Sprintf("%s=%x", list[0].Name, list[0].Value))
		}
	case *squashfs.Stat:
		f.UID, f.GID, f.Links, f.Inode, major, minor = s.UID, s.GID, s.Links, uint64(s.Inode), s.Major, s.Minor
		list, failed := s.Xattrs()
		for err = failed; len(list) > 0; list = list[1:] {
			f.Attrs = append(f.Attrs, fmt.Sprintf("%s=%x", list[0].Name, list[0].Value))
		}
	case *syscall.Stat_t:
		f = statFacts(f, s)
	}
	if info.Mode()&fs.ModeDevice != 0 && f.Device == "" {
		f.Device = fmt.Sprintf("%d:%d", major, minor)
	}
	slices.Sort(f.Attrs)
	return f, err
}

func statFacts(f facts, s *syscall.Stat_t) facts {
	f.UID, f.GID, f.Links, f.Inode = s.Uid, s.Gid, uint32(s.Nlink), s.Ino
	if f.Mode&fs.ModeDevice != 0 {
		f.Device = fmt.Sprintf("%d:%d", unix.Major(s.Rdev), unix.Minor(s.Rdev))
	}
	return f
}

// contents adds where a link leads, or what a file has.
func contents(
	f facts, info fs.FileInfo, readLink func(string) (string, error), open func(string) (io.ReadCloser, error), path string,
) (facts, error) {
	var err error
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		f.Target, err = readLink(path)
	case info.Mode().IsRegular() && info.Size() > 0:
		var file io.ReadCloser
		if file, err = open(path); err == nil {
			h := sha256.New()
			_, err = io.Copy(h, file)
			f.Sum = fmt.Sprintf("%x", h.Sum(nil)[:8])
			_ = file.Close()
		}
	}
	return f, err
}

// theirs is what the kernel says of all entries of a folder.
func theirs(t testing.TB, dir string) map[string]facts {
	t.Helper()
	all := map[string]facts{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := statFacts(facts{Mode: info.Mode(), Size: info.Size(), Time: info.ModTime().UnixNano()}, info.Sys().(*syscall.Stat_t))
		if f.Attrs, err = theirAttrs(path); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil {
			all[rel], err = contents(f, info, os.Readlink, func(path string) (io.ReadCloser, error) { return os.Open(path) }, path)
		}
		return err
	}))
	return all
}

func theirAttrs(path string) ([]string, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err == unix.ENOTSUP || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []string
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", name, path, err)
		}
		list = append(list, fmt.Sprintf("%s=%x", name, value[:n]))
	}
	slices.Sort(list)
	return list, nil
}

// asSource leaves out what differs from one file system to the other.
func asSource(all map[string]facts) map[string]facts {
	out := map[string]facts{}
	for path, f := range all {
		if path == "lost+found" { // some have one of their own, some leave it out
			continue
		}
		f.Inode, f.Attrs, f.Time = 0, nil, 0
		if f.Mode.IsDir() {
			f.Size, f.Links = 0, 0
		}
		out[path] = f
	}
	return out
}

func same(t testing.TB, what string, want, got map[string]facts) {
	t.Helper()
	if reflect.DeepEqual(want, got) { // much faster, and so it is nearly always
		return
	}
	diff := cmp.Diff(want, got)
	t.Errorf("%s, and ours (+):\n%.3000s", what, diff)
}
