package portable

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/lockport/lockport/image"
)

// DetachOptions say where something is detached.
type DetachOptions struct {
	Scope  Scope
	Force  bool // whether it runs or not
	DryRun bool // only say what would be done
}

// PlanDetach says what detaching images changes. Images and extensions have to be
// the very ones that were attached, in this order.
func (h *Host) PlanDetach(ctx context.Context, refs []Ref, o DetachOptions) (*Plan, error) {
	var are []func(Marker) bool
	for _, ref := range refs {
		are = append(are, h.matcher(ctx, ref))
	}
	return h.planRemoval(ctx, refs, o.Scope, are, nil)
}

// planRemoval plans the end of what has a marker that one of the functions means,
// and wants that each means one; they belong to the references. What the markers
// in stay name is needed afterwards.
func (h *Host) planRemoval(ctx context.Context, refs []Ref, s Scope, are []func(Marker) bool, stay []Marker) (*Plan, error) {
	list, err := h.Attached(ctx, s)
	if err != nil {
		return nil, err
	}
	r := &removal{host: h, plan: &Plan{Scope: s}, gone: map[string]bool{}}
	var kept []Attachment
	found := make([]bool, len(refs))
	for _, a := range list {
		i := slices.IndexFunc(are, func(is func(Marker) bool) bool { return a.meant(is) })
		if i < 0 {
			kept = append(kept, a)
			continue
		}
		found[i] = true
		if err := r.unit(a); err != nil {
			return nil, err
		}
	}
	if i := slices.Index(found, false); i >= 0 {
		return nil, h.notAttached(ctx, refs[i], s, kept)
	}
	for _, a := range kept {
		stay = append(stay, a.Marker)
	}
	if err := r.links(stay); err != nil {
		return nil, err
	}
	// An empty directory goes, too, but not one that others have to do with.
	r.plan.copies = r.copies
	_, err = r.folder(s.attached())
	return r.plan, err
}

// notAttached is the error, with what may have been meant.
func (h *Host) notAttached(ctx context.Context, ref Ref, s Scope, others []Attachment) error {
	err := fmt.Errorf("%s: %w in %s", ref.Image, ErrNotAttached, s.attached())
	var near []string
	name := image.Unversioned(image.Name(ref.Image))
	for _, o := range scopes {
		list := others
		if o != s {
			list, _ = h.Attached(ctx, o)
		}
		for _, a := range list {
			text := fmt.Sprintf("%s is, in %s", strings.Join(a.Marker, " with "), o.attached())
			if image.Unversioned(image.Name(a.Marker[0])) == name && !slices.Contains(near, text) {
				near = append(near, text)
			}
		}
	}
	if len(near) > 0 {
		return fmt.Errorf("%w; %s", err, strings.Join(near, "; "))
	}
	return err
}

// removal is a plan in the making.
type removal struct {
	host   *Host
	plan   *Plan
	gone   map[string]bool
	copies []imageCopy
}

// remove plans that a path goes if it is there.
func (r *removal) remove(p string) error {
	at, err := r.host.at(p)
	if err != nil {
		return err
	}
	now, err := stateAt(r.host.root, at)
	if err != nil || now.Kind == kindNone {
		return err
	}
	if now.Kind == kindDirectory {
		return fmt.Errorf("%s: is a directory: %w", p, fs.ErrExist)
	}
	r.gone[p] = true
	r.plan.Changes = append(r.plan.Changes, Change{Type: Unlink, Path: p, before: now})
	return nil
}

// folder plans that a directory goes if it will be empty, and tells so.
func (r *removal) folder(p string) (gone bool, err error) {
	entries, err := r.host.readDir(p)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !r.gone[path.Join(p, e.Name())] {
			return false, nil
		}
	}
	if s, err := r.host.lstat(p); s == nil || !s.IsDir() {
		return false, err
	}
	r.gone[p] = true
	r.plan.Changes = append(r.plan.Changes, Change{Type: Unlink, Path: p})
	return true, nil
}

// unit plans the end of one unit. It goes before its drop-ins.
func (r *removal) unit(a Attachment) error {
	r.plan.Units = append(r.plan.Units, a.Unit)
	r.copies = append(r.copies, a.copies...)
	if !slices.ContainsFunc(r.plan.Markers, func(m Marker) bool { return slices.Equal(m, a.Marker) }) {
		r.plan.Markers = append(r.plan.Markers, a.Marker)
	}
	p := path.Join(a.Scope.attached(), a.Unit)
	for _, name := range []string{p, p + ".d/10-profile.conf", p + ".d/20-portable.conf"} {
		if err := r.remove(name); err != nil {
			return err
		}
	}
	gone, err := r.folder(p + ".d")
	if err == nil && !gone {
		r.plan.Kept = append(r.plan.Kept, p+".d")
	}
	return err
}

// links plans the end of the links by which images elsewhere are found, unless
// what stays attached names them, or goes through them. Only links to these images go: whatever else
// has such a name is not ours.
func (r *removal) links(stay []Marker) error {
	for _, m := range r.plan.Markers {
		for _, p := range m {
			link := path.Join(r.plan.Scope.images(), path.Base(p))
			used := slices.ContainsFunc(stay, func(m Marker) bool { return slices.Contains(m, p) || slices.Contains(m, link) })
			if used || r.gone[link] || !path.IsAbs(p) {
				continue
			}
			if slices.ContainsFunc(r.copies, func(c imageCopy) bool { return c.to == p }) {
				if err := r.copy(p); err != nil {
					return err
				}
				continue
			}
			if link == p {
				continue
			}
			at, err := r.host.at(link)
			if err != nil {
				return err
			}
			now, err := stateAt(r.host.root, at)
			if err != nil || now.Kind != kindSymlink || now.Target != p {
				continue // not ours, whatever it is
			}
			if err := r.remove(link); err != nil {
				return err
			}
		}
	}
	return nil
}
