package portable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/lockport/lockport/image"
)

// Attachment is a unit that was attached from an image.
type Attachment struct {
	Unit   string
	Scope  Scope
	Marker Marker
	copies []imageCopy
}

// origin is the marker with the images that copies were made of, nil if there are
// no copies.
func (a Attachment) origin() Marker {
	if len(a.copies) == 0 {
		return nil
	}
	m := slices.Clone(a.Marker)
	for i := range m {
		for _, c := range a.copies {
			if c.to == m[i] {
				m[i] = c.from
			}
		}
	}
	return m
}

// meant tells whether a function means the images, or those that they are copies of.
func (a Attachment) meant(is func(Marker) bool) bool {
	if is(a.Marker) {
		return true
	}
	origin := a.origin()
	return origin != nil && is(origin)
}

// Attached returns the attached units of a scope, sorted by name.
func (h *Host) Attached(ctx context.Context, s Scope) ([]Attachment, error) {
	h.lookAgain()
	entries, err := h.readDir(s.attached())
	if err != nil {
		return nil, err
	}
	var list []Attachment
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// The unit itself may be gone: disabling removes one that is a link.
		unit, ok := strings.CutSuffix(e.Name(), ".d")
		if !ok || unitType(unit) == "" {
			continue
		}
		text, err := h.readFile(path.Join(s.attached(), e.Name(), "20-portable.conf"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading what is attached: %w", err)
		}
		if m, ok := ParseMarker(text); ok {
			list = append(list, Attachment{unit, s, m, parseCopies(text)})
		}
	}
	return list, nil
}

// An identity tells whether the path in a marker is that of one image. Names of
// other versions are other images.
type identity struct {
	host  *Host
	name  string // of an image that is not found
	paths []string
}

func (h *Host) identify(ctx context.Context, ref string) identity {
	id := identity{host: h}
	info, err := image.Find(ctx, h.dir, ref)
	switch {
	case err == nil:
		id.paths = append(id.paths, info.Path)
	case image.ValidName(ref):
		id.name = ref
		return id
	default:
		id.paths = append(id.paths, path.Clean(ref))
	}
	if at, err := h.tree.ResolveMissing(id.paths[0]); err == nil {
		id.paths = append(id.paths, "/"+at)
	}
	return id
}

func (id identity) is(p string) bool {
	if id.name != "" {
		return image.Name(p) == id.name || path.Base(p) == id.name
	}
	if slices.Contains(id.paths, p) {
		return true
	}
	at, err := id.host.tree.ResolveMissing(p)
	return err == nil && slices.Contains(id.paths, "/"+at)
}

// matcher tells whether a marker names exactly the images of a reference.
func (h *Host) matcher(ctx context.Context, ref Ref) func(Marker) bool {
	var ids []identity
	for _, name := range append([]string{ref.Image}, ref.Extensions...) {
		ids = append(ids, h.identify(ctx, name))
	}
	return func(m Marker) bool {
		if len(m) != len(ids) {
			return false
		}
		for i := range m {
			if !ids[i].is(m[i]) {
				return false
			}
		}
		return true
	}
}

// using tells whether a marker names the image, as root image or as an extension,
// or with extensions, exactly these together.
func (h *Host) using(ctx context.Context, ref Ref) func(Marker) bool {
	if len(ref.Extensions) > 0 {
		return h.matcher(ctx, ref)
	}
	id := h.identify(ctx, ref.Image)
	return func(m Marker) bool { return slices.ContainsFunc(m, id.is) }
}
