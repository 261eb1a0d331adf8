package portable

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// shareContent lets two files share their blocks, where the file system can.
func shareContent(src, dst *os.File) bool {
	return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil
}

// nextData finds data at or behind a place. Without any more, it is empty at the
// end.
func nextData(f *os.File, at, size int64) (begin, end int64, err error) {
	begin, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL):
		return at, size, nil // a file system that knows no holes
	case err != nil:
		return 0, 0, err
	}
	end, err = unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
	return min(begin, size), min(end, size), err
}

// maxAttributes is what the kernel lets a file have.
const maxAttributes = 64 << 10

// copyAttributes copies extended attributes: labels, capabilities, access lists.
// What the copy's file system or our rights do not allow is left out only where
// it says nothing about the file's content or use.
func copyAttributes(src, dst *os.File) error {
	names := make([]byte, maxAttributes)
	n, err := unix.Flistxattr(int(src.Fd()), names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, maxAttributes)
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if name == "" {
			continue
		}
		size, err := unix.Fgetxattr(int(src.Fd()), name, value)
		if err == nil {
			err = unix.Fsetxattr(int(dst.Fd()), name, value[:size], 0)
		}
		optional := strings.HasPrefix(name, "security.selinux") || strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "system.")
		if err != nil && !(optional && (errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM))) {
			return &os.PathError{Op: "copying the attribute " + name + " of", Path: src.Name(), Err: err}
		}
	}
	return nil
}

// syncTree brings a file, or the file system of a directory, to the disk.
func syncTree(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return f.Sync()
	}
	return unix.Syncfs(int(f.Fd()))
}

// startSync lets a file be on its way to the disk. Whether it arrives is found out
// by syncing it.
func startSync(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
