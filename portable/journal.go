package portable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"
)

// journalName is a file that exists while a transaction is under way, beside the
// directories that it changes. Whoever finds it without its owner undoes what
// stands in it.
const journalName = ".#lockport-portable.journal"

// maxJournal holds a few thousand units.
const maxJournal = 512 << 20

// journal has a step for each change, in their order. No path is in it twice.
type journal struct {
	Version int    `json:"version"`
	Steps   []step `json:"steps"`
	Done    bool   `json:"done,omitempty"` // only discarded images are left to be removed
}

type step struct {
	At     string `json:"at"` // below the root
	Before *state `json:"before"`
	After  *state `json:"after"`
	Image  bool   `json:"image,omitempty"`
}

const journalVersion = 1

// journalFolders are where a journal may be, "." for trees that are still empty.
func (h *Host) journalFolders() []string {
	list := []string{"."}
	for _, s := range scopes {
		if at, err := h.tree.Resolve(s.top()); err == nil {
			list = append(list, at)
		}
	}
	return list
}

// folderFor is where the journal of a scope goes.
func (h *Host) folderFor(s Scope) string {
	if at, err := h.tree.Resolve(s.top()); err == nil {
		return at
	}
	return "."
}

// writeJournal begins a transaction.
func (h *Host) writeJournal(folder string, steps []step) error {
	placed, err := h.replaceJournal(folder, steps, false)
	if err != nil && placed {
		err = errors.Join(err, h.sweep(path.Join(folder, journalName)))
	}
	return err
}

// placeJournal writes a journal. A first one may be incomplete for a moment, as
// long as nothing was begun, and so is on the disk at the same time as its name.
func (h *Host) placeJournal(folder string, data []byte, first bool) (placed bool, err error) {
	name := path.Join(folder, journalName)
	if first {
		err = h.files.write(temporary(name), data, 0o600)
	} else {
		err = h.files.create(temporary(name), data, 0o600)
	}
	if err == nil {
		err = h.files.rename(temporary(name), name)
		placed = err == nil
	}
	if err == nil && first {
		err = h.files.sync(name)
	}
	if err == nil {
		err = h.files.sync(folder)
	}
	return placed, err
}

// replaceJournal writes the journal, over one that may be there. If it is placed,
// it counts, although with an error it is not certain to be on the disk.
func (h *Host) replaceJournal(folder string, steps []step, done bool) (placed bool, err error) {
	data, err := json.Marshal(journal{journalVersion, steps, done})
	if err == nil && len(data) > maxJournal {
		err = errors.New("too many changes at once")
	}
	if err == nil {
		placed, err = h.placeJournal(folder, data, !done)
	}
	if err != nil {
		return placed, errors.Join(fmt.Errorf("writing the journal: %w", err), h.sweep(temporary(path.Join(folder, journalName))))
	}
	return true, nil
}

// removeJournal ends a transaction.
func (h *Host) removeJournal(folder string) error {
	if err := h.files.remove(path.Join(folder, journalName)); err != nil {
		return fmt.Errorf("removing the journal: %w", err)
	}
	return h.files.sync(folder)
}

// sweep removes what may be there.
func (h *Host) sweep(at string) error {
	err := h.root.Remove(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDirectory) {
		return nil
	}
	return err
}

// readJournal returns nil if there is none.
func (h *Host) readJournal(folder string) (*journal, error) {
	f, err := h.root.OpenFile(path.Join(folder, journalName), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxJournal))
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	var j journal
	err = json.NewDecoder(bytes.NewReader(bytes.TrimRight(data, "\x00"))).Decode(&j)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &journal{Version: journalVersion}, nil // its end was not written yet when the power failed
	}
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	if j.Version != journalVersion {
		return nil, fmt.Errorf("the journal has version %d, and %d is known", j.Version, journalVersion)
	}
	for _, s := range j.Steps {
		if !fs.ValidPath(s.At) || s.At == "." || s.Before == nil || s.After == nil {
			return nil, errors.New("the journal is damaged")
		}
	}
	return &j, nil
}

// lock keeps other processes out until unlock is called.
func (h *Host) lock(ctx context.Context) (unlock func(), err error) {
	f, err := h.root.Open(".")
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			h.lookAgain() // others may have changed the tree meanwhile
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			break
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	_ = f.Close()
	return nil, fmt.Errorf("locking %s: %w", h.dir, err)
}

