package portable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// maxDepth bounds the trees that are copied.
const maxDepth = 512

// copyChunk is how much is copied between two looks at the context.
const copyChunk = 32 << 20

// copyImage copies an image below the root, a file or a tree, with all that it is:
// owners, modes, times, extended attributes, links among its files, and holes. No
// link is followed. What it holds is on the disk when it returns.
func copyImage(ctx context.Context, root *dirs, disk flush, from, to string) error {
	c := &copier{ctx: ctx, root: root, seen: map[fileID]string{}}
	if err := c.copy(from, to, 0); err != nil {
		return err
	}
	f, err := root.Open(to)
	if err != nil {
		return err
	}
	return errors.Join(disk.all(f), f.Close())
}

type fileID struct{ device, inode uint64 }

type copier struct {
	ctx  context.Context
	root *dirs
	seen map[fileID]string // copies of files that have several names
}

func (c *copier) copy(from, to string, depth int) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("/%s: more than %d directories in each other", from, maxDepth)
	}
	info, err := c.root.Lstat(from)
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case 0:
		linked, err := c.link(info, to)
		if err != nil || linked {
			return err
		}
		return c.file(from, to)
	case fs.ModeSymlink:
		target, err := c.root.Readlink(from)
		if err == nil {
			err = c.root.Symlink(target, to)
		}
		if err != nil {
			return err
		}
		return c.own(info, to)
	case fs.ModeDir:
		return c.dir(from, to, depth)
	}
	return fmt.Errorf("/%s: only files, links and directories can be copied", from)
}

// link makes another name of a file that is copied already.
func (c *copier) link(info fs.FileInfo, to string) (bool, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink < 2 {
		return false, nil
	}
	id := fileID{uint64(st.Dev), st.Ino}
	if first, ok := c.seen[id]; ok {
		return true, c.root.Link(first, to)
	}
	c.seen[id] = to
	return false, nil
}

func (c *copier) dir(from, to string, depth int) error {
	src, err := c.root.OpenFile(from, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := c.root.Mkdir(to, 0o700); err != nil {
		return err
	}
	for {
		entries, err := src.ReadDir(1000)
		for _, e := range entries {
			if err := c.copy(path.Join(from, e.Name()), path.Join(to, e.Name()), depth+1); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	dst, err := c.root.Open(to)
	if err != nil {
		return err
	}
	return errors.Join(c.attributes(src, dst, to), dst.Close())
}

func (c *copier) file(from, to string) error {
	src, err := c.root.OpenFile(from, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("/%s: has become something else", from)
	}
	dst, err := c.root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = copyContent(c.ctx, src, dst, info.Size()); err == nil {
		err = c.attributes(src, dst, to)
	}
	return errors.Join(err, dst.Close())
}

// copyContent copies the data between the holes; where the file system can share
// it, not even that.
func copyContent(ctx context.Context, src, dst *os.File, size int64) error {
	if shareContent(src, dst) {
		return nil
	}
	for at := int64(0); at < size; {
		begin, end, err := nextData(src, at, size)
		if err != nil {
			return err
		}
		for at = begin; at < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := copyRange(src, dst, at, min(copyChunk, end-at))
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("it became shorter meanwhile: %w", io.ErrUnexpectedEOF)
			}
			at += n
		}
		at = end
	}
	return dst.Truncate(size)
}

// copyRange copies by means of the kernel, where it has any.
func copyRange(src, dst *os.File, at, n int64) (int64, error) {
	if _, err := src.Seek(at, io.SeekStart); err != nil {
		return 0, err
	}
	if _, err := dst.Seek(at, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.Copy(dst, io.LimitReader(src, n))
	return n, err
}

// attributes gives a copy all else that a file or directory has. The mode comes
// after the owner, who takes special bits with him, and the times last.
func (c *copier) attributes(src, dst *os.File, to string) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if err := c.own(info, to); err != nil {
		return err
	}
	if err := copyAttributes(src, dst); err != nil {
		return err
	}
	if err := dst.Chmod(info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)); err != nil {
		return err
	}
	return c.root.Chtimes(to, info.ModTime(), info.ModTime())
}

// own gives a copy to whom the original belongs.
func (c *copier) own(info fs.FileInfo, to string) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid() {
		return nil
	}
	return c.root.Lchown(to, int(st.Uid), int(st.Gid))
}
