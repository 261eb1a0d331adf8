package portable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"

	"github.com/lockport/lockport/image"
)

// Apply carries out a plan: all of it, or nothing. Should the process die, the
// next call of Recover undoes what it has done.
func (h *Host) Apply(ctx context.Context, p *Plan) error {
	if len(p.Changes) == 0 {
		return nil
	}
	unlock, err := h.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, _, err := h.recover(false); err != nil {
		return err
	}
	if err := h.checkImages(p.images); err != nil {
		return err
	}
	steps, err := h.steps(p.Changes)
	if err != nil {
		return err
	}
	folder := h.folderFor(p.Scope)
	if err := h.writeJournal(folder, steps); err != nil {
		return err
	}
	err = h.perform(ctx, p.Changes, folder, steps)
	if err == nil {
		return h.finish(folder, steps)
	}
	return errors.Join(err, h.abandon(folder, steps))
}

// checkImages wants that nobody has removed an image since the plan was made.
func (h *Host) checkImages(list []string) error {
	for _, p := range list {
		if info, err := h.lstat(p); err != nil || info == nil {
			return errors.Join(fmt.Errorf("%s: %w: it has been removed since the plan was made", p, image.ErrNotFound), err)
		}
	}
	return nil
}

// finish ends a transaction that worked. If not even the journal goes away,
// nothing else may rely on it.
func (h *Host) finish(folder string, steps []step) error {
	if discards(steps) {
		return h.finishDiscarding(folder, steps)
	}
	err := h.removeJournal(folder)
	if err == nil {
		return nil
	}
	if _, gone := h.root.Lstat(path.Join(folder, journalName)); errors.Is(gone, fs.ErrNotExist) {
		return err // done, though perhaps not on the disk yet
	}
	return errors.Join(err, h.abandon(folder, steps))
}

// finishDiscarding is finish where images go that nothing could bring back. Once
// the journal says so, there is no way but to the end, now or when recovering.
func (h *Host) finishDiscarding(folder string, steps []step) error {
	placed, err := h.replaceJournal(folder, steps, true)
	if err != nil && !placed {
		return errors.Join(err, h.abandon(folder, steps))
	}
	if err == nil {
		err = h.discard(steps)
	}
	if err == nil {
		err = h.removeJournal(folder)
	}
	if err != nil {
		return fmt.Errorf("%w: all is done but for an old image: %w", ErrUnfinished, err)
	}
	return nil
}

// abandon undoes a transaction that failed.
func (h *Host) abandon(folder string, steps []step) error {
	_, _, err := h.undo(steps, false)
	if err == nil {
		err = h.removeJournal(folder)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnfinished, err)
	}
	return nil
}

// steps looks at what is there, and whether it is what the plan was made for.
func (h *Host) steps(changes []Change) ([]step, error) {
	h.lookAgain()
	var list []step
	fresh := map[string]bool{} // directories that are not there yet, nor is what is in them
	for _, c := range changes {
		at, err := h.at(c.Path)
		if err != nil {
			return nil, err
		}
		s := step{At: at, Before: &state{Kind: kindNone}, After: c.after(), Image: c.image}
		if !fresh[path.Dir(at)] {
			if s.Before, err = h.look(s); err != nil {
				return nil, err
			}
		}
		before := s.Before
		fresh[at] = c.Type == Mkdir && before.Kind == kindNone
		switch {
		case c.before != nil && !c.before.same(before):
			return nil, fmt.Errorf("%s: has been changed since the plan was made", c.Path)
		case c.Type == Mkdir && before.Kind != kindNone, c.Type != Unlink && before.Kind == kindDirectory,
			c.Type != Unlink && before.Kind != kindNone && !c.replace:
			return nil, fmt.Errorf("%s: %w", c.Path, fs.ErrExist)
		}
		list = append(list, s)
	}
	return list, nil
}

