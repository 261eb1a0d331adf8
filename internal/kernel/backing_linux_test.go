package kernel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// plant writes files below a folder.
func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBacking(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	block := "dev/block/" + number(unix.Major(st.Dev), unix.Minor(st.Dev))
	for _, tt := range []struct {
		what  string
		files map[string]string
		want  string
	}{
		{"volume", map[string]string{"dm/uuid": "CRYPT-LUKS2-00-x\n", "slaves/sda2/dev": ""}, "/dev/sda2"},
		{"disk", map[string]string{"size": ""}, ""},
		{"LVM", map[string]string{"dm/uuid": "LVM-x\n", "slaves/dm-0/dev": ""}, ""},
		{"two devices", map[string]string{"dm/uuid": "CRYPT-LUKS2-00-x\n", "slaves/a/dev": "", "slaves/b/dev": ""}, ""},
	} {
		m := New(Options{Sys: t.TempDir()})
		plant(t, filepath.Join(m.o.Sys, block), tt.files)
		got, err := m.Backing(path)
		if got != tt.want || (tt.want == "") != errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %q, %v", tt.what, got, err)
		}
	}
	if _, err := New(Options{}).Backing("/nonexistent"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestLUKSDevices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := New(Options{Dev: dir + "/dev", Sys: dir + "/sys", Udev: dir + "/run"})
	plant(t, dir, map[string]string{
		"sys/class/block/sda1/dev":   "8:1\n",
		"run/data/b8:1":              "S:disk/by-uuid/2\nS:disk/by-id/1\nE:ID_FS_TYPE=crypto_LUKS\nG:systemd\n",
		"sys/class/block/sda2/dev":   "8:2\n",
		"run/data/b8:2":              "E:ID_FS_TYPE=ext4\n",
		"dev/sda2":                   "LUKS\xba\xbe", // udev knows better
		"sys/class/block/a!b/dev":    "9:1\n",
		"dev/a/b":                    "LUKS\xba\xbe\x00\x02",
		"sys/class/block/sdc/dev":    "8:32\n",
		"dev/sdc":                    "LUKS",
		"sys/class/block/sdd/uevent": "",
	})
	list, err := m.LUKSDevices()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		got = append(append(got, d.Node), d.Links...)
	}
	want := []string{dir + "/dev/a/b", dir + "/dev/sda1", dir + "/dev/disk/by-id/1", dir + "/dev/disk/by-uuid/2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := New(Options{Sys: "/nonexistent"}).LUKSDevices(); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
