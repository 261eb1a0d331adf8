package main

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func mustOpen(t *testing.T, path string) *counter {
	t.Helper()
	c, err := openCounter(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustNext(t *testing.T, c *counter, want uint64) {
	t.Helper()
	if n, err := c.next(); n != want || err != nil {
		t.Errorf("visitor %d, %v, not %d", n, err, want)
	}
}

// Not parallel, as all that close a counter and open it again: a process that another
// test starts holds the lock for a moment.
func TestCountGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visitors")
	want := uint64(0)
	for range 4 {
		c := mustOpen(t, path)
		for range 3 {
			want++
			mustNext(t, c, want)
		}
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(left) != 0 || err != nil {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visitors")
	c := mustOpen(t, path)
	if _, err := openCounter(path); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("opened twice: %v", err)
	}
	c.close()
	mustOpen(t, path).close()
}

// Everyone gets a number of their own, from 1 on without a gap, and many get theirs
// with one write.
func TestConcurrentVisitors(t *testing.T) {
	t.Parallel()
	const clients, each = 50, 40
	f := &disk{}
	c, err := newCounter(f.fresh())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []uint64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			last := uint64(0)
			for range each {
				n, err := c.next()
				if err != nil || n <= last {
					t.Errorf("visitor %d, %v after %d", n, err, last)
				}
				last = n
				mu.Lock()
				seen = append(seen, n)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(seen)
	for i, n := range seen {
		if n != uint64(i)+1 {
			t.Fatalf("number %d of all is %d", i+1, n)
		}
	}
	if f.syncs >= clients*each {
		t.Errorf("%d writes for %d visitors", f.syncs, clients*each)
	}
}

// disk is a file that fails and tears writes as told. It is used by one goroutine.
type disk struct {
	data  []byte
	syncs int
	fail  error // of the next write
	after int   // what of that write still reaches the disk
	ill   error // of the next sync
}

// fresh makes the disk hold a counter at 0.
func (d *disk) fresh() *disk {
	d.data = bytes.Repeat([]byte{'\n'}, 2*slotSize)
	copy(d.data, encode(0))
	copy(d.data[slotSize:], encode(0))
	return d
}

func (d *disk) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(d.data).ReadAt(b, off)
}

func (d *disk) WriteAt(b []byte, off int64) (int, error) {
	if err := d.fail; err != nil {
		d.fail = nil
		return copy(d.data[off:], b[:d.after]), err
	}
	return copy(d.data[off:], b), nil
}

func (d *disk) Sync() error {
	d.syncs++
	err := d.ill
	d.ill = nil
	return err
}

func (d *disk) Close() error { return nil }

// A write may stop at any byte, by an error or by the death of the process: no
// number comes twice, none that was handed out is forgotten, and the next visitor
// gets the next one.
func TestTornWrites(t *testing.T) {
	t.Parallel()
	for torn := range slotLength + 1 {
		d := (&disk{}).fresh()
		c, err := newCounter(d)
		if err != nil {
			t.Fatal(err)
		}
		for want := uint64(1); want <= 9; want++ {
			mustNext(t, c, want)
		}
		d.fail, d.after = syscall.ENOSPC, torn
		if n, err := c.next(); n != 0 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("torn at %d: visitor %d, %v", torn, n, err)
		}
		// As after a crash at this moment.
		again, err := newCounter(&disk{data: slices.Clone(d.data)})
		if err != nil {
			t.Fatalf("torn at %d: %v", torn, err)
		}
		if n, err := again.next(); n != 10 && n != 11 || err != nil {
			t.Errorf("torn at %d: visitor %d after 9, %v", torn, n, err)
		}
		again.close()
		d.ill = syscall.EIO
		if _, err := c.next(); !errors.Is(err, syscall.EIO) {
			t.Errorf("no error of a sync that fails: %v", err)
		}
		mustNext(t, c, 10)
		mustNext(t, c, 11)
		c.close()
	}
}

func TestDamagedFiles(t *testing.T) {
	slots := func(a, b string) string {
		return a + strings.Repeat("\n", slotSize-len(a)) + b
	}
	good := string(encode(7))
	for name, c := range map[string]struct {
		data string
		want uint64 // the last number, or 0 if it must be refused
	}{
		"both":             {slots(string(encode(6)), good), 7},
		"first":            {slots(good, "garbage"), 7},
		"second":           {slots("garbage", good), 7},
		"half a file":      {good, 7},
		"nothing":          {"", 0},
		"zeros":            {strings.Repeat("\x00", 2*slotSize), 0},
		"wrong sum":        {slots(strings.Replace(good, "7 ", "8 ", 1), ""), 0},
		"sign":             {slots("-"+good[1:], "+"+good[1:]), 0},
		"too large":        {slots("99999999999999999999 00000000\n", ""), 0},
		"largest":          {slots(string(encode(1<<64-2)), ""), 1<<64 - 2},
		"short first line": {slots(good[:slotLength-2], good[:10]), 0},
	} {
		path := filepath.Join(t.TempDir(), "visitors")
		if err := os.WriteFile(path, []byte(c.data), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := openCounter(path)
		if (err == nil) != (c.want != 0) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			mustNext(t, got, c.want+1)
			got.close()
		}
	}
}

// What the disk can't take is not counted and the visitor is told; nobody's number
// is lost, and it goes on when there is room.
func TestVisitorsAreTold(t *testing.T) {
	t.Parallel()
	d := (&disk{}).fresh()
	c, err := newCounter(d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	h := handler(c)
	visit := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		b, _ := io.ReadAll(w.Result().Body)
		return w.Code, string(b)
	}
	for _, step := range []struct {
		method, path string
		full         bool
		code         int
		body         string
	}{
		{"GET", "/", false, 200, "Hello! You are visitor #1!\n"},
		{"GET", "/favicon.ico", false, 404, "404 page not found\n"},
		{"POST", "/", false, 405, "Method Not Allowed\n"},
		{"GET", "/", true, 503, "Sorry, you can't be counted now.\n"},
		{"GET", "/", false, 200, "Hello! You are visitor #2!\n"},
	} {
		if step.full {
			d.fail = syscall.ENOSPC
		}
		if code, body := visit(step.method, step.path); code != step.code || body != step.body {
			t.Errorf("%+v: %d %q", step, code, body)
		}
	}
}
