package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/squashfs"
)

// told is all that a folder says of its files, in words.
func told(t *testing.T, tree squashfs.Tree) []string {
	t.Helper()
	var list []string
	first := map[squashfs.LinkID]string{}
	describe := func(p string, n squashfs.Node) {
		if n.Mode.IsDir() {
			n.Size = 0
		}
		link := ""
		if n.Link != (squashfs.LinkID{}) {
			if first[n.Link] == "" {
				first[n.Link] = p
			}
			link = first[n.Link]
		}
		slices.SortFunc(n.Attrs, func(a, b squashfs.Attr) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
		list = append(list, fmt.Sprint(p, n.Mode, n.UID, n.GID, n.ModTime.UTC(), n.Size, n.Target, n.Attrs, " is ", link))
	}
	root, err := tree.Root()
	must(t, err)
	describe(".", root)
	for folders := []string{"."}; len(folders) > 0; folders = folders[1:] {
		below, err := tree.ReadDir(folders[0])
		must(t, err)
		slices.SortFunc(below, func(a, b squashfs.Node) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
		for _, n := range below {
			p := path.Join(folders[0], n.Name)
			describe(p, n)
			if n.Mode.IsDir() {
				folders = append(folders, p)
			}
		}
	}
	return list
}

// A folder written as a folder says the same of all that is in it: hard links,
// attributes, owners, and the times of links, too.
func TestDirectoryKeepsAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := dir + "/from"
	write(t, from+"/usr/bin/a", "a")
	write(t, from+"/note", "x")
	must(t, os.Link(from+"/usr/bin/a", from+"/usr/b"), os.Symlink("a", from+"/usr/bin/link"), os.Link(from+"/usr/bin/link", from+"/same"))
	must(t, os.Chmod(from+"/usr/bin/a", fs.ModeSetuid|0o755), os.Mkdir(from+"/empty", 0o500))
	owned := os.Geteuid() == 0
	if owned {
		must(t, os.Lchown(from+"/usr/bin/link", 7, 8), os.Chown(from+"/note", 70000, 3))
	}
	attributes := unix.Setxattr(from+"/note", "user.note", []byte("x\x00y"), 0) == nil
	if attributes && owned {
		// What follows a change of the owner would not stay.
		must(t, unix.Setxattr(from+"/usr/bin/a", "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
		must(t, os.Chmod(from+"/usr/bin/a", fs.ModeSetuid|0o755))
	}
	for i, p := range []string{"usr/bin/a", "usr/bin/link", "note", "empty", "usr/bin", "usr", "."} {
		at := unix.NsecToTimeval(int64(i+1) * 1e17)
		must(t, unix.Lutimes(from+"/"+p, []unix.Timeval{at, at}))
	}
	tree := New()
	must(t, tree.Import("/", squashfs.DirTree(from)))
	done := int64(0)
	_, err := Write(t.Context(), tree, dir+"/to", Output{Format: Directory, Protection: Naked, Progress: func(now, total int64) {
		if now < done || now > total {
			t.Errorf("%d of %d is done, after %d", now, total, done)
		}
		done = now
	}})
	must(t, err)
	if done != 2 {
		t.Errorf("%d bytes are done", done)
	}
	if got, want := told(t, squashfs.DirTree(dir+"/to")), told(t, squashfs.DirTree(from)); !slices.Equal(got, want) {
		t.Errorf("written\n%q\nof\n%q", got, want)
	}
}

// An attribute that can't be had in a folder is no secret.
func TestDirectoryAttributes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := New()
	must(t, tree.Symlink("/link", "target"))
	tree.top.children["link"].Attrs = []squashfs.Attr{{Name: "user.note"}} // Linux has these on files and directories only
	_, err := Write(t.Context(), tree, dir+"/to", Output{Format: Directory, Protection: Naked, NotAfter: time.Unix(0, 0)})
	if !errors.Is(err, ErrSpec) {
		t.Errorf("%v", err)
	}
	if got := files(t, dir); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}
