package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Backing returns the block device that holds the LUKS2 volume on which the
// file system of path lives. The error wraps [ErrNotFound] when it lives on
// something else.
func (m *Mapper) Backing(path string) (device string, err error) {
	dev, err := m.fileSystemDevice(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	dir := filepath.Join(m.o.Sys, "dev/block", dev)
	uuid, err := os.ReadFile(filepath.Join(dir, "dm/uuid"))
	if err != nil || !strings.HasPrefix(string(uuid), "CRYPT-LUKS2-") {
		return "", fmt.Errorf("%s is not on a LUKS2 volume: %w", path, ErrNotFound)
	}
	slaves, err := os.ReadDir(filepath.Join(dir, "slaves"))
	if err != nil || len(slaves) != 1 {
		return "", errors.Join(fmt.Errorf("%s lies on %d devices: %w", path, len(slaves), ErrNotFound), err)
	}
	return filepath.Join(m.o.Dev, slaves[0].Name()), nil
}

// fileSystemDevice returns the number of the device below a path. btrfs and its
// like show numbers of their own; there the mount table names the device.
func (m *Mapper) fileSystemDevice(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", err
	}
	if unix.Major(st.Dev) == 0 {
		path, err := filepath.EvalSymlinks(path)
		if err != nil {
			return "", err
		}
		table, err := os.Open(filepath.Join(m.o.Proc, "self/mountinfo"))
		if err != nil {
			return "", err
		}
		defer table.Close()
		var source unix.Stat_t
		if err := unix.Stat(mountSource(table, path), &source); err == nil && source.Mode&unix.S_IFMT == unix.S_IFBLK {
			st.Dev = source.Rdev
		}
	}
	return number(unix.Major(st.Dev), unix.Minor(st.Dev)), nil
}

// LUKSDevices returns the block devices that hold LUKS volumes: those that udev
// knows as such or, for devices that udev has not looked at, those that begin
// like one.
func (m *Mapper) LUKSDevices() ([]Device, error) {
	all, err := os.ReadDir(filepath.Join(m.o.Sys, "class/block"))
	if err != nil {
		return nil, fmt.Errorf("listing block devices: %w", err)
	}
	var list []Device
	for _, entry := range all {
		if d, luks := m.luksDevice(entry.Name()); luks {
			list = append(list, d)
		}
	}
	return list, nil
}

func (m *Mapper) luksDevice(name string) (Device, bool) {
	// The kernel writes a slash in a device's name as an exclamation mark.
	d := Device{Node: filepath.Join(m.o.Dev, strings.ReplaceAll(name, "!", "/"))}
	number, err := os.ReadFile(filepath.Join(m.o.Sys, "class/block", name, "dev"))
	if err != nil {
		return d, false
	}
	f, err := os.Open(filepath.Join(m.o.Udev, "data", "b"+strings.TrimSpace(string(number))))
	if err != nil {
		return d, beginsLikeLUKS(d.Node)
	}
	defer f.Close()
	luks := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		kind, value, _ := strings.Cut(lines.Text(), ":")
		switch kind {
		case "S":
			d.Links = append(d.Links, filepath.Join(m.o.Dev, value))
		case "E":
			luks = luks || value == "ID_FS_TYPE=crypto_LUKS"
		}
	}
	slices.Sort(d.Links)
	return d, luks
}

func beginsLikeLUKS(node string) bool {
	f, err := os.OpenFile(node, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 6)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "LUKS\xba\xbe"
}
