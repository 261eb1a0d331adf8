package squashfs_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/squashfs"
)

// facts is what is compared of each entry.
type facts struct {
	Mode     fs.FileMode
	Size     int64
	Time     int64
	UID, GID uint32
	Device   string
	Links    uint32
	Inode    uint32
	Target   string
	Sum      string
	Attrs    []string
}

// ours is what the package says of all entries.
func ours(t testing.TB, fsys *squashfs.FS) map[string]facts {
	t.Helper()
	all := map[string]facts{}
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
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
		all[path], err = ourFacts(fsys, path, info)
		return err
	})
	must(t, err)
	return all
}

func ourFacts(fsys *squashfs.FS, path string, info fs.FileInfo) (facts, error) {
	s := info.Sys().(*squashfs.Stat)
	f := facts{Mode: info.Mode(), Size: info.Size(), Time: info.ModTime().Unix(), UID: s.UID, GID: s.GID, Links: s.Links, Inode: s.Inode}
	if info.Mode()&fs.ModeDevice != 0 {
		f.Device = fmt.Sprintf("%d:%d", s.Major, s.Minor)
	}
	attrs, err := s.Xattrs()
	for _, a := range attrs {
		f.Attrs = append(f.Attrs, fmt.Sprintf("%s=%x", a.Name, a.Value))
	}
	slices.Sort(f.Attrs)
	if err == nil && info.Mode().Type() == fs.ModeSymlink {
		f.Target, err = fsys.ReadLink(path)
	}
	if err == nil && info.Mode().IsRegular() {
		f.Sum, err = sum(fsys.Open(path))
	}
	return f, err
}

func sum(f fs.File, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// theirs is what the kernel says of all entries of a folder.
func theirs(t testing.TB, dir string) map[string]facts {
	t.Helper()
	all := map[string]facts{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil {
			all[rel], err = theirFacts(path, info)
		}
		return err
	})
	must(t, err)
	return all
}

func theirFacts(path string, info fs.FileInfo) (facts, error) {
	s := info.Sys().(*syscall.Stat_t)
	f := facts{
		Mode: info.Mode(), Size: info.Size(), Time: info.ModTime().Unix(), UID: s.Uid, GID: s.Gid,
		Links: uint32(s.Nlink), Inode: uint32(s.Ino),
	}
	if info.Mode()&fs.ModeDevice != 0 {
		f.Device = fmt.Sprintf("%d:%d", unix.Major(s.Rdev), unix.Minor(s.Rdev))
	}
	var err error
	f.Attrs, err = theirAttrs(path)
	if err == nil && info.Mode().Type() == fs.ModeSymlink {
		f.Target, err = os.Readlink(path)
	}
	if err == nil && info.Mode().IsRegular() {
		f.Sum, err = sum(os.Open(path))
	}
	return f, err
}

func theirAttrs(path string) ([]string, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err == unix.ENOTSUP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []string
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, err
		}
		list = append(list, fmt.Sprintf("%s=%x", name, value[:n]))
	}
	slices.Sort(list)
	return list, nil
}

// asSource leaves out what a folder on another file system has of its own.
func asSource(all map[string]facts) map[string]facts {
	inodes := map[uint32]int{}
	for _, f := range all {
		inodes[f.Inode]++
	}
	for path, f := range all {
		f.Links = uint32(inodes[f.Inode])
		f.Inode = 0
		if f.Mode.IsDir() {
			f.Size, f.Links = 0, 0
		}
		all[path] = f
	}
	return all
}

func same(t testing.TB, what string, want, got map[string]facts) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		if len(diff) > 4000 {
			diff = diff[:4000] + "…"
		}
		t.Errorf("%s, and ours (+):\n%s", what, diff)
	}
}

// mounted mounts an image, where that is possible.
func mounted(t testing.TB, image string) (dir string, ok bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("not compared with a mount: not root")
		return "", false
	}
	dir = t.TempDir()
	out, err := mountCommand(image, dir)
	if err != nil {
		t.Logf("not compared with a mount: %v: %s", err, bytes.TrimSpace(out))
		return "", false
	}
	t.Cleanup(func() { _ = unmount(dir) })
	return dir, true
}
