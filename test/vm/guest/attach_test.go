//go:build vm

package guest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// systemdCryptsetup is the original.
const systemdCryptsetup = "/usr/bin/systemd-cryptsetup"

// formatDisk makes a volume by cryptsetup with the passphrase "first" and
// returns the device and a key file with that passphrase.
func formatDisk(t testing.TB, args ...string) (dev, key string) {
	t.Helper()
	dev, key = disk(t), write(t, "key", "first")
	argv := append([]string{"cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"}, args...)
	run(t, append(argv, dev, key)...)
	return dev, key
}

// attached has a mapping removed when the test ends, however it ends.
func attached(t testing.TB, name string) {
	t.Helper()
	t.Cleanup(func() {
		if exists("/dev/mapper/" + name) {
			t.Errorf("%s is still attached", name)
			cleanup(t, "dmsetup", "remove", "--force", "--retry", name)
		}
	})
}

// makeFS puts a file system with one file under a mapping.
func makeFS(t testing.TB, name, content string) {
	t.Helper()
	run(t, "mkfs.ext4", "-q", "/dev/mapper/"+name)
	mounted(t, name, "rw", func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o644); err != nil {
			t.Error(err)
		}
	})
}

func checkFS(t testing.TB, name, content string) {
	t.Helper()
	mounted(t, name, "ro", func(dir string) {
		if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != content {
			t.Errorf("the file under %s holds %q, %v", name, b, err)
		}
	})
}

func mounted(t testing.TB, name, how string, f func(dir string)) {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-o", how, "/dev/mapper/"+name, dir)
	f(dir)
	run(t, "umount", dir)
}

