package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/image"
)

var _ image.Mounter = (*Mapper)(nil)

// need finds a program, or skips the test; where CI is set it fails.
func need(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is needed", name)
		}
		t.Skipf("%s is not installed", name)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// filesystems make an image of a few files that the kernel can be asked about.
var filesystems = map[string]struct {
	size int64
	make func(t *testing.T, image, src string)
}{
	"btrfs": {128 << 20, func(t *testing.T, image, src string) { run(t, "mkfs.btrfs", "-q", "--rootdir", src, image) }},
	"ext4":  {4 << 20, func(t *testing.T, image, src string) { run(t, "mkfs.ext4", "-q", "-d", src, image) }},
	"xfs": {320 << 20, func(t *testing.T, image, src string) {
		list := filepath.Join(t.TempDir(), "list")
		text := "/\n0 0\nd--755 0 0\nfile ---644 7 8 " + src + "/file\nlink l--777 0 0 dir/file\ndir d--750 0 0\nfile ---755 0 0 " +
			src + "/dir/file\n$\n$\n"
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "mkfs.xfs", "-q", "-p", list, image)
	}},
}

const before = 1 << 20 // bytes of the file that the file system is in

// fileSystemIn makes a file with a file system in the middle of it.
func fileSystemIn(t *testing.T, kind string) (file *os.File, size int64) {
	t.Helper()
	need(t, "mkfs."+kind)
	dir, src := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"file": "content\n", "dir/file": "deep\n"} {
		if err := os.MkdirAll(filepath.Join(src, filepath.Dir(name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("dir/file", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	inner, outer := filepath.Join(dir, "inner"), filepath.Join(dir, "outer")
	size = filesystems[kind].size
	for path, n := range map[string]int64{inner: size, outer: before} {
		write(t, path)
		if err := os.Truncate(path, n); err != nil {
			t.Fatal(err)
		}
	}
	filesystems[kind].make(t, inner, src)
	run(t, "dd", "if="+inner, "of="+outer, "bs=1M", "seek=1", "conv=sparse,notrunc", "status=none")
	if err := os.Truncate(outer, before+size+before); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(outer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, size
}

// loops lists the loop devices of a file.
func loops(file string) (list []string) {
	paths, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, path := range paths {
		if b, _ := os.ReadFile(path); line(b) == file {
			list = append(list, path)
		}
	}
	return list
}

// noLoops waits until a file has no loop device, for the kernel lets go of one in
// its own time.
func noLoops(t *testing.T, file string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(loops(file)) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%s is left as %v", file, loops(file))
		}
		time.Sleep(time.Millisecond)
	}
}

func mountPart(t *testing.T, file *os.File, size int64, kind string) (fs.ReadLinkFS, func() error) {
	t.Helper()
	files, undo, err := New(Options{}).Mount(t.Context(), file, before, size, kind)
	if errors.Is(err, ErrUnsupported) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		t.Skip("it can't be mounted here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = undo() })
	return files, undo
}

func TestMount(t *testing.T) {
	t.Parallel()
	root(t)
	for kind := range filesystems {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			file, size := fileSystemIn(t, kind)
			was := state(t, file)
			files, undo := mountPart(t, file, size, kind)
			lookAt(t, files)
			if table, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(table), " - "+kind+" /dev/loop") {
				t.Errorf("there is a mount:\n%s", table)
			}
			for range 2 {
				if err := undo(); err != nil {
					t.Error(err)
				}
			}
			noLoops(t, file.Name())
			if _, err := fs.ReadFile(files, "file"); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("it can still be read: %v", err)
			}
			if state(t, file) != was {
				t.Error("the mount wrote to the image")
			}
		})
	}
}

// state is when the image was last written to, and how much of it there is.
func state(t *testing.T, f *os.File) string {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(info.ModTime(), info.Size())
}

