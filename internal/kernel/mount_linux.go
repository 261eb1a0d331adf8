package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mountable has the file systems that are mounted, and the option that keeps the
// kernel from replaying a journal: a mount that is read-only may do that else.
// It is what systemd's dissect-image.c takes.
var mountable = map[string][2]string{
	"btrfs": {"rescue", "nologreplay"},
	"erofs": {}, "squashfs": {}, "vfat": {},
	"ext4": {"norecovery"}, "f2fs": {"norecovery"}, "xfs": {"norecovery"},
}

// Mount gives access to a file system in a part of a file: size bytes from
// offset on. It is mounted read-only, and nowhere: the mount has no place in
// the tree of files, so nobody else sees it, and it is gone with what we have
// open, whatever becomes of us. So is the loop device below it.
//
// The files follow no links, as those of an image that is read here. They may be
// used by several goroutines until undo, which may be called more than once. The
// file need not stay open.
//
// It takes root. Errors wrap [fs.ErrPermission] without, and [ErrUnsupported]
// where the kernel lacks loop devices, mounts of this kind (Linux 5.6) or the
// file system. The kernel's code for the file system runs on what may be an
// attacker's bytes: that is for the caller to have considered.
func (m *Mapper) Mount(
	ctx context.Context, file *os.File, offset, size int64, fileSystem string,
) (files fs.ReadLinkFS, undo func() error, err error) {
	option, ok := mountable[fileSystem]
	if !ok {
		return nil, nil, fmt.Errorf("file system %q is %w", fileSystem, ErrUnsupported)
	}
	if offset < 0 || size <= 0 {
		return nil, nil, fmt.Errorf("a file system of %d bytes at %d: %w", size, offset, fs.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	loop, err := m.attachLoop(file, os.O_RDONLY, uint64(offset), uint64(size))
	if err != nil {
		return nil, nil, fmt.Errorf("making a loop device of %s: %w", file.Name(), forRoot(err))
	}
	defer loop.Close() // from then on the mount alone keeps it
	top, err := mountDevice(ctx, loop.Name(), fileSystem, option)
	if err != nil {
		return nil, nil, err
	}
	undo = func() error {
		if err := top.Close(); !errors.Is(err, fs.ErrClosed) {
			return err
		}
		return nil
	}
	return mounted{top}, undo, nil
}

// forRoot says so when it is for lack of rights that something failed.
func forRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return fmt.Errorf("only root can do that: %w", err)
	}
	return err
}

// mountDevice returns the root directory of a new mount that is nowhere.
func mountDevice(ctx context.Context, device, fileSystem string, option [2]string) (*os.File, error) {
	config, err := unix.Fsopen(fileSystem, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("file system %s is %w", fileSystem, ErrUnsupported)
	}
	if err != nil {
		return nil, forRoot(os.NewSyscallError("fsopen", err))
	}
	defer unix.Close(config)
	if err := configureMount(config, device, option); err != nil {
		return nil, fmt.Errorf("%w%s", err, complaint(config))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// Links are not followed by mounted; to have the mount refuse it as well
	// would need Linux 5.14.
	const attributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	fd, err := unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), "."), nil
}

func configureMount(config int, device string, option [2]string) error {
	if err := unix.FsconfigSetString(config, "source", device); err != nil {
		return os.NewSyscallError("fsconfig", err)
	}
	if err := unix.FsconfigSetFlag(config, "ro"); err != nil {
		return os.NewSyscallError("fsconfig", err)
	}
	var err error
	switch key, value := option[0], option[1]; {
	case value != "":
		err = unix.FsconfigSetString(config, key, value)
	case key != "":
		err = unix.FsconfigSetFlag(config, key)
	}
	if err != nil {
		return fmt.Errorf("option %s: %w", option[0], os.NewSyscallError("fsconfig", err))
	}
	return os.NewSyscallError("fsconfig", unix.FsconfigCreate(config))
}

// complaint is what the kernel says of a mount that failed, if it says anything:
// messages with a letter for their kind in front, "e" for errors.
func complaint(config int) string {
	b := make([]byte, 512)
	for range 16 {
		n, err := unix.Read(config, b)
		if err != nil {
			return ""
		}
		if text, ok := strings.CutPrefix(string(b[:n]), "e "); ok {
			return fmt.Sprintf(" (%q)", strings.TrimSpace(text))
		}
	}
	return ""
}
