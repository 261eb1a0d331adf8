package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// lower is what udev's rule does with a cookie.
func lower(t *testing.T, id uintptr) {
	t.Helper()
	op := struct {
		number          uint16
		operation, flag int16
	}{operation: -1, flag: unix.IPC_NOWAIT}
	limit := unix.Timespec{}
	_, _, errno := unix.Syscall6(unix.SYS_SEMTIMEDOP, id, uintptr(unsafe.Pointer(&op)), 1, uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno != 0 {
		t.Errorf("lowering semaphore %d: %v", id, errno)
	}
}

// withUdev is a Mapper that believes that udev runs.
func withUdev(t *testing.T, o Options) *Mapper {
	t.Helper()
	o.Udev, o.Rules = t.TempDir(), []string{t.TempDir(), t.TempDir()}
	write(t, filepath.Join(o.Udev, "control"))
	write(t, filepath.Join(o.Udev, "queue"))
	write(t, filepath.Join(o.Rules[1], "95-dm-notify.rules"))
	return New(o)
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// cookie makes a cookie whose semaphore must be gone when the test ends.
func cookie(t *testing.T, m *Mapper) *udevWait {
	t.Helper()
	w := m.newCookie()
	if w.cookie == 0 {
		t.Fatal("no cookie")
	}
	t.Cleanup(func() {
		w.drop()
		if err := semWaitZero(w.id, 0); !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EIDRM) {
			t.Errorf("semaphore is still there: %v", err)
		}
	})
	return w
}

func TestCookie(t *testing.T) {
	t.Parallel()
	m := withUdev(t, Options{})
	t.Run("answered before", func(t *testing.T) {
		t.Parallel()
		w := cookie(t, m)
		lower(t, w.id)
		if err := w.done(t.Context(), true); err != nil {
			t.Error(err)
		}
	})
	t.Run("answered while waiting", func(t *testing.T) {
		t.Parallel()
		w := cookie(t, m)
		go lower(t, w.id)
		if err := w.done(t.Context(), true); err != nil {
			t.Error(err)
		}
	})
	t.Run("nothing sent", func(t *testing.T) {
		t.Parallel()
		if err := cookie(t, m).done(t.Context(), false); err != nil {
			t.Error(err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		w := cookie(t, m)
		go cancel()
		if err := w.done(ctx, true); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		t.Parallel()
		seen := map[uint16]bool{}
		for range 50 {
			w := cookie(t, m)
			if seen[w.cookie] {
				t.Errorf("cookie %#x twice", w.cookie)
			}
			seen[w.cookie] = true
		}
	})
}

func TestCookieWithoutAnswer(t *testing.T) {
	t.Parallel()
	log := new(bytes.Buffer)
	m := withUdev(t, Options{UdevTimeout: time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err := cookie(t, m).done(t.Context(), true); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "udev did not finish") {
		t.Errorf("log: %s", log)
	}
}

func TestNoCookieWithoutUdev(t *testing.T) {
	t.Parallel()
	norules := withUdev(t, Options{})
	norules.o.Rules = nil
	for _, m := range []*Mapper{norules, New(Options{Udev: t.TempDir()})} {
		w := m.newCookie()
		if w.cookie != 0 {
			t.Errorf("cookie %#x", w.cookie)
		}
		if err := w.done(t.Context(), true); err != nil {
			t.Error(err)
		}
		w.drop()
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
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
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

// userKey puts a key into the user's keyring for the test.
func userKey(t *testing.T) string {
	t.Helper()
	var text [8]byte
	r := secret.Random(len(text))
	defer r.Wipe()
	return fmt.Sprintf("lockport-test-%x", r.Reveal())
}

func dropUserKey(t *testing.T, description string) {
	t.Helper()
	err := withUserKeyring(func() error {
		id, err := requestKey("user", description)
		if err != nil {
			return err
		}
		_, err = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_USER_KEYRING, 0, 0)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	name := userKey(t)
	if s, err := CacheGet(name); !errors.Is(err, ErrNoKey) {
		t.Fatalf("%v %v", s, err)
	}
	payload := secret.Copy([]byte("one\x00two"))
	defer payload.Wipe()
	if err := CachePut(name, payload, time.Hour); err != nil {
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			t.Skip("no keyring here:", err)
		}
		t.Fatal(err)
	}
	defer dropUserKey(t, name)
	got, err := CacheGet(name)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Wipe()
	if !got.Equal(payload) {
		t.Error("another payload came back")
	}
	keys, err := os.ReadFile("/proc/keys")
	if err != nil {
		t.Fatal(err)
	}
	for row := range strings.Lines(string(keys)) {
		if strings.Contains(row, name) && !strings.Contains(row, " 59m ") && !strings.Contains(row, " 1h ") {
			t.Errorf("the timeout is not an hour: %s", row)
		}
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	if s, err := Key(userKey(t)); !errors.Is(err, ErrNoKey) {
		t.Fatalf("%v %v", s, err)
	}
	if _, err := Key("a\x00b"); err == nil || errors.Is(err, ErrNoKey) {
		t.Errorf("NUL in a description: %v", err)
	}
	// A key of the thread is found as well, and only there.
	name := userKey(t)
	err := onOwnThread(func() error {
		if _, err := unix.AddKey("user", name, []byte("payload"), unix.KEY_SPEC_THREAD_KEYRING); err != nil {
			return err
		}
		s, err := Key(name)
		if err != nil {
			return err
		}
		defer s.Wipe()
		if string(s.Reveal()) != "payload" {
			return errors.New("another payload came back")
		}
		return nil
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skip("no keyring here:", err)
	}
	if err != nil {
		t.Error(err)
	}
	if _, err := Key(name); !errors.Is(err, ErrNoKey) {
		t.Errorf("the thread's key outlived it: %v", err)
	}
}

func imageFile(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	write(t, path)
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// backing returns the file behind a loop device, "" when it is free.
func backing(device string) string {
	b, _ := os.ReadFile("/sys/block/" + filepath.Base(device) + "/loop/backing_file")
	return line(b)
}

func attach(t *testing.T, m *Mapper, path string, readOnly bool) (string, func() error) {
	t.Helper()
	device, release, err := m.AttachLoop(path, readOnly)
	if errors.Is(err, ErrUnsupported) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		t.Skip("no loop devices here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = release() })
	return device, release
}

func TestAttachLoop(t *testing.T) {
	t.Parallel()
	root(t)
	m := New(Options{})
	path := imageFile(t, 1<<20)
	device, release := attach(t, m, path, false)
	if got := backing(device); got != path {
		t.Fatalf("%s lies on %q", device, got)
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if err := release(); err != nil {
		t.Error("second release:", err)
	}
	if got := backing(device); got != path {
		t.Errorf("%s is gone although it is in use", device)
	}
	if n, err := Size(f); n != 1<<20 || err != nil {
		t.Errorf("Size: %d, %v", n, err)
	}
	if l, p, err := SectorSizes(f); l != 512 || p < 512 || err != nil {
		t.Errorf("SectorSizes: %d, %d, %v", l, p, err)
	}
	if ro, err := ReadOnly(f); ro || err != nil {
		t.Errorf("ReadOnly: %v, %v", ro, err)
	}
	if major, _, err := DeviceNumber(f); major != 7 || err != nil {
		t.Errorf("DeviceNumber: %d, %v", major, err)
	}
	f.Close()
	for deadline := time.Now().Add(time.Minute); backing(device) == path; {
		if time.Now().After(deadline) {
			t.Fatalf("%s stays after its last close", device)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAttachLoopReadOnly(t *testing.T) {
	t.Parallel()
	root(t)
	device, _ := attach(t, New(Options{}), imageFile(t, 1<<20), true)
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ro, err := ReadOnly(f); !ro || err != nil {
		t.Errorf("ReadOnly: %v, %v", ro, err)
	}
}

// Two at once must not get the same device.
func TestAttachLoopRace(t *testing.T) {
	t.Parallel()
	root(t)
	m := New(Options{})
	first, release := attach(t, m, imageFile(t, 1<<20), false)
	defer release()
	var mu sync.Mutex
	seen := map[string]bool{first: true}
	var all sync.WaitGroup
	for range 4 {
		path := imageFile(t, 1<<20)
		all.Go(func() {
			device, release, err := m.AttachLoop(path, false)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if backing(device) != path {
				t.Errorf("%s lies on %q", device, backing(device))
			}
			mu.Lock()
			defer mu.Unlock()
			seen[device] = true
		})
	}
	all.Wait()
	if len(seen) < 2 {
		t.Errorf("devices: %v", seen)
	}
}

func TestAttachLoopMissingFile(t *testing.T) {
	t.Parallel()
	if _, _, err := New(Options{}).AttachLoop("/nonexistent", false); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRegularFile(t *testing.T) {
	t.Parallel()
	f, err := os.Open(imageFile(t, 12345))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := Size(f); n != 12345 || err != nil {
		t.Errorf("Size: %d, %v", n, err)
	}
	if l, p, err := SectorSizes(f); l != 512 || p != 4096 || err != nil {
		t.Errorf("SectorSizes: %d, %d, %v", l, p, err)
	}
	if _, _, err := DeviceNumber(f); err == nil {
		t.Error("a file has a device number")
	}
	if _, err := ReadOnly(f); err == nil {
		t.Error("a file has a read-only state")
	}
}