// Settled wants that no interrupted transaction is left.
func (h *Host) Settled(ctx context.Context) error {
	unlock, err := h.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return h.settled()
}

// settled is Settled while other processes are kept out.
func (h *Host) settled() error {
	for _, folder := range h.journalFolders() {
		if _, err := h.root.Lstat(path.Join(folder, journalName)); err == nil {
			return fmt.Errorf("/%s: %w", path.Join(folder, journalName), ErrUnfinished)
		}
	}
	return nil
}

// Recover undoes what an interrupted transaction did. What someone else has
// changed since is an error, or with keep left as it is. It returns the paths
// that were put back and those that were left.
func (h *Host) Recover(ctx context.Context, keep bool) (undone, kept []string, err error) {
	unlock, err := h.lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	return h.recover(keep)
}

func (h *Host) recover(keep bool) (undone, kept []string, err error) {
	for _, folder := range h.journalFolders() {
		if err := h.sweep(temporary(path.Join(folder, journalName))); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
			return undone, kept, err
		}
		j, err := h.readJournal(folder)
		if err != nil {
			return undone, kept, fmt.Errorf("%w: %w", ErrUnfinished, err)
		}
		if j == nil {
			continue
		}
		if j.Done {
			err = h.discard(j.Steps)
		} else {
			var u, k []string
			u, k, err = h.undo(j.Steps, keep)
			undone, kept = append(undone, u...), append(kept, k...)
		}
		if err == nil {
			err = h.removeJournal(folder)
		}
		if err != nil {
			return undone, kept, fmt.Errorf("%w: %w", ErrUnfinished, err)
		}
	}
	return undone, kept, nil
}

// undo puts back the state before the steps, whichever of them were taken.
func (h *Host) undo(steps []step, keep bool) (undone, kept []string, err error) {
	made := map[string]bool{}
	for _, s := range steps {
		made[s.At] = s.After.Kind == kindDirectory
		if err := h.sweepStep(s); err != nil {
			return nil, nil, err
		}
		now, err := h.look(s)
		if err != nil {
			return nil, nil, err
		}
		if !now.same(s.Before) && !s.isOurs(now, made) && !(s.Image && now.Kind == kindNone) {
			kept = append(kept, "/"+s.At)
		}
	}
	if len(kept) > 0 && !keep {
		return nil, nil, fmt.Errorf("/%s has been changed since", kept[0][1:])
	}
	folders := map[string]bool{}
	for _, s := range slices.Backward(steps) {
		done, err := h.undoStep(s, made)
		if err != nil {
			return undone, kept, fmt.Errorf("putting back /%s: %w", s.At, err)
		}
		if !done {
			continue
		}
		undone = append(undone, "/"+s.At)
		folders[path.Dir(s.At)] = true
	}
	return undone, kept, h.syncAll(folders)
}

// look returns the state of what a step is about.
func (h *Host) look(s step) (*state, error) {
	if s.Image {
		return imageAt(h.root, s.At)
	}
	return stateAt(h.root, s.At)
}

// sweepStep removes what a step was making.
func (h *Host) sweepStep(s step) error {
	if s.Image {
		return h.files.removeAll(temporary(s.At))
	}
	return h.sweep(temporary(s.At))
}

// undoStep undoes one step, and tells whether there was anything to undo.
func (h *Host) undoStep(s step, made map[string]bool) (bool, error) {
	if s.Image {
		return h.undoImage(s)
	}
	now, err := stateAt(h.root, s.At)
	if err != nil || now.same(s.Before) || !s.isOurs(now, made) {
		return false, err
	}
	return true, h.restore(s.At, now, s.Before)
}

// isOurs tells whether a step has made what is there. In a directory that is made
// as well, a file may be incomplete.
func (s step) isOurs(now *state, made map[string]bool) bool {
	return now.same(s.After) || made[path.Dir(s.At)] && now.begins(s.After)
}

// syncAll brings directories to the disk, as far as they still exist.
func (h *Host) syncAll(folders map[string]bool) error {
	for folder := range folders {
		if err := h.files.sync(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("syncing /%s: %w", folder, err)
		}
	}
	return nil
}
