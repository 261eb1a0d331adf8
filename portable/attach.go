package portable

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/lockport/lockport/image"
)

// CopyMode is what is linked and what is copied.
type CopyMode string

// The modes. CopyAuto copies units and links profiles.
const (
	CopyAuto    CopyMode = ""
	CopyAll     CopyMode = "copy"
	CopySymlink CopyMode = "symlink"
	// CopyMixed is CopyAuto, and copies images that are not found by name to where
	// they are. They run from the copy.
	CopyMixed CopyMode = "mixed"
)

// DefaultProfile is the profile where none is named.
const DefaultProfile = "default"

// AttachOptions say how images are attached.
type AttachOptions struct {
	Profile string // "" for the default
	Copy    CopyMode
	Scope   Scope
	Force   bool // replace what is there, whether it runs or not
	DryRun  bool // only say what would be done
	// Policy is what images have to meet again whenever a service starts; nil for
	// none. That they are opened with it now is up to who opens them.
	Policy *image.Policy
}

// PlanAttach says what attaching images changes. It writes nothing, and does not
// know whether units run.
func (h *Host) PlanAttach(ctx context.Context, refs []Ref, o AttachOptions) (*Plan, error) {
	list, err := h.inspectAll(ctx, refs)
	if err != nil {
		return nil, err
	}
	if !o.Force {
		if err := h.checkFree(list); err != nil {
			return nil, err
		}
	}
	return h.planUnits(ctx, list, refs, o, newOverlay(h))
}

// inspectAll reads what is to be attached at once, and wants that it can be.
func (h *Host) inspectAll(ctx context.Context, refs []Ref) ([]*Metadata, error) {
	var list []*Metadata
	from := map[string]string{}
	for _, ref := range refs {
		m, err := h.Inspect(ctx, ref)
		if err == nil {
			err = m.checkAttach()
		}
		if err != nil {
			return nil, err
		}
		for _, u := range m.Units {
			if other, ok := from[u.Name]; ok {
				return nil, fmt.Errorf("%s: %s and %s both bring it: %w", u.Name, other, m.Image.Path, ErrUnitExists)
			}
			from[u.Name] = m.Image.Path
		}
		list = append(list, m)
	}
	return list, nil
}

// checkFree wants the host to have none of these units.
func (h *Host) checkFree(list []*Metadata) error {
	for _, folder := range unitFolders {
		entries, err := h.readDir("/" + folder)
		if err != nil {
			return err
		}
		have := map[string]bool{}
		for _, e := range entries {
			have[e.Name()] = true
		}
		for _, m := range list {
			for _, u := range m.Units {
				if have[u.Name] {
					return fmt.Errorf("/%s/%s: %w", folder, u.Name, ErrUnitExists)
				}
			}
		}
	}
	return nil
}

// planUnits lists the changes of an attachment to a host as the overlay has it.
func (h *Host) planUnits(ctx context.Context, list []*Metadata, refs []Ref, o AttachOptions, now *overlay) (*Plan, error) {
	if o.Profile == "" {
		o.Profile = DefaultProfile
	}
	prof, err := h.findProfile(o.Profile)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Scope: o.Scope}
	for i, m := range list {
		plan.images = append(plan.images, m.marker()...) // before they become copies
		a := &attachment{h, m, o, prof, now, plan, refs[i].Relaxed, map[string]sandbox{}}
		if err := a.plans(ctx); err != nil {
			return nil, err
		}
		plan.Markers = append(plan.Markers, m.marker())
		plan.Prefixes = append(plan.Prefixes, m.Prefixes...)
	}
	slices.Sort(plan.Units)
	return plan, nil
}

// plans adds one image, with its extensions.
func (a *attachment) plans(ctx context.Context) error {
	if a.options.Copy == CopyMixed {
		for i := range a.meta.Extensions {
			if err := a.copyIn(&a.meta.Extensions[i].Image); err != nil {
				return err
			}
		}
		if err := a.copyIn(&a.meta.Image); err != nil {
			return err
		}
	}
	for _, u := range a.meta.Units {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.unit(u); err != nil {
			return fmt.Errorf("%s: %w", u.Name, err)
		}
		a.plan.Units = append(a.plan.Units, u.Name)
	}
	for _, e := range a.meta.Extensions {
		if err := a.link(e.Image); err != nil {
			return err
		}
	}
	return a.link(a.meta.Image)
}

