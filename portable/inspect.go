package portable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/lockport/lockport/image"
)

// Ref says which images are meant, and which of their units.
type Ref struct {
	Image      string   // a name, or an absolute path beneath the root
	Extensions []string // the same, the lowest first
	Prefixes   []string // of units; none for what the name of the image says
	Relaxed    bool     // an extension-release may be called differently than its image
}

// Metadata is what images say of themselves.
type Metadata struct {
	Image       image.Info
	Release     Release
	ReleaseText []byte
	Extensions  []Extension
	Units       []Unit // sorted by name
	Prefixes    []string
	copies      []imageCopy // that the images are, once they are attached
}

// Extension is an image on top of the root image.
type Extension struct {
	Image       image.Info
	Release     Release
	ReleaseText []byte
}

// marker is what the images are remembered by.
func (m *Metadata) marker() Marker {
	list := Marker{m.Image.Path}
	for _, e := range m.Extensions {
		list = append(list, e.Image.Path)
	}
	return list
}

// info is that of the image that a unit came from.
func (m *Metadata) info(u Unit) image.Info {
	if u.image == 0 {
		return m.Image
	}
	return m.Extensions[u.image-1].Image
}

// Inspect reads what the images hold.
func (h *Host) Inspect(ctx context.Context, ref Ref) (*Metadata, error) {
	h.lookAgain()
	prefixes, err := prefixesOf(ref.Image, ref.Prefixes)
	if err != nil {
		return nil, err
	}
	m := &Metadata{Prefixes: prefixes}
	if err := h.readRoot(ctx, m, ref); err != nil {
		return nil, err
	}
	for i, name := range ref.Extensions {
		if err := h.readExtension(ctx, m, name, i+1, ref.Relaxed); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(m.Units, func(a, b Unit) int { return cmp.Compare(a.Name, b.Name) })
	return m, nil
}

func (h *Host) readRoot(ctx context.Context, m *Metadata, ref Ref) error {
	img, err := image.Open(ctx, h.dir, ref.Image, h.images...)
	if err != nil {
		return err
	}
	defer img.Close()
	m.Image = img.Info
	if m.Release, m.ReleaseText, err = rootRelease(img); err != nil {
		return err
	}
	m.Units, err = findUnits(ctx, img, m.Prefixes)
	return err
}

func (h *Host) readExtension(ctx context.Context, m *Metadata, name string, number int, relaxed bool) error {
	img, err := image.Open(ctx, h.dir, name, h.images...)
	if err != nil {
		return fmt.Errorf("extension %w", err)
	}
	defer img.Close()
	e := Extension{Image: img.Info}
	for _, other := range m.Extensions {
		if other.Image.Name == e.Image.Name {
			return fmt.Errorf("extension %s is given twice: %w", e.Image.Name, ErrMismatch)
		}
	}
	if e.Release, e.ReleaseText, err = extensionRelease(img, relaxed); err != nil {
		return fmt.Errorf("extension %w", err)
	}
	units, err := findUnits(ctx, img, m.Prefixes)
	if err != nil {
		return fmt.Errorf("extension %w", err)
	}
	m.Extensions = append(m.Extensions, e)
	for _, u := range units {
		u.image = number
		// On a clash the earlier image wins.
		if !slices.ContainsFunc(m.Units, func(have Unit) bool { return have.Name == u.Name }) {
			m.Units = append(m.Units, u)
		}
	}
	return nil
}

// checkAttach tells why images can't be attached together.
func (m *Metadata) checkAttach() error {
	if m.Release["ID"] == "" {
		return fmt.Errorf("%s: %w: ID is not set in os-release", m.Image.Path, ErrRelease)
	}
	releases := []Release{m.Release}
	for _, e := range m.Extensions {
		if err := m.Release.matches(e.Release, architectures[runtime.GOARCH]); err != nil {
			return fmt.Errorf("%s: %w", e.Image.Path, err)
		}
		releases = append(releases, e.Release)
	}
	if len(m.Prefixes) == 0 {
		return fmt.Errorf("%s: %w: all units at once can't be attached", m.Image.Path, ErrPrefix)
	}
	if err := allowPrefixes(m.Prefixes, releases...); err != nil {
		return fmt.Errorf("%s: %w", m.Image.Path, err)
	}
	if len(m.Units) == 0 {
		return fmt.Errorf("%s: %w for the prefix %q", m.Image.Path, ErrNoUnits, m.Prefixes)
	}
	return errors.Join(checkPaths(m.marker())...)
}

// checkPaths refuses paths that a unit file has no way to write down.
func checkPaths(m Marker) []error {
	var list []error
	for _, p := range m {
		if !image.Printable(p) || p[len(p)-1] == '\\' || p[len(p)-1] == ' ' {
			list = append(list, fmt.Errorf("%q: no unit file can name this path: %w", p, image.ErrNotImage))
		}
	}
	return list
}
