package portable

import (
	"context"
	"path"
	"slices"

	"github.com/lockport/lockport/image"
)

// PlanReattach says what it changes to attach images in the place of what is
// attached of them, of whatever version. At no moment is a unit missing that is
// in both.
func (h *Host) PlanReattach(ctx context.Context, refs []Ref, o AttachOptions) (*Plan, error) {
	list, err := h.inspectAll(ctx, refs)
	if err != nil {
		return nil, err
	}
	var are []func(Marker) bool
	var stay []Marker
	for _, m := range list {
		are = append(are, m.marker().sameButVersion)
		stay = append(stay, needed(m.marker(), o.Copy))
	}
	old, err := h.planRemoval(ctx, refs, o.Scope, are, stay)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		for _, c := range old.copies { // which it goes on to run from
			if slices.Contains(m.marker(), c.to) {
				m.copies = append(m.copies, c)
			}
		}
	}
	now := newOverlay(h)
	for _, c := range old.Changes {
		if c.before != nil { // directories stay until it is clear that they are not needed
			now.note(c)
		}
	}
	plan, err := h.planUnits(ctx, list, refs, o, now)
	if err != nil {
		return nil, err
	}
	merge(plan, old)
	return plan, nil
}

// needed are the images of a marker that have to stay where they are. What is
// copied instead takes the place of the link.
func needed(m Marker, mode CopyMode) Marker {
	if mode != CopyMixed {
		return m
	}
	return slices.DeleteFunc(slices.Clone(m), func(p string) bool { return !image.InSearchPath(p) })
}

// merge adds to an attachment the removals that it does not make good, and
// allows it to replace what those would have removed.
func merge(plan, old *Plan) {
	removed := map[string]Change{}
	for _, c := range old.Changes {
		removed[c.Path] = c
	}
	needed := map[string]bool{}
	for i, c := range plan.Changes {
		if was, ok := removed[c.Path]; ok {
			plan.Changes[i].replace, plan.Changes[i].before = true, was.before
			plan.Changes[i].image = c.image || was.image
		}
		for p := c.Path; p != "/"; p = path.Dir(p) {
			needed[p] = true
		}
	}
	plan.Removed = slices.DeleteFunc(slices.Clone(old.Changes), func(c Change) bool { return needed[c.Path] })
	plan.Changes = append(plan.Changes, plan.Removed...)
	plan.Kept = slices.DeleteFunc(slices.Clone(old.Kept), func(p string) bool { return needed[p] })
}
