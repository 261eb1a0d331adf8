package portable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
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
	folders := map[string]bool{}
	for i, c := range changes {
		err := ctx.Err()
		switch {
		case err != nil:
		case c.image:
			err = h.imageStep(ctx, c, folder, steps, i)
		default:
			err = h.step(c, steps[i].At)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", doing[c.Type], c.Path, err)
		}
		folders[path.Dir(steps[i].At)] = true
	}
	return h.syncAll(folders)
}

var doing = map[ChangeType]string{
	Copy: "copying to", Symlink: "linking", Unlink: "removing", Write: "writing", Mkdir: "creating",
}

func (h *Host) step(c Change, at string) error {
	temp := temporary(at)
	switch c.Type {
	case Mkdir:
		return h.files.mkdir(at, 0o755)
	case Unlink:
		return h.files.remove(at)
	case Symlink:
		if !c.replace {
			return h.files.symlink(c.Source, at)
		}
		if err := h.files.symlink(c.Source, temp); err != nil {
			return err
		}
		return h.files.rename(temp, at)
	}
	if err := h.files.create(temp, c.Content, 0o644); err != nil {
		return err
	}
	if c.replace {
		return h.files.rename(temp, at)
	}
	if err := h.files.link(temp, at); err != nil {
		return err
	}
	return h.files.remove(temp)
}
