package luks2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockDir is where libcryptsetup keeps its locks; it is part of the protocol
// between programs that work on the same device (docs/LUKS2-locking.txt).
const lockDir = "/run/cryptsetup"

// File is a [Store] on a block device or plain file, with the locks of
// libcryptsetup. It is safe for concurrent use, but two goroutines that lock
// the same File don't exclude each other.
type File struct {
	f     *os.File
	block bool
	dev   uint64 // device number, for a block device
}

// OpenFile opens a volume or an image. A read-only file can be unlocked but not
// changed. Anything but a block device or a regular file is refused.
func OpenFile(path string, readOnly bool) (*File, error) {
	flags := os.O_RDWR
	if readOnly {
		flags = os.O_RDONLY
	}
	// Without blocking: opening a named pipe must not hang.
	f, err := os.OpenFile(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	file := &File{f: f, block: st.Mode&unix.S_IFMT == unix.S_IFBLK, dev: uint64(st.Rdev)}
	if !file.block && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.Join(fmt.Errorf("%s: neither a block device nor a regular file", path), f.Close())
	}
	return file, nil
}

// Name returns the path that the file was opened by.
func (f *File) Name() string { return f.f.Name() }

// Block tells a block device from a regular file.
func (f *File) Block() bool { return f.block }

// ReadAt is io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// WriteAt is io.WriterAt. It does not make a file longer.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	if off+int64(len(p)) > size {
		return 0, fmt.Errorf("writing behind the end of %s: %w", f.Name(), io.ErrShortWrite)
	}
	return f.f.WriteAt(p, off)
}

// Sync returns when everything written is on stable storage.
func (f *File) Sync() error { return f.f.Sync() }

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// Size returns the length in bytes.
func (f *File) Size() (int64, error) {
	if !f.block {
		st, err := f.f.Stat()
		if err != nil {
			return 0, err
		}
		return st.Size(), nil
	}
	size, err := f.f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", f.Name(), err)
	}
	return size, nil
}

// SectorSize returns the sector size in bytes that a new volume on this file
// should use: 4096 where the device's physical sectors allow it, 512 elsewhere.
func (f *File) SectorSize() int {
	size, err := f.Size()
	if err != nil || size%4096 != 0 {
		return 512
	}
	if !f.block {
		return 4096
	}
	physical, err := unix.IoctlGetInt(int(f.f.Fd()), unix.BLKPBSZGET)
	if err != nil || physical < 4096 {
		return 512
	}
	return 4096
}

// Lock takes the lock that libcryptsetup takes: on a file of its own for a
// block device, on the file itself for an image.
func (f *File) Lock(ctx context.Context, exclusive bool) (func(), error) {
	if f.block {
		name := fmt.Sprintf("L_%d:%d", unix.Major(f.dev), unix.Minor(f.dev))
		return lockPath(ctx, name, exclusive)
	}
	// A descriptor of its own, so that the lock is not shared with others who
	// inherited or duplicated ours.
	own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.f.Fd()), os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := flock(ctx, own, exclusive); err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return func() { _ = own.Close() }, nil
}

// lockNamed takes one of the locks that are shared by all volumes.
func lockNamed(ctx context.Context, name string) (func(), error) {
	return lockPath(ctx, "LN_"+name, true)
}

// lockPath takes a lock in lockDir. Whoever releases a lock last removes its
// file, so a lock only counts if the file is still there once it is taken.
func lockPath(ctx context.Context, name string, exclusive bool) (func(), error) {
	dir, err := openLockDir()
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	for {
		fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_NOFOLLOW|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(lockDir, name), err)
		}
		f := os.NewFile(uintptr(fd), filepath.Join(lockDir, name))
		if err := flock(ctx, f, exclusive); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if sameFile(dir, name, fd) {
			return func() { releasePath(f, name) }, nil
		}
		_ = f.Close()
	}
}

func openLockDir() (int, error) {
	if err := unix.Mkdir(lockDir, 0o700); err != nil && err != unix.EEXIST {
		return -1, fmt.Errorf("%s: %w", lockDir, err)
	}
	dir, err := unix.Open(lockDir, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", lockDir, err)
	}
	return dir, nil
}

func sameFile(dir int, name string, fd int) bool {
	var held, there unix.Stat_t
	return unix.Fstat(fd, &held) == nil &&
		unix.Fstatat(dir, name, &there, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		held.Ino == there.Ino && held.Dev == there.Dev
}

// releasePath removes the lock's file if nobody else waits for it.
func releasePath(f *os.File, name string) {
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	dir, err := openLockDir()
	if err != nil {
		return
	}
	defer unix.Close(dir)
	if sameFile(dir, name, int(f.Fd())) {
		_ = unix.Unlinkat(dir, name, 0)
	}
}

// flock waits for a lock until the context ends. The kernel has no such wait
// with an end, so a second of it is tried again and again at growing intervals.
func flock(ctx context.Context, f *os.File, exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	pause := time.Millisecond
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", f.Name(), ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, 100*time.Millisecond)
		}
	}
}
