//go:build vm

package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// makeSystem makes the tree of a system that boots: the service manager of this one,
// with what it needs, and nothing else.
func makeSystem(t testing.TB, dir string) {
	t.Helper()
	for _, d := range []string{"etc", "var", "proc", "sys", "dev", "run", "tmp", "root"} {
		makeDir(t, filepath.Join(dir, d))
	}
	programs := []string{"/usr/lib/systemd/systemd", "/usr/lib/systemd/systemd-executor", "/usr/lib/systemd/systemd-shutdown", "/usr/bin/dash", "/usr/bin/systemctl"}
	libraries := run(t, "sh", "-c", `ldd "$@" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^\s*\(\/[^ ]*ld-[^ ]*\) .*/\1/p' | sort -u`, "sh",
		programs[0], programs[1], programs[2], programs[3], programs[4])
	for _, file := range append(programs, strings.Fields(libraries)...) {
		real, err := filepath.EvalSymlinks(file)
		if err != nil {
			t.Fatal(err)
		}
		run(t, "install", "-D", real, filepath.Join(dir, real))
		if full := filepath.Join("/usr", strings.TrimPrefix(file, "/usr")); full != real {
			run(t, "install", "-D", real, filepath.Join(dir, full))
		}
	}
	for name, target := range map[string]string{"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/bin/sh": "dash"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	makeFile(t, filepath.Join(dir, "usr/lib/os-release"), "ID=tiny\nPRETTY_NAME=Tiny\n")
	units := filepath.Join(dir, "usr/lib/systemd/system")
	makeFile(t, filepath.Join(units, "default.target"), "[Unit]\nDefaultDependencies=no\nWants=sockets.target\n")
	makeFile(t, filepath.Join(units, "exit.target"), "[Unit]\nDefaultDependencies=no\nRequires=systemd-exit.service\nAllowIsolate=yes\n")
	for _, name := range []string{"sockets.target", "sysinit.target", "basic.target", "shutdown.target", "umount.target", "final.target", "halt.target", "poweroff.target", "systemd-poweroff.service", "systemd-halt.service"} {
		run(t, "cp", filepath.Join("/usr/lib/systemd/system", name), units)
	}
}

// An installed system with a service in it, taken as it is, can be booted as a container,
// and the same image attached as a portable service.
func TestPortableFromTree(t *testing.T) {
	portableSpace(t)
	uncounted(t)
	work := t.TempDir()
	tree, image := filepath.Join(work, "tree"), filepath.Join(work, "walkthrough-go_1.raw")
	makeSystem(t, tree)
	wants := filepath.Join(tree, "usr/lib/systemd/system/sockets.target.wants")
	makeDir(t, wants)
	if err := os.Symlink("../walkthrough-go.socket", filepath.Join(wants, "walkthrough-go.socket")); err != nil {
		t.Fatal(err)
	}
	mustLockport(t, append([]string{"portable", "build", "--from-tree=" + tree, "--compress=gzip", "--level=1", "--verity=partitions", "--output=" + image}, walkthroughParts...)...)
	run(t, "systemd-dissect", "--validate", image)

	t.Run("booted", func(t *testing.T) {
		log, err := os.Create(filepath.Join(work, "console"))
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd := exec.CommandContext(t.Context(), "systemd-nspawn", "--boot", "--volatile=yes", "--register=no", "--keep-unit", "--console=pipe", "--link-journal=no", "--image="+image)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGKILL) }
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		waitFor(t, func() bool {
			if len(ended) > 0 {
				text, _ := os.ReadFile(log.Name())
				t.Fatalf("the container has ended:\n%s", text)
			}
			return try(t, "", nil, "curl", "-sS", "--max-time", "20", "http://127.0.0.1:8088/").code == 0
		}, "the service in the container answers")
		greets(t, 2)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			text, _ := os.ReadFile(log.Name())
			t.Errorf("the container ends with %v:\n%s", err, text)
		}
	})
	t.Run("attached", func(t *testing.T) {
		ourPortable.run(t, "attach", image)
		run(t, "systemctl", "start", "walkthrough-go.socket")
		greets(t, 1)
		stop(t)
		ourPortable.run(t, "detach", image)
		unloaded(t)
	})
}
