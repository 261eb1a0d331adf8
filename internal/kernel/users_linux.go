package kernel

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// because turns a list of users into the end of a sentence.
func because(users []string) string {
	if len(users) == 0 {
		return ""
	}
	return ": " + strings.Join(users, ", ")
}

// line returns the first line of a file in /sys or /proc.
func line(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{'\n'})
	return string(b)
}

// lastingUsers says who uses the mapping in a way that waiting will not end.
func (m *Mapper) lastingUsers(status message, node string) []string {
	major, minor := majorMinor(status.dev)
	return m.users(major, minor, m.nodePath(node), filepath.Join(m.o.Dev, fmt.Sprintf("dm-%d", minor)))
}

// users says who uses a block device: mounts, swap and devices on top of it.
// nodes are the device's paths.
func (m *Mapper) users(major, minor uint32, nodes ...string) []string {
	var users []string
	if f, err := os.Open(filepath.Join(m.o.Proc, "self/mountinfo")); err == nil {
		defer f.Close()
		for _, point := range mountPoints(f, number(major, minor), nodes...) {
			users = append(users, "mounted at "+point)
		}
	}
	sys := filepath.Join(m.o.Sys, "dev/block", number(major, minor))
	for _, name := range names(filepath.Join(sys, "holders")) {
		if alias, err := os.ReadFile(filepath.Join(sys, "holders", name, "dm/name")); err == nil {
			name = unmangle(line(alias))
		}
		users = append(users, "used by "+name)
	}
	if m.swap(major, minor) {
		users = append(users, "used as swap")
	}
	return users
}

func (m *Mapper) swap(major, minor uint32) bool {
	table, _ := os.ReadFile(filepath.Join(m.o.Proc, "swaps"))
	for row := range strings.Lines(string(table)) {
		path, _, _ := strings.Cut(row, " ")
		if strings.HasPrefix(path, "/") && isDevice(unoctal(path), major, minor) {
			return true
		}
	}
	return false
}

func isDevice(path string, major, minor uint32) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK &&
		uint64(st.Rdev) == unix.Mkdev(major, minor)
}

// processes says which processes have the device open: three at most.
func (m *Mapper) processes(major, minor uint32) []string {
	var users []string
	for _, pid := range names(m.o.Proc) {
		if _, err := strconv.Atoi(pid); err != nil || !m.hasOpen(pid, major, minor) {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join(m.o.Proc, pid, "comm"))
		users = append(users, fmt.Sprintf("open in %s (process %s)", line(comm), pid))
		if len(users) == 3 {
			break
		}
	}
	return users
}

func (m *Mapper) hasOpen(pid string, major, minor uint32) bool {
	dir := filepath.Join(m.o.Proc, pid, "fd")
	for _, fd := range names(dir) {
		if isDevice(filepath.Join(dir, fd), major, minor) {
			return true
		}
	}
	return false
}

// names lists a folder, nothing when it can't be read.
func names(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	list, _ := f.Readdirnames(-1)
	return list
}
