package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// nodePath is where the node of a mapping, or the control node, lies.
func (m *Mapper) nodePath(node string) string { return filepath.Join(m.o.Dev, "mapper", node) }

// ensureNode sees to it that the mapping can be opened by name. With udev its
// link should be there already; a missing one is made as a plain node, as
// libdevmapper would.
func (m *Mapper) ensureNode(node string, dev uint64, expected bool) error {
	path := m.nodePath(node)
	major, minor := majorMinor(dev)
	want := unix.Mkdev(major, minor)
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && uint64(st.Rdev) == want {
		return nil
	}
	if expected {
		m.o.Log.Warn("udev made no link to the volume, making a node", "path", path)
	}
	if err := clearNode(path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(want)); err != nil && err != unix.EEXIST {
		return &fs.PathError{Op: "mknod", Path: path, Err: err}
	}
	return nil
}

// clearNode removes a left-over node or link, but nothing that somebody put
// there for another purpose.
func clearNode(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if t := info.Mode().Type(); t != os.ModeDevice && t != os.ModeSymlink {
		return fmt.Errorf("%s is in the way", path)
	}
	return os.Remove(path)
}

// dropNode removes what is left of a node once its device is gone. A node whose
// device exists belongs to somebody who was quick to use the name again.
func (m *Mapper) dropNode(node string) error {
	path := m.nodePath(node)
	if !exists(path) {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err == nil {
		dev := number(unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
		if name, err := os.ReadFile(filepath.Join(m.o.Sys, "dev/block", dev, "dm/name")); err == nil && line(name) == node {
			return nil
		}
	}
	return clearNode(path)
}
