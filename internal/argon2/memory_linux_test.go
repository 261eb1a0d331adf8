package argon2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/secret"
)

// TestTooMuchMemory asks for 4 TiB.
func TestTooMuchMemory(t *testing.T) {
	t.Parallel()
	mode, err := os.ReadFile("/proc/sys/vm/overcommit_memory")
	if err != nil || string(bytes.TrimSpace(mode)) == "1" {
		t.Skip("this system promises memory that it does not have")
	}
	// Should the machine have so much, it is not to be filled.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pass := secret.Copy([]byte("swordfish"))
	defer pass.Wipe()
	key, err := Key(ctx, Params{ID, 1, 1<<32 - 1, 4}, pass, []byte("some salt"), 32)
	if !errors.Is(err, unix.ENOMEM) || key != nil {
		t.Fatalf("got %v, %v", key, err)
	}
	if !strings.Contains(err.Error(), "4294967295 KiB") {
		t.Errorf("the error does not name the size: %v", err)
	}
}

// TestMapping looks at what the kernel says about the working memory: nothing
// is behind it before populate, and afterwards it is locked, and it is never in
// a core dump. It runs alone: the kernel merges neighbouring mappings.
func TestMapping(t *testing.T) {
	const size = 2 << 20 // within what ordinary users may lock
	page, err := allocate(size)
	if err != nil {
		t.Fatal(err)
	}
	defer release(page)
	if m := mapping(t, page); m["Rss"] != "0 kB" || !strings.Contains(m["VmFlags"], " dd") {
		t.Errorf("before: %v", m)
	}
	if err := populate(page, 0, size); err != nil {
		t.Fatal(err)
	}
	m := mapping(t, page)
	if m["Rss"] != "2048 kB" {
		t.Skipf("this kernel does not fault in on request: %v", m)
	}
	if m["Locked"] != "2048 kB" {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Cur < 2*size {
			t.Skip("so much may not be locked")
		}
		t.Errorf("not locked: %v", m)
	}
}

// mapping returns the lines of /proc/self/smaps about the mapping at page.
func mapping(t *testing.T, page []byte) map[string]string {
	t.Helper()
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	defer file.Close()
	at := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(page))))
	lines, here := map[string]string{}, false
	for s := bufio.NewScanner(file); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), " ")
		if from, to, ok := strings.Cut(key, "-"); ok {
			start, _ := strconv.ParseUint(from, 16, 64)
			end, _ := strconv.ParseUint(to, 16, 64)
			here = start <= at && at < end
		} else if name, ok := strings.CutSuffix(key, ":"); ok && here {
			lines[name] = strings.TrimLeft(value, " ")
			if name == "VmFlags" {
				lines[name] = " " + value
			}
		}
	}
	return lines
}