// password runs a command with the current and the new passphrase in its environment.
func password(t testing.TB, old, fresh string, argv ...string) string {
	t.Helper()
	r := try(t, "", []string{"PASSWORD=" + old, "NEWPASSWORD=" + fresh}, argv...)
	if r.code != 0 {
		t.Fatalf("%v: exit code %d\n%s%s", argv, r.code, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// What systemd-cryptenroll enrols, ours attaches; the file system made under
// systemd's mapping is read under ours.
func TestAttachWhatSystemdEnrolled(t *testing.T) {
	dev, key := formatDisk(t)
	password(t, "first", "second", "systemd-cryptenroll", "--password", dev)
	recovery := password(t, "first", "", "systemd-cryptenroll", "--recovery-key", dev)
	attached(t, "theirs")
	run(t, systemdCryptsetup, "attach", "theirs", dev, key)
	makeFS(t, "theirs", "written under theirs")
	run(t, systemdCryptsetup, "detach", "theirs")

	attached(t, "ours")
	for i, pass := range []string{"first", "second", recovery} {
		mustLockport(t, "attach", "ours", dev, write(t, fmt.Sprint("key", i), pass))
		checkFS(t, "ours", "written under theirs")
		mustLockport(t, "detach", "ours")
	}
	if r := lockport(t, "attach", "ours", dev, write(t, "wrong", "first\n"), "headless"); r.code != 1 || exists("/dev/mapper/ours") {
		t.Errorf("a wrong key file: exit code %d, %s", r.code, r.stderr)
	}
	nothingLeft(t)
}

// What ours formats and enrols, systemd attaches, lists, adds to and wipes,
// and names and dates live through that.
func TestSystemdAttachesWhatWeEnrolled(t *testing.T) {
	dev := disk(t)
	password(t, "", "first", "lockport", "format", "--pbkdf-force-iterations=4", "--pbkdf-memory=1024", "--name=ground", dev)
	password(t, "first", "second", "lockport", "enroll", "--password", "--pbkdf-force-iterations=4", "--pbkdf-memory=1024", dev)
	recovery := password(t, "first", "", "lockport", "enroll", "--recovery-key", "--name=paper", dev)

	attached(t, "ours")
	mustLockport(t, "attach", "ours", dev, write(t, "first", "first"))
	makeFS(t, "ours", "written under ours")
	mustLockport(t, "detach", "ours")

	attached(t, "theirs")
	for i, pass := range []string{"first", "second", recovery} {
		run(t, systemdCryptsetup, "attach", "theirs", dev, write(t, fmt.Sprint("key", i), pass))
		checkFS(t, "theirs", "written under ours")
		run(t, systemdCryptsetup, "detach", "theirs")
	}

	const table = "SLOT TYPE\n   0 password\n   1 password\n   2 recovery"
	if got := run(t, "systemd-cryptenroll", dev); got != table {
		t.Errorf("systemd-cryptenroll lists:\n%s", got)
	}
	password(t, "first", "third", "systemd-cryptenroll", "--password", dev)
	run(t, "systemd-cryptenroll", "--wipe-slot=1", dev)
	slots := mustLockport(t, "slots", "--json", dev)
	for _, want := range []string{`"name": "ground"`, `"name": "paper"`, `"kind": "recovery"`, `"created": "20`} {
		if !strings.Contains(slots, want) {
			t.Errorf("after systemd's changes %s is missing in\n%s", want, slots)
		}
	}
	run(t, "systemd-cryptenroll", "--wipe-slot=recovery", dev)
	if slots := mustLockport(t, "slots", "--json", dev); strings.Contains(slots, "paper") {
		t.Errorf("the note of a wiped slot is left:\n%s", slots)
	}
	nothingLeft(t)
}

// The kernel gets the same table from both, with the same options.
func TestAttachSameTable(t *testing.T) {
	for _, sector := range []string{"512", "4096"} {
		dev, key := formatDisk(t, "--sector-size="+sector)
		attached(t, "same")
		for _, options := range []string{"-", "discard", "same-cpu-crypt,submit-from-crypt-cpus,no-read-workqueue,no-write-workqueue", "read-only,discard"} {
			run(t, systemdCryptsetup, "attach", "same", dev, key, options)
			want := mappings(t)
			run(t, systemdCryptsetup, "detach", "same")
			mustLockport(t, "attach", "same", dev, key, options)
			got := mappings(t)
			if !exists("/dev/mapper/same") {
				t.Errorf("options %s: no node on return", options)
			}
			mustLockport(t, "detach", "same")
			if got != want {
				t.Errorf("options %s, sector size %s:\n%s\ninstead of\n%s", options, sector, got, want)
			}
		}
	}
	nothingLeft(t)
}

func TestAttachRounds(t *testing.T) {
	dev, key := formatDisk(t)
	attached(t, "round")
	for range 20 {
		mustLockport(t, "attach", "round", dev, key)
		if link, err := os.Readlink("/dev/mapper/round"); err != nil || !strings.HasPrefix(link, "../dm-") {
			t.Fatalf("/dev/mapper/round is no symlink of udev's on return: %q, %v", link, err)
		}
		mustLockport(t, "detach", "round")
		if _, err := os.Lstat("/dev/mapper/round"); err == nil {
			t.Fatal("/dev/mapper/round is there on return")
		}
	}
	nothingLeft(t)
}

// Exit codes and outcomes that scripts know of the original, from both under
// the original's name.
func TestAttachExitCodes(t *testing.T) {
	dev, key := formatDisk(t)
	wrong := write(t, "wrong", "x")
	attached(t, "code")
	lockport, err := exec.LookPath("lockport")
	if err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(t.TempDir(), "systemd-cryptsetup")
	if err := os.Symlink(lockport, ours); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
	}{
		{"detach code", 0}, // not attached
		{"attach code " + dev + " " + key, 0},
		{"attach code " + dev + " " + key, 0}, // already
		{"detach code", 0},
		{"attach code " + dev + " " + wrong + " headless", 1},
		{"attach code " + dev + " - headless", 1},
		{"attach code /dev/no-such-device " + key + " headless", 1},
		{"attach co/de " + dev + " " + key, 1},
		{"attach code", 1},
		{"attach code " + dev + " " + key + " no-such-option,tries=x", 0}, // warned about
		{"detach code", 0},
		{"no-such-verb", 1},
	} {
		for _, program := range []string{systemdCryptsetup, ours} {
			r := try(t, "", nil, append([]string{program}, strings.Fields(c.args)...)...)
			if r.code != c.code {
				t.Errorf("%s %s: exit code %d, expected %d\n%s", program, c.args, r.code, c.code, r.stderr)
			}
			// The same step is taken by both in turn, so undo what the first did.
			if program == systemdCryptsetup && strings.HasPrefix(c.args, "attach") && c.code == 0 {
				run(t, systemdCryptsetup, "detach", "code")
			}
		}
	}
	nothingLeft(t)
}

// A volume in use stays as it is.
func TestDetachBusy(t *testing.T) {
	dev, key := formatDisk(t)
	attached(t, "busy")
	mustLockport(t, "attach", "busy", dev, key)
	run(t, "mkfs.ext4", "-q", "/dev/mapper/busy")
	dir := t.TempDir()
	run(t, "mount", "/dev/mapper/busy", dir)
	r := lockport(t, "detach", "busy")
	if r.code != 1 || !strings.Contains(r.stderr, dir) || !strings.Contains(r.stderr, "hint:") {
		t.Errorf("detaching a mounted volume: exit code %d, %s", r.code, r.stderr)
	}
	if r := lockport(t, "attach", "other", dev, key); r.code != 1 || exists("/dev/mapper/other") {
		t.Errorf("attaching a second time: exit code %d, %s", r.code, r.stderr)
	}
	run(t, "umount", dir)
	mustLockport(t, "detach", "busy")
	nothingLeft(t)
}

// Image files get a loop device, which goes with the mapping; a header may be
// detached.
func TestAttachImageAndDetachedHeader(t *testing.T) {
	key := write(t, "key", "first")
	image := filepath.Join(t.TempDir(), "disk.img")
	run(t, "truncate", "-s", "48M", image)
	run(t, "cryptsetup", "luksFormat", "--batch-mode", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", image, key)
	attached(t, "image")
	mustLockport(t, "attach", "image", image, key)
	makeFS(t, "image", "in an image")
	mustLockport(t, "detach", "image")
	nothingLeft(t)
	mustLockport(t, "attach", "image", image, key, "read-only")
	checkFS(t, "image", "in an image")
	if ro := run(t, "blockdev", "--getro", "/dev/mapper/image"); ro != "1" {
		t.Errorf("a read-only mapping is writable: %s", ro)
	}
	mustLockport(t, "detach", "image")

	// The same plaintext without the kernel's help.
	out := filepath.Join(t.TempDir(), "plain.img")
	run(t, "sh", "-c", `lockport export --key-file="$1" "$2" > "$3"`, "-", key, image, out)
	dir := t.TempDir()
	run(t, "mount", "-o", "ro,loop", out, dir)
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "in an image" {
		t.Errorf("the exported file system: %q, %v", b, err)
	}
	run(t, "umount", dir)

	dev, header := disk(t), filepath.Join(t.TempDir(), "header")
	password(t, "", "first", "lockport", "format", "--pbkdf-force-iterations=4", "--pbkdf-memory=1024", "--header="+header, dev)
	attached(t, "headless")
	mustLockport(t, "attach", "headless", dev, key, "header="+header)
	makeFS(t, "headless", "header elsewhere")
	mustLockport(t, "detach", "headless")
	run(t, systemdCryptsetup, "attach", "headless", dev, key, "header="+header)
	checkFS(t, "headless", "header elsewhere")
	run(t, systemdCryptsetup, "detach", "headless")
	nothingLeft(t)
}

// Where the key may come from besides a plain file.
func TestAttachKeys(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "keys")
	attach := func(t *testing.T, key, options string) {
		t.Helper()
		mustLockport(t, "attach", "keys", dev, key, options)
		mustLockport(t, "detach", "keys")
	}
	t.Run("part of a file", func(t *testing.T) {
		attach(t, write(t, "key", "xxxfirstyyy"), "keyfile-offset=3,keyfile-size=5,headless")
	})
	t.Run("erased", func(t *testing.T) {
		key := write(t, "key", "first")
		attach(t, key, "keyfile-erase,headless")
		if exists(key) {
			t.Error("the key file is still there")
		}
	})
	t.Run("discovered", func(t *testing.T) {
		const dir = "/run/cryptsetup-keys.d"
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.WriteFile(dir+"/keys.key", []byte("first"), 0o600); err != nil {
			t.Fatal(err)
		}
		attach(t, "-", "headless")
	})
	t.Run("socket", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "socket")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		peer := make(chan string, 2)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				peer <- c.RemoteAddr().String()
				_, _ = c.Write([]byte("first"))
				c.Close()
			}
		}()
		run(t, systemdCryptsetup, "attach", "keys", dev, path, "headless")
		run(t, systemdCryptsetup, "detach", "keys")
		theirs := <-peer
		attach(t, path, "headless")
		ours := <-peer
		// @RANDOM/cryptsetup/keys
		_, a, _ := strings.Cut(theirs, "/")
		_, b, _ := strings.Cut(ours, "/")
		if a != b || a != "cryptsetup/keys" {
			t.Errorf("we connect from %q, systemd from %q", ours, theirs)
		}
	})
	t.Run("credential", func(t *testing.T) {
		cred := write(t, "credential", "wrong\x00first")
		run(t, "systemd-run", "--wait", "--quiet", "--collect", "-p", "LoadCredential=cryptsetup.passphrase:"+cred,
			"/opt/lockport/bin/lockport", "attach", "keys", dev, "-", "headless")
		mustLockport(t, "detach", "keys")
	})
	t.Run("kernel key", func(t *testing.T) {
		run(t, "cryptsetup", "token", "add", "--key-description=lockport test", dev)
		id, err := unix.AddKey("user", "lockport test", []byte("first"), unix.KEY_SPEC_USER_KEYRING)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_USER_KEYRING, 0, 0) })
		// The user's keyring is only searched by way of the session's.
		attach(t, "-", "headless")
	})
	nothingLeft(t)
}

