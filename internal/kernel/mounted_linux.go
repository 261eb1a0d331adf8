package kernel

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mounted is the tree below a directory. It follows no links, as readers of
// images do not, and does not leave the directory.
type mounted struct{ top *os.File }

var _ fs.ReadLinkFS = mounted{}

// openTries bounds how often signals, or mounts made elsewhere meanwhile, make
// the kernel start again.
const openTries = 64

// open opens what is at a path with these flags.
func (m mounted) open(op, name string, flags uint64) (*os.File, error) {
	if !validPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	var f *os.File
	err := m.withTop(func(top int) error {
		fd, err := unix.Openat2(top, name, &how)
		for tries := 0; (err == unix.EINTR || err == unix.EAGAIN) && tries < openTries; tries++ {
			fd, err = unix.Openat2(top, name, &how)
		}
		if err == nil {
			f = os.NewFile(uintptr(fd), name)
		}
		return err
	})
	if errors.Is(err, unix.ENOSYS) {
		err = ErrUnsupported
	}
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return f, nil
}

// withTop lends the directory's descriptor: it is not closed meanwhile.
func (m mounted) withTop(do func(top int) error) error {
	c, err := m.top.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if c.Control(func(fd uintptr) { result = do(int(fd)) }) != nil {
		return fs.ErrClosed // it has no other error, and none that says so
	}
	return result
}

// validPath is [fs.ValidPath] for names that need not be UTF-8.
func validPath(name string) bool {
	up := name == ".." || strings.HasPrefix(name, "../")
	return name != "" && name[0] != '/' && path.Clean(name) == name && !up
}

// Open opens a file or directory. Of anything else there is only Stat, as to
// open it might have effects.
func (m mounted) Open(name string) (fs.File, error) {
	info, err := m.lstat("open", name)
	if err != nil {
		return nil, err
	}
	flags := uint64(unix.O_PATH)
	if info.IsDir() || info.Mode().IsRegular() {
		flags = unix.O_RDONLY
	}
	f, err := m.open("open", name, flags)
	if err != nil {
		return nil, err
	}
	return mountedFile{f, m, name}, nil
}

// Lstat describes what is at a path. The info's Sys is a *syscall.Stat_t.
func (m mounted) Lstat(name string) (fs.FileInfo, error) { return m.lstat("lstat", name) }

// Stat is Lstat: links are not followed.
func (m mounted) Stat(name string) (fs.FileInfo, error) { return m.lstat("stat", name) }

func (m mounted) lstat(op, name string) (fs.FileInfo, error) {
	f, err := m.open(op, name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// ReadLink returns the target of a link as it is in the image.
func (m mounted) ReadLink(name string) (string, error) {
	f, err := m.open("readlink", name, unix.O_PATH)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", b)
	if err == unix.ENOENT { // what it says of anything that is no link
		err = unix.EINVAL
	}
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(b[:n]), nil
}

// ReadDir lists a directory, by name.
func (m mounted) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := m.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.(mountedFile).ReadDir(-1)
	sortByName(list)
	return list, err
}

// mountedFile is an open file. Its directory's entries describe themselves by
// the tree, as their paths mean nothing elsewhere.
type mountedFile struct {
	*os.File
	tree mounted
	name string
}

func (f mountedFile) ReadDir(n int) ([]fs.DirEntry, error) {
	names, err := f.Readdirnames(n)
	list := make([]fs.DirEntry, 0, len(names))
	for _, name := range names {
		info, failed := f.tree.Lstat(path.Join(f.name, name))
		if failed != nil {
			return list, failed
		}
		list = append(list, fs.FileInfoToDirEntry(info))
	}
	return list, err
}

func sortByName(list []fs.DirEntry) {
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
}
