package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/internal/squashfs"
	"github.com/lockport/lockport/portable"
)

// shape lists a tree, a line for each: path, kind and mode, and target or content.
func shape(t testing.TB, tree *Tree) []string {
	t.Helper()
	var list []string
	var visit func(n *node, p string)
	visit = func(n *node, p string) {
		line := fmt.Sprintf("%s/ %v", p, n.Mode.Perm()|n.Mode&fs.ModeSticky)
		switch n.Mode.Type() {
		case fs.ModeSymlink:
			line = p + " -> " + n.Target
		case 0:
			text, err := tree.ReadFile(p, 1<<20)
			if err != nil {
				t.Error(err)
			}
			line = fmt.Sprintf("%s %v %s", p, n.Mode, text)
		}
		list = append(list, line)
		for name, c := range n.children {
			visit(c, p+"/"+name)
		}
	}
	visit(tree.top, "")
	slices.Sort(list)
	return list
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestTreeFollowsLinksInside(t *testing.T) {
	t.Parallel()
	tree := New()
	must(t,
		tree.Mkdir("/usr/lib", 0o755),
		tree.Symlink("/lib", "usr/lib"),
		tree.Symlink("/abs", "/usr/lib/.."),
		tree.Symlink("/out", "../../../usr"),
		tree.WriteFile("/lib/a", []byte("1"), 0o644),
		tree.WriteFile("abs/../../b", []byte("2"), 0o600),
		tree.WriteFile("/out/c", []byte("3"), 0o755),
		tree.Symlink("/usr/d", "../usr/lib/a"),
		tree.WriteFile("/usr/d", []byte("4"), 0o640), // what the link leads to
		tree.Symlink("/usr/e", "nowhere"),
		tree.WriteFile("/usr/e", []byte("5"), 0o644), // the link itself
		tree.Mkdir("/lib", 0o700),                    // stays as it is
		tree.Mkdir("/out/new", 0o700),
	)
	want := []string{
		"/ -rwxr-xr-x", "/abs -> /usr/lib/..", "/b -rw------- 2", "/lib -> usr/lib", "/out -> ../../../usr", "/usr/ -rwxr-xr-x",
		"/usr/c -rwxr-xr-x 3", "/usr/d -> ../usr/lib/a", "/usr/e -rw-r--r-- 5", "/usr/lib/ -rwxr-xr-x", "/usr/lib/a -rw-r----- 4", "/usr/new/ -rwx------",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, shape(t, tree)); diff != "" {
		t.Error(diff)
	}
	if !tree.Exists("/abs/lib/a") || tree.Exists("/usr/nowhere") {
		t.Error("exists")
	}
	must(t, tree.Symlink("/loop", "loop/x"))
	for what, c := range map[string]struct{ got, want error }{
		"over a directory":     {tree.WriteFile("/usr/lib", nil, 0o644), syscall.EISDIR},
		"link over directory":  {tree.Symlink("/usr", "x"), syscall.EISDIR},
		"below a file":         {tree.WriteFile("/b/x", nil, 0o644), syscall.ENOTDIR},
		"the top":              {tree.WriteFile("/", nil, 0o644), fs.ErrExist},
		"directory over file":  {tree.Mkdir("/b", 0o755), syscall.ENOTDIR},
		"directory below file": {tree.Mkdir("/b/c", 0o755), syscall.ENOTDIR},
		"loop":                 {tree.WriteFile("/loop/y", nil, 0o644), syscall.ELOOP},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, not %v", what, c.got, c.want)
		}
	}
	if _, err := tree.ReadFile("/usr", 10); err == nil {
		t.Error("read a directory")
	}
	if _, err := tree.ReadFile("/b", 0); err == nil {
		t.Error("read more than allowed")
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/a/x", "new x")
	write(t, dir+"/y", "new y")
	must(t, os.Symlink("y", dir+"/l"), os.Chmod(dir+"/a", 0o700), os.Chmod(dir, 0o711))
	tree := New()
	must(t,
		tree.WriteFile("/a/x", []byte("old x"), 0o600), tree.WriteFile("/a/z", []byte("old z"), 0o600),
		tree.Mkdir("/y/below", 0o755), // a file takes its place
		tree.Import("/", squashfs.DirTree(dir)),
	)
	want := []string{"/ -rwx--x--x", "/a/ -rwx------", "/a/x -rw-r--r-- new x", "/a/z -rw------- old z", "/l -> y", "/y -rw-r--r-- new y"}
	if diff := cmp.Diff(want, shape(t, tree)); diff != "" {
		t.Error(diff)
	}
	if err := tree.Import("/l", squashfs.DirTree(dir)); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
	if err := New().Import("/", squashfs.DirTree(dir+"/none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	tree := New()
	must(t,
		tree.Mkdir("/usr/lib/systemd/system", 0o755),
		tree.Symlink("/lib", "usr/lib"),
		tree.Symlink("/var/run", "/run"),
		tree.Symlink("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
		tree.WriteFile("/etc/machine-id", []byte("0123456789abcdef0123456789abcdef\n"), 0o644),
		tree.WriteFile("/lib/systemd/system/a.service", []byte("[Service]\nStateDirectory=a a/b\nLogsDirectory=%p\nRuntimeDirectory=r\n"), 0o644),
		tree.Symlink("/lib/systemd/system/mask.service", "/dev/null"),
		tree.Symlink("/etc/systemd/system/b.service", "/srv/b.service"),
		tree.WriteFile("/srv/b.service", []byte("[Service]\nCacheDirectory=b\n"), 0o644),
		tree.Mkdir("/lib/systemd/system/a.service.d", 0o755),
	)
	must(t, tree.Complete(portable.StateDirectories))
	for _, dir := range []string{"/dev", "/etc", "/proc", "/root", "/run", "/sys", "/tmp", "/usr", "/var/lib/a/b", "/var/log/a", "/var/cache/b", "/var/tmp"} {
		if n, err := tree.walk(dir, true, false); err != nil || !n.Mode.IsDir() {
			t.Errorf("%s: %v", dir, err)
		}
	}
	for _, file := range []string{"/etc/machine-id", "/etc/resolv.conf"} {
		n, err := tree.walk(file, false, false)
		if err != nil || !n.Mode.IsRegular() || n.Size != 0 {
			t.Errorf("%s: %+v, %v", file, n, err)
		}
	}
	if n, err := tree.walk("/var/tmp", true, false); err != nil || n.Mode != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Error(n.Mode, err)
	}
	before := shape(t, tree)
	must(t, tree.Complete(portable.StateDirectories))
	if diff := cmp.Diff(before, shape(t, tree)); diff != "" {
		t.Error("done twice, something changes: ", diff)
	}
}

// An own resolv.conf stays, as a file or behind a link.
func TestCompleteKeeps(t *testing.T) {
	t.Parallel()
	tree := New()
	must(t,
		tree.WriteFile("/run/r", []byte("nameserver ::1\n"), 0o600),
		tree.Symlink("/etc/resolv.conf", "/run/r"),
		tree.Mkdir("/tmp", 0o700),
		tree.Complete(portable.StateDirectories),
	)
	if text, err := tree.ReadFile("/etc/resolv.conf", 100); err != nil || len(text) == 0 {
		t.Errorf("%q, %v", text, err)
	}
	if n, _ := tree.walk("/tmp", true, false); n.Mode.Perm() != 0o700 {
		t.Error(n.Mode)
	}
	for p, want := range map[string]error{"/etc": syscall.ENOTDIR, "/etc/machine-id/x": syscall.EISDIR, "/var/lib/systemd": nil} {
		tree := New()
		must(t, tree.WriteFile(p, nil, 0o644))
		if err := tree.Complete(portable.StateDirectories); !errors.Is(err, want) {
			t.Errorf("%s: %v", p, err)
		}
	}
	tree = New()
	must(t, tree.WriteFile(unitFolder+"/a.service", []byte("[Service]\nStateDirectory=a\n"), 0o644), tree.WriteFile("/var/lib/a", nil, 0o644))
	if err := tree.Complete(portable.StateDirectories); err == nil || !strings.HasPrefix(err.Error(), "making /var/lib/a for a.service: ") {
		t.Error(err)
	}
}

func TestFormatRelease(t *testing.T) {
	t.Parallel()
	values := []string{"plain-1.2~a", "two words", `"quoted"`, `$HOME`, "`id`", `back\slash`, "it's", "größe", "a;b", "#c", " ", "a=b"}
	var fields []Field
	for i, v := range values {
		fields = append(fields, Field{fmt.Sprintf("K%d", i), v})
	}
	text, err := FormatRelease(append(fields, Field{"EMPTY", ""}))
	must(t, err)
	if strings.Contains(string(text), "EMPTY") || !strings.HasPrefix(string(text), "K0=plain-1.2~a\nK1=\"two words\"\n") {
		t.Errorf("%s", text)
	}
	// A shell reads the same values, of which there is one wherever this runs.
	shell := need(t, "sh")
	name := filepath.Join(t.TempDir(), "os-release")
	write(t, name, string(text))
	for i, v := range values {
		if got := run(t, shell, "-euc", `. "$1"; printf %s "$`+fmt.Sprintf("K%d", i)+`"`, "sh", name); got != v {
			t.Errorf("%q became %q", v, got)
		}
	}
	for _, v := range []string{"a\nb", "\x00", "\x7f", "a\tb"} {
		if _, err := FormatRelease([]Field{{"K", v}}); !errors.Is(err, ErrSpec) {
			t.Errorf("%q: %v", v, err)
		}
	}
}

func TestSpecTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/a.service", "[Service]\nExecStart=/usr/bin/p\n")
	write(t, dir+"/p", "program")
	write(t, dir+"/data/deep/f", "f")
	write(t, dir+"/data/x", "x")
	must(t, os.Chmod(dir+"/data/x", 0o701), os.Symlink("deep/f", dir+"/data/l"), os.Symlink("data", dir+"/linked"))
	at := time.Unix(1e9, 0)
	s := &Spec{
		Name: "a", Version: "1", Pretty: "A", Release: []Field{{"HOME_URL", "u"}, {"VERSION_ID", "9"}},
		Programs: []File{{dir + "/p", ""}}, Units: []string{dir + "/a.service"},
		Files: []File{{dir + "/linked", "/srv"}, {dir + "/data/l", "/f"}}, Dirs: []string{"/opt"}, Links: []Link{{"/bin", "usr/bin"}},
	}
	tree, err := s.Tree(at)
	must(t, err)
	want := []string{
		"/ -rwxr-xr-x", "/bin -> usr/bin", "/etc/ -rwxr-xr-x", "/etc/os-release -> ../usr/lib/os-release", "/f -rw-r--r-- f", "/opt/ -rwxr-xr-x",
		"/srv/ -rwxr-xr-x", "/srv/deep/ -rwxr-xr-x", "/srv/deep/f -rw-r--r-- f", "/srv/l -> deep/f", "/srv/x -rwxr-xr-x x",
		"/usr/ -rwxr-xr-x", "/usr/bin/ -rwxr-xr-x", "/usr/bin/p -rwxr-xr-x program", "/usr/lib/ -rwxr-xr-x",
		"/usr/lib/os-release -rw-r--r-- ID=a\nVERSION_ID=9\nPRETTY_NAME=A\nIMAGE_ID=a\nIMAGE_VERSION=1\nPORTABLE_PRETTY_NAME=A\nPORTABLE_PREFIXES=a\nHOME_URL=u\n",
		"/usr/lib/systemd/ -rwxr-xr-x", "/usr/lib/systemd/system/ -rwxr-xr-x",
		"/usr/lib/systemd/system/a.service -rw-r--r-- [Service]\nExecStart=/usr/bin/p\n",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, shape(t, tree)); diff != "" {
		t.Error(diff)
	}
	tree.each(func(n *node) {
		if !n.ModTime.Equal(at) {
			t.Errorf("%s: %v", n.Name, n.ModTime)
		}
	})
}

func TestSpecRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unit := dir + "/a.service"
	write(t, unit, "")
	must(t, syscall.Mkfifo(dir+"/pipe", 0o600), os.Mkdir(dir+"/folder", 0o755), syscall.Mkfifo(dir+"/folder/p", 0o600))
	for what, s := range map[string]*Spec{
		"the image has no name":             {Units: []string{unit}},
		"there are no units":                {Name: "a"},
		`"A" is no name of an image`:        {Name: "A", Units: []string{unit}},
		`"a_b" is no name of an image`:      {Name: "a_b", Units: []string{unit}},
		`"1/2" is no version`:               {Name: "a", Version: "1/2", Units: []string{unit}},
		"where in the image is " + unit:     {Name: "a", Units: []string{unit}, Files: []File{{unit, ""}}},
		dir + "/pipe is neither a file":     {Name: "a", Units: []string{unit}, Files: []File{{dir + "/pipe", "/x"}}},
		dir + "/folder/p is neither a file": {Name: "a", Units: []string{unit}, Files: []File{{dir + "/folder", "/x"}}},
		"HOME has control characters":       {Name: "a", Units: []string{unit}, Release: []Field{{"HOME", "\n"}}},
	} {
		if tree, err := s.Tree(time.Time{}); tree != nil || !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s := &Spec{Name: "a", Units: []string{dir + "/none.service"}}
	if _, err := s.Tree(time.Time{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