// perform takes the steps, and sees to it that they are on the disk.
func (h *Host) perform(ctx context.Context, changes []Change, folder string, steps []step) error {
	p := &performance{host: h, changes: changes, folder: folder, steps: steps, folders: map[string]bool{}, made: map[string]bool{}}
	for _, pass := range []func(context.Context, int) error{p.prepare, p.units, p.clear} {
		for i, c := range changes {
			err := ctx.Err()
			if err == nil {
				err = pass(ctx, i)
			}
			if err != nil {
				return fmt.Errorf("%s %s: %w", doing[c.Type], c.Path, err)
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
	}
	return nil
}

// performance takes the steps of a transaction in three passes. What keeps a unit
// in its image and in its sandbox is on the disk before the unit is there, and as
// long as it is: should the power fail between, no unit is found without. And in
// between, all can go to the disk at once.
type performance struct {
	host    *Host
	changes []Change
	folder  string // of the journal
	steps   []step
	written []string // not on the disk yet
	folders map[string]bool
	made    map[string]bool // new directories
}

// isUnit tells whether a change is one of a unit, and not of what belongs to it.
func (c Change) isUnit() bool {
	dir := path.Dir(c.Path)
	return (dir == Persistent.attached() || dir == Runtime.attached()) && unitType(path.Base(c.Path)) != ""
}

// late tells whether a change waits for a later pass.
func (c Change) late() bool { return c.isUnit() || c.Type == Unlink }

// hasContent tells whether a change writes a file.
func (c Change) hasContent() bool { return (c.Type == Copy || c.Type == Write) && !c.image }

func (p *performance) prepare(ctx context.Context, i int) error {
	c, at := p.changes[i], p.steps[i].At
	if c.hasContent() {
		name := temporary(at)
		if p.isApart(i) {
			name = at
		}
		if err := p.host.files.write(name, c.Content, 0o644); err != nil {
			return err
		}
		p.written = append(p.written, name)
	}
	if c.late() {
		return nil
	}
	p.made[at] = c.Type == Mkdir
	return p.place(ctx, i)
}

// isApart tells whether nobody looks at a file before there is a unit for it: it
// needs no other name until it is written.
func (p *performance) isApart(i int) bool {
	c := p.changes[i]
	return c.hasContent() && !c.late() && p.made[path.Dir(p.steps[i].At)]
}

func (p *performance) units(ctx context.Context, i int) error {
	if !p.changes[i].isUnit() {
		return nil
	}
	return p.place(ctx, i)
}

func (p *performance) clear(ctx context.Context, i int) error {
	if c := p.changes[i]; c.isUnit() || !c.late() {
		return nil
	}
	return p.place(ctx, i)
}

// place does what makes a change visible.
func (p *performance) place(ctx context.Context, i int) error {
	c, s := p.changes[i], p.steps[i]
	p.folders[path.Dir(s.At)] = true
	if c.image {
		return p.host.imageStep(ctx, c, p.folder, p.steps, i)
	}
	if p.isApart(i) {
		return nil
	}
	if n := len(p.written); c.hasContent() && !c.late() {
		p.written[n-1] = s.At // its name from now on
	}
	return p.host.step(c, s.At)
}

// many files are brought to the disk together with all else that is to go there.
// It takes longer than a few, and a fraction of the time of thousands.
const many = 64

// flush brings to the disk what was written, files before their directories.
func (p *performance) flush() error {
	h := p.host
	defer func() { p.written, p.folders = nil, map[string]bool{} }()
	if len(p.written)+len(p.folders) > many {
		return h.syncFileSystems(p.folders)
	}
	if err := h.files.sync(p.written...); err != nil {
		return fmt.Errorf("syncing what was written: %w", err)
	}
	return h.syncAll(p.folders)
}

// syncFileSystems brings all of the file systems to the disk that directories are
// in, as far as they still exist.
func (h *Host) syncFileSystems(folders map[string]bool) error {
	done := map[uint64]bool{}
	for folder := range folders {
		info, err := h.root.Lstat(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			if done[uint64(st.Dev)] {
				continue
			}
			done[uint64(st.Dev)] = true
		}
		if err := h.files.syncAll(folder); err != nil {
			return fmt.Errorf("syncing the file system of /%s: %w", folder, err)
		}
	}
	return nil
}

var doing = map[ChangeType]string{
	Copy: "copying to", Symlink: "linking", Unlink: "removing", Write: "writing", Mkdir: "creating",
}

// step makes a change, for which content is written already.
func (h *Host) step(c Change, at string) error {
	temp := temporary(at)
	switch {
	case c.Type == Mkdir:
		return h.files.mkdir(at, 0o755)
	case c.Type == Unlink:
		return h.files.remove(at)
	case c.Type == Symlink && !c.replace:
		return h.files.symlink(c.Source, at)
	case c.Type == Symlink:
		if err := h.files.symlink(c.Source, temp); err != nil {
			return err
		}
	}
	if c.replace {
		return h.files.rename(temp, at)
	}
	if err := h.files.link(temp, at); err != nil {
		return err
	}
	return h.files.remove(temp)
}
