package kernel

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// aNode makes a block node of a number that no device has.
func aNode(t *testing.T, path string) {
	t.Helper()
	root(t)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(4000, 1))); err != nil {
		t.Skip("may not make nodes:", err)
	}
}

func TestEnsureNode(t *testing.T) {
	t.Parallel()
	root(t)
	const dev = 253<<8 | 7
	m := New(Options{Dev: t.TempDir()})
	path := func(name string) string { return m.nodePath(name) }
	aNode(t, path("stale"))
	if err := os.Symlink("../dm-99", path("dangling")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"new", "stale", "dangling", "new"} {
		if err := m.ensureNode(name, dev, true); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path(name), &st); err != nil {
			t.Fatal(err)
		}
		if uint64(st.Rdev) != unix.Mkdev(253, 7) || st.Mode != unix.S_IFBLK|0o600 {
			t.Errorf("%s: mode %o, number %x", name, st.Mode, st.Rdev)
		}
	}
	write(t, path("file"))
	if err := m.ensureNode("file", dev, false); err == nil {
		t.Error("a file was overwritten")
	}
	if err := m.dropNode("file"); err == nil || !exists(path("file")) {
		t.Errorf("a file was removed: %v", err)
	}
}

func TestDropNode(t *testing.T) {
	t.Parallel()
	m := New(Options{Dev: t.TempDir(), Sys: t.TempDir()})
	aNode(t, m.nodePath("gone"))
	aNode(t, m.nodePath("again"))
	dm := filepath.Join(m.o.Sys, "dev/block/4000:1/dm")
	if err := os.MkdirAll(dm, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dm, "name"), []byte("again\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gone", "again", "never"} {
		if err := m.dropNode(name); err != nil {
			t.Error(err)
		}
	}
	if exists(m.nodePath("gone")) || !exists(m.nodePath("again")) {
		t.Error("removed the wrong node")
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := New(Options{Dev: dir + "/dev", Sys: dir + "/sys", Proc: dir + "/proc"})
	files := map[string]string{
		"proc/self/mountinfo":                      mountinfo,
		"sys/dev/block/253:0/holders/dm-3/dm/name": "vg-my\\x20root\n",
		"sys/dev/block/253:0/holders/md0/uevent":   "",
	}
	plant(t, dir, files)
	got := m.lastingUsers(message{dev: 253 << 8}, "data")
	for _, want := range []string{"mounted at /mnt", "mounted at /srv/my disk", "used by vg-my root", "used by md0"} {
		if !strings.Contains(because(got), want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if got := m.lastingUsers(message{dev: 253<<8 | 9}, "other"); because(got) != "" {
		t.Errorf("an idle device has users: %q", got)
	}
}

func TestUsedAsSwap(t *testing.T) {
	t.Parallel()
	m := New(Options{Proc: t.TempDir()})
	node := filepath.Join(t.TempDir(), "swap disk")
	aNode(t, node)
	text := "Filename Type Size Used Priority\n" + strings.ReplaceAll(node, " ", `\040`) + " partition 1 0 -2\n"
	if err := os.WriteFile(filepath.Join(m.o.Proc, "swaps"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := because(m.users(4000, 1)); got != ": used as swap" {
		t.Errorf("got %q", got)
	}
	if got := because(m.users(4000, 2)); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	m := New(Options{Proc: t.TempDir()})
	fd := filepath.Join(m.o.Proc, "12/fd/3")
	aNode(t, fd)
	if err := os.WriteFile(filepath.Join(m.o.Proc, "12/comm"), []byte("dd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := because(m.processes(4000, 1)); got != ": open in dd (process 12)" {
		t.Errorf("got %q", got)
	}
	if got := m.processes(4000, 2); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestWatchCloses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node")
	write(t, path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := watchCloses(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	f.Close()
	begin := time.Now()
	if !c.wait(t.Context(), time.Minute) || time.Since(begin) > 30*time.Second {
		t.Errorf("the close was not seen")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c.wait(ctx, 0) {
		t.Error("waits after the context's end")
	}
}

func table(device string) luks2.Table {
	return luks2.Table{
		UUID: "CRYPT-LUKS2-00-x", Device: device, Length: 8, Cipher: "aes-xts-plain64", KeySize: 64,
		KeyDescription: "cryptsetup:x-d0",
	}
}

func TestMapRefuses(t *testing.T) {
	t.Parallel()
	key := secret.Random(64)
	defer key.Wipe()
	m := New(Options{})
	file := filepath.Join(t.TempDir(), "file")
	write(t, file)
	change := func(f func(t *luks2.Table)) luks2.Table {
		t := table("/dev/null")
		f(&t)
		return t
	}
	tests := []struct {
		what, name, text string
		table            luks2.Table
		is               error
	}{
		{"name", "a/b", "slash", table(file), ErrBadName},
		{"missing device", "x", "opening data device /nonexistent: no such file", table("/nonexistent"), fs.ErrNotExist},
		{"file as device", "x", "not a block device", table(file), nil},
		{"character device", "x", "not a block device", table("/dev/null"), nil},
		{"key size", "x", "volume key has 64 bytes, the table says 32", change(func(t *luks2.Table) { t.KeySize = 32 }), nil},
		{"empty", "x", "empty", change(func(t *luks2.Table) { t.Length = 0 }), nil},
		{"blank in cipher", "x", "unusable word", change(func(t *luks2.Table) { t.Cipher = "aes 00 0" }), nil},
		{"no cipher", "x", "unusable word", change(func(t *luks2.Table) { t.Cipher = "" }), nil},
		{"newline in option", "x", "unusable word", change(func(t *luks2.Table) { t.Options = []string{"a\nb"} }), nil},
		{"NUL in description", "x", "unusable word", change(func(t *luks2.Table) { t.KeyDescription = "a\x00b" }), nil},
		{"backslash", "x", "unusable word", change(func(t *luks2.Table) { t.Cipher = `a\` }), nil},
	}
	for _, tt := range tests {
		err := m.Map(t.Context(), tt.name, tt.table, key)
		if err == nil || !strings.Contains(err.Error(), tt.text) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}

func TestWithoutDeviceMapper(t *testing.T) {
	t.Parallel()
	root(t)
	if misc, _ := os.ReadFile("/proc/misc"); bytes.Contains(misc, []byte("device-mapper")) {
		t.Skip("this kernel has a device-mapper")
	}
	m := New(Options{Dev: t.TempDir()})
	if _, err := m.Mapped(t.Context(), "x"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Mapped: %v", err)
	}
	if err := m.Unmap(t.Context(), "x"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Unmap: %v", err)
	}
	if exists(m.nodePath("control")) {
		t.Error("a useless control node is left")
	}
}
