//go:build bench

package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// binary is what `make bench` has built.
const binary = "../../bin/lockport"

// rounds is how often each side runs; the medians count.
const rounds = 5

// TestBenchTable is the native part of `make bench`.
func TestBenchTable(t *testing.T) {
	var rows []Row
	for _, measure := range []func(*testing.T) Row{argon2, recoveryKey, list, help, export, size} {
		rows = append(rows, measure(t))
	}
	t.Log("\n" + Table(rows))
}

// volume makes an image by cryptsetup with the passphrase "first".
func volume(t *testing.T, size string, args ...string) (image, key string) {
	t.Helper()
	dir := t.TempDir()
	image, key = filepath.Join(dir, "disk.img"), filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "truncate", "-s", size, image)
	argv := append([]string{"cryptsetup", "luksFormat", "--batch-mode", "--type=luks2"}, args...)
	run(t, append(argv, image, key)...)
	return image, key
}

var cheap = []string{"--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"}

func run(t *testing.T, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "PASSWORD=first")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

func timed(t *testing.T, argv ...string) func() time.Duration {
	return func() time.Duration { return Timed(func() { run(t, argv...) }) }
}

// argon2 tries a passphrase at the cost that cryptsetup chooses for a machine
// with memory to spare.
func argon2(t *testing.T) Row {
	image, key := volume(t, "32M", "--pbkdf=argon2id", "--pbkdf-memory=1048576", "--pbkdf-parallel=4", "--pbkdf-force-iterations=4")
	return Compare("passphrase, argon2id 1 GiB t=4 p=4", "≤ 1.1", rounds,
		timed(t, "cryptsetup", "open", "--test-passphrase", "--key-file", key, image),
		timed(t, binary, "test", "--key-file", key, image))
}

func recoveryKey(t *testing.T) Row {
	image, key := volume(t, "32M", cheap...)
	after := func(f, undo func() time.Duration) func() time.Duration {
		return func() time.Duration { d := f(); undo(); return d }
	}
	return Compare("enrol a recovery key", "≤ 0.5", rounds,
		after(timed(t, "systemd-cryptenroll", "--unlock-key-file="+key, "--recovery-key", image), timed(t, "systemd-cryptenroll", "--wipe-slot=recovery", image)),
		after(timed(t, binary, "enroll", "--unlock-key-file="+key, "--recovery-key", image), timed(t, binary, "wipe", image, "recovery")))
}

func list(t *testing.T) Row {
	image, _ := volume(t, "32M", cheap...)
	return Compare("list keyslots", "", rounds, timed(t, "systemd-cryptenroll", image), timed(t, binary, "slots", image))
}

func help(t *testing.T) Row {
	return Compare("--help", "", rounds, timed(t, "systemd-cryptenroll", "--help"), timed(t, binary, "enroll", "--help"))
}

// export has nothing to compare with: the original needs the kernel for it.
func export(t *testing.T) Row {
	image, key := volume(t, "272M", cheap...)
	d := timed(t, "sh", "-c", `"$0" export --key-file="$1" "$2" > /dev/null`, binary, key, image)()
	return Row{Work: "export", Unit: "MB/s", Ours: 256 * 1.048576 / d.Seconds()}
}

func size(t *testing.T) Row {
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	return Row{Work: "size of the static file", Unit: "MB", Ours: float64(info.Size()) / 1e6, Aim: "≤ 8 MB"}
}