// A person at the terminal: wrong first, then right; then the recovery key in
// capitals without dashes.
func TestAttachPrompt(t *testing.T) {
	dev, _ := formatDisk(t)
	recovery := password(t, "first", "", "lockport", "enroll", "--recovery-key", dev)
	attached(t, "prompt")
	for _, answers := range [][]string{{"wrong", "first"}, {strings.ToUpper(strings.ReplaceAll(recovery, "-", ""))}} {
		c := startConsole(t, "lockport", "attach", "prompt", dev, "-", "password-cache=no")
		for _, answer := range answers {
			c.expect("passphrase or recovery key")
			c.send(answer + "\n")
		}
		code, text := c.wait()
		if code != 0 {
			t.Fatalf("exit code %d\n%s", code, text)
		}
		for _, answer := range answers {
			if strings.Contains(text, answer) {
				t.Errorf("the terminal shows %q", answer)
			}
		}
		mustLockport(t, "detach", "prompt")
	}
	c := startConsole(t, "lockport", "attach", "prompt", dev, "-", "tries=2,password-cache=no")
	for range 2 {
		c.expect("passphrase or recovery key")
		c.send("wrong\n")
	}
	if code, text := c.wait(); code != 1 || !strings.Contains(text, "too many attempts") {
		t.Errorf("exit code %d\n%s", code, text)
	}
	nothingLeft(t)
}

