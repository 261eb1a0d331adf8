//go:build vm

package guest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/internal/kernel"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// testLog writes what a mapper has to say into the test's log.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}

func mapper(t testing.TB, o kernel.Options) *kernel.Mapper {
	o.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	return kernel.New(o)
}

// opened is a volume made by cryptsetup and unlocked by us.
type opened struct {
	device, keyFile string
	header          *luks2.Header
	key             *secret.Bytes
}

func format(t testing.TB, device string, args ...string) opened {
	t.Helper()
	v := opened{device: device, keyFile: write(t, "key", "correct horse")}
	argv := []string{"cryptsetup", "luksFormat", "--batch-mode", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"}
	run(t, slices.Concat(argv, args, []string{device, v.keyFile})...)
	f, err := luks2.OpenFile(device, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if v.header, err = luks2.Open(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	pass := secret.Copy([]byte("correct horse"))
	defer pass.Wipe()
	if v.key, err = v.header.VolumeKey(t.Context(), 0, pass); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.key.Wipe)
	return v
}

func (v opened) table(t testing.TB, name string, a luks2.Activation) luks2.Table {
	t.Helper()
	f, err := os.Open(v.device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a.Device = v.device
	if a.Size, err = kernel.Size(f); err != nil {
		t.Fatal(err)
	}
	table, err := v.header.Table(name, a)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// mapTo maps by ours; the mapping must be openable at once.
func (v opened) mapTo(t testing.TB, m *kernel.Mapper, name string, a luks2.Activation) {
	t.Helper()
	if err := m.Map(t.Context(), name, v.table(t, name, a), v.key); err != nil {
		t.Fatal(err)
	}
	node, err := kernel.NodeName(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/dev/mapper/" + node)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func unmap(t testing.TB, m *kernel.Mapper, name string) {
	t.Helper()
	if err := m.Unmap(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	node, err := kernel.NodeName(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat("/dev/mapper/" + node); err == nil {
		t.Errorf("/dev/mapper/%s is left behind", node)
	}
}

// mappings is all that device-mapper tells of its devices.
func mappings(t testing.TB) string {
	t.Helper()
	return run(t, "dmsetup", "table", "--showkeys") + "\n" +
		run(t, "dmsetup", "info", "-c", "--noheadings", "-o", "name,uuid,attr,read_ahead,segments")
}

// nothingLeft fails the test when operations have left traces.
func nothingLeft(t testing.TB) {
	t.Helper()
	semaphores, err := os.ReadFile("/proc/sysvipc/sem")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(semaphores), "\n"); n != 1 {
		t.Errorf("semaphores are left:\n%s", semaphores)
	}
	waitFor(t, func() bool {
		keys, err := os.ReadFile("/proc/keys")
		return err == nil && !strings.Contains(string(keys), "cryptsetup:")
	}, "volume keys leave the keyrings")
	if out := run(t, "dmsetup", "ls"); out != "No devices found" {
		t.Errorf("mappings are left: %s", out)
	}
	waitFor(t, func() bool { return run(t, "losetup", "--list", "--noheadings") == "" }, "loop devices go")
	if nodes, _ := filepath.Glob("/dev/mapper/*"); !slices.Equal(nodes, []string{"/dev/mapper/control"}) {
		t.Errorf("nodes are left: %q", nodes)
	}
}

// What the kernel is told must be what cryptsetup tells it.
func TestKernelMapLikeCryptsetup(t *testing.T) {
	volumes := []opened{
		format(t, disk(t), "--sector-size=512"),
		format(t, disk(t), "--sector-size=4096"),
		format(t, disk(t), "--sector-size=2048", "--key-size=256"),
	}
	for i, tt := range []struct {
		what, name string
		a          luks2.Activation
		args       []string
		o          kernel.Options
	}{
		{what: "plain", name: "like"},
		{what: "read-only", name: "like", a: luks2.Activation{ReadOnly: true}, args: []string{"--readonly"}},
		{what: "discards", name: "like", a: luks2.Activation{Flags: []string{"allow-discards"}}, args: []string{"--allow-discards"}},
		{
			what: "all options", name: "like",
			a: luks2.Activation{Flags: []string{
				"no-write-workqueue", "no-read-workqueue", "submit-from-crypt-cpus", "same-cpu-crypt", "allow-discards",
			}},
			args: []string{
				"--allow-discards", "--perf-same_cpu_crypt", "--perf-submit_from_crypt_cpus",
				"--perf-no_read_workqueue", "--perf-no_write_workqueue",
			},
		},
		{what: "odd name", name: "grün and #+-.:=@_"},
		{what: "mangled name", name: `my\x20disk`},
		{what: "key in the table", name: "like", args: []string{"--disable-keyring"}, o: kernel.Options{NoKeyring: true}},
	} {
		for j, v := range volumes {
			if i > 0 && j != i%len(volumes) {
				continue // one volume each is enough
			}
			t.Run(tt.what, func(t *testing.T) {
				open := slices.Concat([]string{"cryptsetup", "open", "--key-file", v.keyFile}, tt.args, []string{v.device, tt.name})
				run(t, open...)
				theirs := mappings(t)
				run(t, "cryptsetup", "close", tt.name)
				m := mapper(t, tt.o)
				v.mapTo(t, m, tt.name, tt.a)
				ours := mappings(t)
				if ours != theirs {
					t.Errorf("cryptsetup:\n%s\nours:\n%s", theirs, ours)
				}
				node, _ := kernel.NodeName(tt.name)
				if to, err := os.Readlink("/dev/mapper/" + node); err != nil || !strings.HasPrefix(to, "../dm-") {
					t.Errorf("no link to the device: %q, %v", to, err)
				}
				want := strings.ReplaceAll(v.table(t, tt.name, tt.a).UUID, `\x20`, " ")
				if uuid, err := m.Mapped(t.Context(), tt.name); err != nil || uuid != want {
					t.Errorf("Mapped: %q, %v; want %q", uuid, err, want)
				}
				if digits := hex.EncodeToString(v.key.Reveal()); strings.Contains(ours, digits) != tt.o.NoKeyring {
					t.Errorf("key in the table: %v", !tt.o.NoKeyring)
				}
				unmap(t, m, tt.name)
				if uuid, err := m.Mapped(t.Context(), tt.name); err != nil || uuid != "" {
					t.Errorf("Mapped after Unmap: %q, %v", uuid, err)
				}
			})
		}
	}
	nothingLeft(t)
}

// A filesystem made under one mapping reads under the other, and each side
// removes what the other made.
func TestKernelSharesVolume(t *testing.T) {
	m := mapper(t, kernel.Options{})
	v := format(t, disk(t))
	dir := t.TempDir()
	read := func() string {
		run(t, "mount", "/dev/mapper/share", dir)
		defer run(t, "umount", dir)
		b, err := os.ReadFile(filepath.Join(dir, "file"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	v.mapTo(t, m, "share", luks2.Activation{})
	run(t, "mkfs.ext4", "-q", "/dev/mapper/share")
	run(t, "mount", "/dev/mapper/share", dir)
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "umount", dir)
	run(t, "cryptsetup", "close", "share")
	run(t, "cryptsetup", "open", "--key-file", v.keyFile, v.device, "share")
	if got := read(); got != "hello" {
		t.Errorf("read %q under theirs", got)
	}
	unmap(t, m, "share")
	v.mapTo(t, m, "share", luks2.Activation{ReadOnly: true})
	if got := read(); got != "hello" {
		t.Errorf("read %q under ours", got)
	}
	if err := os.WriteFile("/dev/mapper/share", []byte("x"), 0); err == nil {
		t.Error("a read-only mapping was written to")
	}
	unmap(t, m, "share")
	nothingLeft(t)
}

func TestKernelErrors(t *testing.T) {
	dev := disk(t)
	v := format(t, dev)
	m := mapper(t, kernel.Options{BusyTimeout: 300 * time.Millisecond})
	expect := func(what string, err, is error, texts ...string) {
		t.Helper()
		if !errors.Is(err, is) {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q lacks %q", what, err, text)
			}
		}
	}
	tryMap := func(name string, change func(*luks2.Table)) error {
		table := v.table(t, name, luks2.Activation{})
		change(&table)
		return m.Map(t.Context(), name, table, v.key)
	}
	same := func(*luks2.Table) {}

	expect("absent", m.Unmap(t.Context(), "bad"), kernel.ErrNotFound)
	expect("cipher", tryMap("bad", func(t *luks2.Table) { t.Cipher = "nonesuch-xts-plain64" }), kernel.ErrUnsupported, "nonesuch")
	expect("option", tryMap("bad", func(t *luks2.Table) { t.Options = []string{"nonesuch"} }), unix.EINVAL, "its log says why")
	if err := tryMap("bad", func(t *luks2.Table) { t.Length *= 2 }); err == nil || !strings.Contains(err.Error(), "the volume ends at") {
		t.Errorf("too long: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	expect("cancelled", m.Map(ended, "bad", v.table(t, "bad", luks2.Activation{}), v.key), context.Canceled)
	nothingLeft(t)

	v.mapTo(t, m, "good", luks2.Activation{})
	expect("name taken", tryMap("good", same), kernel.ErrExists)
	expect("UUID taken", tryMap("bad", func(table *luks2.Table) { table.UUID = v.table(t, "good", luks2.Activation{}).UUID }), kernel.ErrExists)
	run(t, "mkfs.ext4", "-q", "/dev/mapper/good")
	dir := filepath.Join(t.TempDir(), "mount point")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "/dev/mapper/good", dir)
	expect("mounted", m.Unmap(t.Context(), "good"), kernel.ErrBusy, "mounted at "+dir)
	run(t, "umount", dir)
	f, err := os.Open("/dev/mapper/good")
	if err != nil {
		t.Fatal(err)
	}
	expect("open", m.Unmap(t.Context(), "good"), kernel.ErrBusy, fmt.Sprintf("process %d", os.Getpid()))
	patient := mapper(t, kernel.Options{BusyTimeout: bound})
	go f.Close()
	unmap(t, patient, "good")

	run(t, "mkfs.ext4", "-q", dev)
	run(t, "mount", dev, dir)
	expect("data device mounted", tryMap("bad", same), kernel.ErrBusy, dev, "mounted at "+dir)
	run(t, "umount", dir)
	run(t, "blockdev", "--setro", dev)
	if err := tryMap("locked", same); err != nil {
		t.Errorf("read-only device: %v", err)
	}
	if got := run(t, "blockdev", "--getro", "/dev/mapper/locked"); got != "1" {
		t.Errorf("the volume of a read-only device is writable")
	}
	unmap(t, m, "locked")
	run(t, "blockdev", "--setrw", dev)
	nothingLeft(t)
}

// The device below a path is found on any file system, and LUKS volumes are
// told from others.
func TestKernelDevices(t *testing.T) {
	dev, other := disk(t), disk(t)
	v := format(t, dev, "--type=luks2")
	node := run(t, "realpath", dev)
	m := mapper(t, kernel.Options{})
	v.mapTo(t, m, "found", luks2.Activation{})
	run(t, "mkfs.ext4", "-q", "/dev/mapper/found")
	dir := t.TempDir()
	run(t, "mount", "/dev/mapper/found", dir)
	if got, err := m.Backing(dir); err != nil || got != node {
		t.Errorf("Backing: %q, %v; want %q", got, err, node)
	}
	run(t, "umount", dir)
	for _, path := range []string{dir, "/proc"} {
		if got, err := m.Backing(path); !errors.Is(err, kernel.ErrNotFound) {
			t.Errorf("Backing of %s: %q, %v", path, got, err)
		}
	}
	unmap(t, m, "found")
	run(t, "udevadm", "settle")
	list, err := m.LUKSDevices()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(d kernel.Device) bool { return d.Node == node })
	if at < 0 || !slices.Contains(list[at].Links, dev) {
		t.Errorf("%s is not in the list with its name: %v", node, list)
	}
	if slices.ContainsFunc(list, func(d kernel.Device) bool { return d.Node == run(t, "realpath", other) }) {
		t.Errorf("an empty disk is in the list: %v", list)
	}
	nothingLeft(t)
}

// A device on top of the volume is named.
func TestKernelBusyStack(t *testing.T) {
	v := format(t, disk(t))
	m := mapper(t, kernel.Options{})
	v.mapTo(t, m, "lower", luks2.Activation{})
	runInput(t, "0 8 linear /dev/mapper/lower 0\n", "dmsetup", "create", "upper")
	err := m.Unmap(t.Context(), "lower")
	if !errors.Is(err, kernel.ErrBusy) || !strings.Contains(err.Error(), "used by upper") {
		t.Error(err)
	}
	if err := m.Unmap(t.Context(), "upper"); err == nil || !strings.Contains(err.Error(), "no encrypted volume") {
		t.Errorf("another's mapping: %v", err)
	}
	run(t, "dmsetup", "remove", "--retry", "upper")
	unmap(t, m, "lower")
	nothingLeft(t)
}

func TestKernelRounds(t *testing.T) {
	v := format(t, disk(t))
	m := mapper(t, kernel.Options{})
	for range 20 {
		v.mapTo(t, m, "round", luks2.Activation{})
		// Closing after a write makes udev look at the device once more.
		f, err := os.OpenFile("/dev/mapper/round", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		unmap(t, m, "round")
	}
	nothingLeft(t)
}

func TestKernelLoop(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 32<<20); err != nil {
		t.Fatal(err)
	}
	v := format(t, image)
	m := mapper(t, kernel.Options{})
	for _, readOnly := range []bool{false, true} {
		device, release, err := m.AttachLoop(image, readOnly)
		if err != nil {
			t.Fatal(err)
		}
		v.device = device
		v.mapTo(t, m, "looped", luks2.Activation{ReadOnly: readOnly})
		if err := release(); err != nil {
			t.Error(err)
		}
		if got := run(t, "losetup", "--noheadings", "--output=BACK-FILE,AUTOCLEAR,RO", device); !slices.Equal(
			strings.Fields(got), []string{image, "1", map[bool]string{true: "1", false: "0"}[readOnly]}) {
			t.Errorf("loop device: %s", got)
		}
		unmap(t, m, "looped")
	}
	nothingLeft(t)
}

// stopUdev stops udev for the rest of the test.
func stopUdev(t testing.TB) {
	t.Helper()
	run(t, "udevadm", "settle")
	units := []string{"systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket"}
	t.Cleanup(func() {
		cleanup(t, slices.Concat([]string{"systemctl", "start"}, units[1:], units[:1])...)
		cleanup(t, "udevadm", "settle")
	})
	run(t, slices.Concat([]string{"systemctl", "stop"}, units)...)
	if exists("/run/udev/control") {
		t.Fatal("udev still runs")
	}
}

func TestKernelWithoutUdev(t *testing.T) {
	dev := disk(t)
	v := format(t, dev)
	stopUdev(t)
	check := func(t *testing.T, m *kernel.Mapper) {
		t.Helper()
		v.mapTo(t, m, "bare disk", luks2.Activation{})
		info, err := os.Lstat(`/dev/mapper/bare\x20disk`)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != os.ModeDevice|0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		unmap(t, m, "bare disk")
		nothingLeft(t)
	}
	t.Run("none", func(t *testing.T) { check(t, mapper(t, kernel.Options{})) })
	t.Run("never answers", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "control"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		check(t, mapper(t, kernel.Options{Udev: dir}))
	})
}

// udev runs, but lacks the rule by which it answers.
func TestKernelWithoutUdevRules(t *testing.T) {
	v := format(t, disk(t))
	m := mapper(t, kernel.Options{Rules: []string{"/nonexistent"}})
	v.mapTo(t, m, "rules", luks2.Activation{})
	if err := m.Unmap(t.Context(), "rules"); err != nil {
		t.Error(err)
	}
	run(t, "udevadm", "settle")
	nothingLeft(t)
}
