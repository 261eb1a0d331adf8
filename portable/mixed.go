package portable

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/lockport/lockport/image"
)

// With CopyMixed, images elsewhere are copied into the search path and run from
// there. A copy is made under another name first, and one that goes is put aside
// under another, so that both can be undone without their content.

// companions are what may lie beside an image file and belongs to it.
var companions = []string{".roothash", ".roothash.p7s", ".usrhash", ".usrhash.p7s", ".verity"}

// beside returns the companions of an image file that exist on the host.
func (h *Host) beside(p string) ([]string, error) {
	stem, raw := strings.CutSuffix(p, ".raw")
	if !raw {
		return nil, nil
	}
	var list []string
	for _, suffix := range companions {
		s, err := h.lstat(stem + suffix)
		if err != nil {
			return nil, err
		}
		if s != nil && s.Mode().IsRegular() {
			list = append(list, stem+suffix)
		}
	}
	return list, nil
}

// copyIn plans the copy of an image elsewhere, and lets it be the image.
func (a *attachment) copyIn(info *image.Info) error {
	if image.InSearchPath(info.Path) {
		return nil
	}
	folder := a.options.Scope.images()
	if err := a.mkdir(folder); err != nil {
		return err
	}
	all, err := a.host.beside(info.Path)
	if err != nil {
		return err
	}
	for _, from := range append([]string{info.Path}, all...) {
		to := path.Join(folder, path.Base(from))
		there, err := a.now.exists(to)
		if err == nil && there {
			err = fmt.Errorf("%s: %w", to, fs.ErrExist)
		}
		if err != nil {
			return err
		}
		a.add(Change{Type: Copy, Path: to, Source: from, image: true})
		a.plan.Changes[len(a.plan.Changes)-1].replace = false // not even by force: it is an image
	}
	to := path.Join(folder, path.Base(info.Path))
	a.meta.copies = append(a.meta.copies, imageCopy{to, info.Path})
	info.Path = to
	return nil
}

// An imageCopy is where an image of the search path was copied from. It stands in
// the drop-ins of its units.
type imageCopy struct{ to, from string }

const (
	copyBegin  = "# '"
	copyMiddle = "' is a copy of '"
	copyEnd    = "', made by lockport."
)

func (c imageCopy) String() string {
	return copyBegin + escapeMarker(c.to) + copyMiddle + escapeMarker(c.from) + copyEnd
}

// parseCopies reads the lines below the marker that are about copies.
func parseCopies(dropIn []byte) []imageCopy {
	_, rest, _ := strings.Cut(string(dropIn), "\n")
	var list []imageCopy
	for {
		line, more, _ := strings.Cut(rest, "\n")
		text, begins := strings.CutPrefix(line, copyBegin)
		text, ends := strings.CutSuffix(text, copyEnd)
		to, from, ok := strings.Cut(text, copyMiddle)
		to, toOK := unescapeMarker(to)
		from, fromOK := unescapeMarker(from)
		if !begins || !ends || !ok || !toOK || !fromOK {
			return list
		}
		list = append(list, imageCopy{to, from})
		rest = more
	}
}

// copies plans the end of a copy that this program made, with its companions.
func (r *removal) copy(p string) error {
	if path.Dir(p) != r.plan.Scope.images() {
		return nil
	}
	all, err := r.host.beside(p)
	if err != nil {
		return err
	}
	for _, p := range append([]string{p}, all...) {
		at, err := r.host.at(p)
		if err != nil {
			return err
		}
		now, err := imageAt(r.host.root, at)
		if err != nil {
			return err
		}
		if now.Kind == kindImage {
			r.gone[p] = true
			r.plan.Changes = append(r.plan.Changes, Change{Type: Unlink, Path: p, before: now, image: true})
		}
	}
	return nil
}

// imageAt looks at an image below the root, or what stands in its place.
func imageAt(root *dirs, at string) (*state, error) {
	info, err := root.Lstat(at)
	if err == nil && (info.IsDir() || info.Mode().IsRegular()) {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			return &state{Kind: kindImage, Inode: st.Ino}, nil
		}
	}
	return stateAt(root, at)
}

// imageStep takes a step that is about a whole image.
func (h *Host) imageStep(ctx context.Context, c Change, folder string, steps []step, i int) error {
	s := steps[i]
	switch c.Type {
	case Copy:
		return h.copyStep(ctx, c, folder, steps, i)
	case Symlink:
		if err := h.files.symlink(c.Source, temporary(s.At)); err != nil {
			return err
		}
	}
	return h.moveImage(s)
}

// copyStep makes a copy under another name, lets the journal know it, so that it is
// told from an image of someone else, and moves it to its place.
func (h *Host) copyStep(ctx context.Context, c Change, folder string, steps []step, i int) error {
	temp := temporary(steps[i].At)
	from, err := h.tree.Resolve(c.Source)
	if err == nil {
		err = h.files.copyImage(ctx, from, temp)
	}
	if err != nil {
		return err
	}
	if steps[i].After, err = imageAt(h.root, temp); err != nil {
		return err
	}
	if _, err := h.replaceJournal(folder, steps, false); err != nil {
		return err
	}
	return h.moveImage(steps[i])
}

// moveImage puts what is there aside, and in its place what has been made, if
// anything.
func (h *Host) moveImage(s step) error {
	if s.Before.Kind != kindNone {
		if err := h.files.rename(s.At, discarded(s.At)); err != nil {
			return err
		}
	}
	if s.After.Kind == kindNone {
		return nil
	}
	return h.files.rename(temporary(s.At), s.At)
}

// undoImage undoes moveImage.
func (h *Host) undoImage(s step) (bool, error) {
	now, err := imageAt(h.root, s.At)
	if err != nil || now.same(s.Before) {
		return false, err
	}
	if now.Kind != kindNone {
		if !now.same(s.After) {
			return false, nil
		}
		if err := h.files.removeAll(s.At); err != nil {
			return false, err
		}
	}
	old, err := imageAt(h.root, discarded(s.At))
	if err != nil || s.Before.Kind == kindNone || !old.same(s.Before) {
		return now.Kind != kindNone, err
	}
	return true, h.files.rename(discarded(s.At), s.At)
}

// discards tells whether a step puts something aside.
func discards(steps []step) bool {
	for _, s := range steps {
		if s.Image && s.Before.Kind != kindNone {
			return true
		}
	}
	return false
}

// discard removes what was put aside.
func (h *Host) discard(steps []step) error {
	for _, s := range steps {
		if s.Image {
			if err := h.files.removeAll(discarded(s.At)); err != nil {
				return fmt.Errorf("removing the old /%s: %w", s.At, err)
			}
		}
	}
	return nil
}