// Without a terminal, systemd's password agents are asked, and what was typed
// opens the next volume too, whoever asks for it.
func TestAttachByAgent(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "agent")
	cmd := exec.CommandContext(t.Context(), "lockport", "attach", "agent", dev)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var out strings.Builder
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		asks, _ := filepath.Glob("/run/systemd/ask-password/ask.*")
		return len(asks) == 1
	}, "the question is there")
	agent := startConsole(t, "systemd-tty-ask-password-agent", "--query")
	agent.expect("passphrase")
	agent.send("first\n")
	if code, text := agent.wait(); code != 0 {
		t.Errorf("agent: exit code %d\n%s", code, text)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if left, _ := filepath.Glob("/run/systemd/ask-password/*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	mustLockport(t, "detach", "agent")
	// From the cache, by ours and by theirs.
	mustLockport(t, "attach", "agent", dev)
	mustLockport(t, "detach", "agent")
	run(t, systemdCryptsetup, "attach", "agent", dev)
	run(t, systemdCryptsetup, "detach", "agent")
	run(t, "keyctl", "purge", "user", "cryptsetup")
	nothingLeft(t)
}

// A command that is killed while it asks leaves no question and no mapping.
func TestAttachInterrupted(t *testing.T) {
	dev, _ := formatDisk(t)
	cmd := exec.CommandContext(t.Context(), "lockport", "attach", "gone", dev, "-", "password-cache=no")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	questions := func() int {
		asks, _ := filepath.Glob("/run/systemd/ask-password/ask.*")
		return len(asks)
	}
	waitFor(t, func() bool { return questions() == 1 }, "the question is there")
	start := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 || questions() != 0 {
		t.Errorf("%v after %v, %d questions left", cmd.ProcessState, time.Since(start), questions())
	}
	nothingLeft(t)
}
