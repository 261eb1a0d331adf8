package portable

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/image"
)

var errInjected = errors.New("injected")

// failing makes the call number n, counted from 0, fail. With dead, all after it
// fail, too, as if the process had died.
func failing(f files, n int, dead bool) (files, *int) {
	count := 0
	try := func(call func() error) error {
		count++
		if count-1 == n || dead && count-1 > n {
			return errInjected
		}
		return call()
	}
	return files{
		mkdir: func(name string, mode fs.FileMode) error { return try(func() error { return f.mkdir(name, mode) }) },
		write: func(name string, data []byte, mode fs.FileMode) error {
			err := try(func() error { return f.write(name, data, mode) })
			if err == errInjected && count-1 == n {
				_ = f.write(name, data[:len(data)/2], mode) // it came so far
			}
			return err
		},
		create: func(name string, data []byte, mode fs.FileMode) error {
			return try(func() error { return f.create(name, data, mode) })
		},
		symlink: func(to, name string) error { return try(func() error { return f.symlink(to, name) }) },
		rename:  func(from, to string) error { return try(func() error { return f.rename(from, to) }) },
		link:    func(from, to string) error { return try(func() error { return f.link(from, to) }) },
		chown:   func(name string, uid, gid int) error { return try(func() error { return f.chown(name, uid, gid) }) },
		remove:  func(name string) error { return try(func() error { return f.remove(name) }) },
		sync:    func(names ...string) error { return try(func() error { return f.sync(names...) }) },
		syncAll: func(folder string) error { return try(func() error { return f.syncAll(folder) }) },
		copyImage: func(ctx context.Context, from, to string) error {
			return try(func() error { return f.copyImage(ctx, from, to) })
		},
		removeAll: func(name string) error { return try(func() error { return f.removeAll(name) }) },
	}, &count
}

// calls is how many calls an operation makes, and what it comes to.
func calls(t *testing.T, op operation) (int, map[string]string) {
	t.Helper()
	dir := services(t)
	h := openHost(t, dir)
	op.prepare(t, h)
	p, err := op.plan(h)
	must(t, err)
	var count *int
	h.files, count = failing(h.files, -1, false)
	must(t, h.Apply(ctx(), p))
	return *count, look(t, dir)
}

// TestEveryFailureIsUndone makes each call fail in turn, and lets the process die
// at each.
func TestEveryFailureIsUndone(t *testing.T) {
	t.Parallel()
	for _, op := range operations {
		for _, dead := range []bool{false, true} {
			name := op.name + ", failing"
			if dead {
				name = op.name + ", dying"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				n, after := calls(t, op)
				if n < 10 {
					t.Fatalf("only %d calls", n)
				}
				// After the last but one, the journal is gone and all is done.
				for i := range n - 1 {
					if failAt(t, op, i, dead, after); t.Failed() {
						t.Fatalf("after call %d", i)
					}
				}
			})
		}
	}
}

func failAt(t *testing.T, op operation, i int, dead bool, after map[string]string) {
	t.Helper()
	dir := services(t)
	h := openHost(t, dir)
	op.prepare(t, h)
	p, err := op.plan(h)
	must(t, err)
	before := look(t, dir)
	h.files, _ = failing(h.files, i, dead)
	if err := h.Apply(ctx(), p); !errors.Is(err, errInjected) {
		t.Fatalf("call %d: %v", i, err)
	}
	if dead || op.discards {
		_, _, err := openHost(t, dir).Recover(ctx(), false)
		must(t, err)
	}
	// Once an image begins to go, there is no way back but to the end.
	if have := look(t, dir); !op.discards || !cmp.Equal(have, after) {
		same(t, before, have)
	}
}

// Recovering may be interrupted itself, any number of times.
func TestRecoveryIsInterrupted(t *testing.T) {
	t.Parallel()
	op := operations[4]
	n, _ := calls(t, op)
	dir := services(t)
	h := openHost(t, dir)
	op.prepare(t, h)
	p, err := op.plan(h)
	must(t, err)
	before := look(t, dir)
	h.files, _ = failing(h.files, n-5, true)
	if err := h.Apply(ctx(), p); !errors.Is(err, ErrUnfinished) {
		t.Fatal(err)
	}
	for i := range 3 * n {
		next := openHost(t, dir)
		next.files, _ = failing(next.files, i/2, true)
		if _, _, err = next.Recover(ctx(), false); err == nil {
			break
		}
	}
	must(t, err)
	same(t, before, look(t, dir))
}

func TestOutdatedPlan(t *testing.T) {
	t.Parallel()
	dir := services(t)
	h := openHost(t, dir)
	p, err := first(h)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(dir, "etc/systemd/system.attached"), 0o755))
	before := look(t, dir)
	if err := h.Apply(ctx(), p); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	same(t, before, look(t, dir))
}

// An image that is removed between plan and change is not attached.
func TestRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	dir := services(t)
	h := openHost(t, dir)
	p, err := first(h)
	must(t, err)
	must(t, os.RemoveAll(filepath.Join(dir, "srv/web_1")))
	before := look(t, dir)
	if err := h.Apply(ctx(), p); !errors.Is(err, image.ErrNotFound) {
		t.Error(err)
	}
	same(t, before, look(t, dir))
}

// Files of another owner come back as they were.
func TestOwnerComesBack(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := services(t)
	h := openHost(t, dir)
	applied(first)(t, h)
	unit := "etc/systemd/system.attached/web.service"
	must(t, os.Chown(filepath.Join(dir, unit), 12, 34))
	p, err := operations[3].plan(h)
	must(t, err)
	h.files, _ = failing(h.files, 9, false)
	if err := h.Apply(ctx(), p); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	at, err := stateAt(h.root, unit)
	must(t, err)
	if at.UID != 12 || at.GID != 34 {
		t.Errorf("it belongs to %d:%d", at.UID, at.GID)
	}
}

// A journal without its end is from a moment before anything was begun.
func TestIncompleteJournal(t *testing.T) {
	t.Parallel()
	dir := services(t)
	h := openHost(t, dir)
	before := look(t, dir)
	p, err := first(h)
	must(t, err)
	steps, err := h.steps(p.Changes)
	must(t, err)
	must(t, h.writeJournal("etc", steps))
	name := filepath.Join(dir, "etc", journalName)
	whole, err := os.ReadFile(name)
	must(t, err)
	for _, text := range []string{"", string(whole[:10]), string(whole[:len(whole)-1]), string(whole[:100]) + string(make([]byte, 1000)), string(make([]byte, 1000))} {
		must(t, os.WriteFile(name, []byte(text), 0o600))
		undone, _, err := openHost(t, dir).Recover(ctx(), false)
		if err != nil || len(undone) > 0 {
			t.Errorf("%.20q: %v, %v", text, undone, err)
		}
		same(t, before, look(t, dir))
	}
	must(t, os.WriteFile(name, []byte("{no journal}"), 0o600))
	if _, _, err := openHost(t, dir).Recover(ctx(), false); !errors.Is(err, ErrUnfinished) {
		t.Error(err)
	}
}