// attachment is a plan in the making.
type attachment struct {
	host    *Host
	meta    *Metadata
	options AttachOptions
	profile profile
	now     *overlay
	plan    *Plan
	relaxed bool

	sandboxes map[string]sandbox // by types of units, as far as they were looked at
}

func (a *attachment) add(c Change) {
	c.replace = a.options.Force
	a.plan.Changes = append(a.plan.Changes, c)
	a.now.note(c)
}

// mkdir plans a directory and those above that are missing.
func (a *attachment) mkdir(p string) error {
	if p == "/" {
		return nil
	}
	there, err := a.now.exists(p)
	if err != nil || there {
		return err
	}
	if err := a.mkdir(path.Dir(p)); err != nil {
		return err
	}
	a.add(Change{Type: Mkdir, Path: p, mode: 0o755})
	return nil
}

// unit plans one unit, its drop-ins first: at no moment is there a unit without
// them.
func (a *attachment) unit(u Unit) error {
	target := path.Join(a.options.Scope.attached(), u.Name)
	if err := a.mkdir(target + ".d"); err != nil {
		return err
	}
	a.add(Change{Type: Write, Path: target + ".d/20-portable.conf", Content: dropIn(a.meta, u, a.relaxed, a.options.Policy)})
	source, content, err := a.profileDropIn(unitType(u.Name))
	if err != nil {
		return err
	}
	prof := Change{Type: Symlink, Path: target + ".d/10-profile.conf", Source: source}
	if a.options.Copy == CopyAll || source == "" {
		prof.Type, prof.Content = Copy, content
	}
	if content != nil {
		a.add(prof)
	}
	a.add(a.file(u, target))
	return nil
}

// file plans the unit file itself.
func (a *attachment) file(u Unit, target string) Change {
	c := Change{Type: Copy, Path: target, Content: u.Content}
	if info := a.meta.info(u); isTree(info.Type) {
		c.Source = path.Join(info.Path, u.Path)
		if a.options.Copy == CopySymlink {
			c.Type, c.Content = Symlink, nil
		}
	}
	return c
}

// link plans the link by which an image elsewhere is found by name. It is a
// convenience: something else of that name is left alone.
func (a *attachment) link(info image.Info) error {
	if image.InSearchPath(info.Path) {
		return nil
	}
	p := path.Join(a.options.Scope.images(), path.Base(info.Path))
	there, err := a.now.exists(p)
	if err != nil || there {
		return err
	}
	if err := a.mkdir(path.Dir(p)); err != nil {
		return err
	}
	a.add(Change{Type: Symlink, Path: p, Source: info.Path})
	return nil
}

// overlay is the host as it will be after the changes planned so far.
type overlay struct {
	host    *Host
	present map[string]bool
}

func newOverlay(h *Host) *overlay { return &overlay{h, map[string]bool{}} }

func (o *overlay) note(c Change) { o.present[c.Path] = c.Type != Unlink }

func (o *overlay) exists(p string) (bool, error) {
	if there, known := o.present[p]; known {
		return there, nil
	}
	s, err := o.host.lstat(p)
	if s != nil && s.Mode().Type() == fs.ModeSymlink {
		return true, err
	}
	return s != nil, err
}

// sandbox is the drop-in of a profile for a type of unit.
type sandbox struct {
	source  string
	content []byte
}

// profileDropIn is that of the host, read once for each type.
func (a *attachment) profileDropIn(unitType string) (source string, content []byte, err error) {
	s, ok := a.sandboxes[unitType]
	if !ok {
		s.source, s.content, err = a.host.profileDropIn(a.profile, unitType)
		if err != nil {
			return "", nil, err
		}
		a.sandboxes[unitType] = s
	}
	return s.source, s.content, nil
}
