package portable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/lockport/lockport/image"
)

// Bounds on what is far more than anyone has: the bytes of a unit file, and the
// number of those of an image and their bytes together.
const (
	maxUnit       = 1 << 20
	mostUnits     = 1 << 14
	mostUnitBytes = 64 << 20
)

// ErrUnit: a unit file in an image is not what one looks like.
var ErrUnit = errors.New("no valid unit file")

// unitFolders are where units are looked for, the first file of a name counts.
// They are the same in an image and on a host.
var unitFolders = []string{
	"etc/systemd/system.control", "run/systemd/system.control", "run/systemd/transient", "run/systemd/generator.early",
	"etc/systemd/system", "etc/systemd/system.attached", "run/systemd/system", "run/systemd/system.attached",
	"run/systemd/generator", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system",
	"run/systemd/generator.late",
}

// Unit is a unit file of an image.
type Unit struct {
	Name    string
	Path    string // in the image, absolute and without links
	Content []byte
	image   int // 0 is the root image, 1 the first extension
}

// findUnits returns the matching units of an image, sorted by name.
func findUnits(ctx context.Context, img *image.Image, prefixes []string) ([]Unit, error) {
	var list []Unit
	have, bytes := map[string]bool{}, 0
	for _, folder := range unitFolders {
		entries, err := fs.ReadDir(img, folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: reading /%s: %w", img.Path, folder, err)
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if have[e.Name()] || unitType(e.Name()) == "" || !matchUnit(e.Name(), prefixes) {
				continue
			}
			u, err := readUnit(img, path.Join(folder, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", img.Path, err)
			}
			if u != nil {
				have[u.Name] = true
				list = append(list, *u)
				bytes += len(u.Content)
			}
			if len(list) > mostUnits || bytes > mostUnitBytes {
				return nil, fmt.Errorf("%s: %w: more than %d units, or than %d bytes of them", img.Path, ErrUnit, mostUnits, mostUnitBytes)
			}
		}
	}
	slices.SortFunc(list, func(a, b Unit) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// readUnit reads a unit file. It returns nil for what is there to mask a unit:
// an empty file, a link to nowhere or to a device.
func readUnit(img *image.Image, name string) (*Unit, error) {
	at, err := img.Resolve(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := image.ReadFile(img, at, maxUnit)
	switch {
	case errors.Is(err, image.ErrNotRegular):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("/%s: %w: %w", name, ErrUnit, err)
	case len(text) == 0:
		return nil, nil
	case !image.Printable(at):
		return nil, fmt.Errorf("/%s: %w: it is a link to a name with control characters", name, ErrUnit)
	case !image.Printable(strings.NewReplacer("\n", " ", "\t", " ", "\r", " ").Replace(string(text))):
		return nil, fmt.Errorf("/%s: %w: control characters or invalid UTF-8", name, ErrUnit)
	}
	return &Unit{Name: path.Base(name), Path: "/" + at, Content: text}, nil
}