// lookAt asks all there is to ask of a file system.
func lookAt(t *testing.T, files fs.ReadLinkFS) {
	t.Helper()
	for path, want := range map[string]string{"file": "content\n", "dir/file": "deep\n"} {
		if got, err := fs.ReadFile(files, path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if target, err := files.ReadLink("link"); target != "dir/file" || err != nil {
		t.Errorf("the link leads to %q: %v", target, err)
	}
	if _, err := files.ReadLink("file"); err == nil {
		t.Error("a file has a target")
	}
	var names []string
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if path != "lost+found" {
			names = append(names, d.Type().String()[:1]+path)
		}
		return err
	})
	if want := "d. ddir -dir/file -file Llink"; err != nil || strings.Join(names, " ") != want {
		t.Errorf("it has %q, not %q: %v", names, want, err)
	}
	linksAreNotFollowed(t, files)
}

func linksAreNotFollowed(t *testing.T, files fs.ReadLinkFS) {
	t.Helper()
	for _, path := range []string{"link/x", "../etc", "/etc", "dir/../file", "dir/", "", ".."} {
		if f, err := files.Open(path); err == nil {
			t.Errorf("%q is opened: %v", path, f)
		}
	}
	f, err := files.Open("link")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is %v: %v", info, err)
	}
	if b, err := io.ReadAll(f); err == nil {
		t.Errorf("the link is read: %q", b)
	}
}

// childImage is set in a process that mounts this image and waits to be killed.
const childImage = "LOCKPORT_TEST_MOUNT"

func TestMountChild(t *testing.T) {
	path := os.Getenv(childImage)
	if path == "" {
		t.Skip("only as a child of TestMountDies")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = New(Options{}).Mount(t.Context(), f, before, filesystems["ext4"].size, "ext4")
	fmt.Println("mounted:", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// Of a process that is killed, nothing is left either.
func TestMountDies(t *testing.T) {
	t.Parallel()
	root(t)
	file, size := fileSystemIn(t, "ext4")
	_, undo := mountPart(t, file, size, "ext4") // or skip
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	noLoops(t, file.Name())
	child := exec.Command(os.Args[0], "-test.run=^TestMountChild$")
	child.Env = append(os.Environ(), childImage+"="+file.Name())
	if _, err := child.StdinPipe(); err != nil { // it reads until it is killed
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || said != "mounted: <nil>\n" {
		t.Errorf("the child says %q, %v", said, err)
	}
	if len(loops(file.Name())) != 1 {
		t.Errorf("loop devices while it lives: %v", loops(file.Name()))
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	noLoops(t, file.Name())
}

// Whatever fails, no loop device is left.
func TestMountFails(t *testing.T) {
	t.Parallel()
	root(t)
	path := imageFile(t, 4<<20)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := New(Options{})
	for _, c := range []struct {
		kind         string
		offset, size int64
		want         error
		text         string
	}{
		{"xfs", 0, 4 << 20, nil, ""},
		{"btrfs", 1 << 20, 1 << 20, nil, ""},
		{"ext4", 0, 4 << 20, nil, ""},
		{"proc", 0, 4 << 20, ErrUnsupported, `file system "proc"`},
		{"ext4", -1, 4 << 20, fs.ErrInvalid, "4194304 bytes at -1"},
		{"ext4", 0, 0, fs.ErrInvalid, "0 bytes at 0"},
	} {
		files, undo, err := m.Mount(t.Context(), f, c.offset, c.size, c.kind)
		if err == nil || files != nil || undo != nil {
			t.Fatalf("%s at %d: %v, %v", c.kind, c.offset, files, err)
		}
		if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s at %d: %v", c.kind, c.offset, err)
		}
		noLoops(t, path)
	}
}

func TestMountTakesRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("it is root")
	}
	f, err := os.Open(imageFile(t, 4<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _, err = New(Options{}).Mount(t.Context(), f, 0, 4<<20, "xfs")
	if errors.Is(err, ErrUnsupported) || errors.Is(err, fs.ErrNotExist) {
		t.Skip(err)
	}
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "only root can do that") {
		t.Errorf("%v", err)
	}
}
