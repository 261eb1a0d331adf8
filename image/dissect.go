package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"

	"github.com/lockport/lockport/internal/gpt"
)

// dissection takes an image file apart. The rules are those of systemd's
// dissect-image.c, as systemd-dissect and the service manager have them: UAPI.2
// and UAPI.3.
type dissection struct {
	options
	file   *os.File
	size   int64
	layout *Layout
	side   *sidecar
	undo   []func() error
}

// dissect finds out what is in an image file, without looking into file systems.
// On success the dissection owns the sidecar's and the image's files.
func dissect(f *os.File, side *sidecar, o options) (*dissection, error) {
	size, err := sizeOf(f)
	if err != nil {
		return nil, err
	}
	d := &dissection{options: o, file: f, size: size, layout: &Layout{}, side: side}
	if err := d.parts(); err != nil {
		return nil, err
	}
	slices.SortFunc(d.layout.Parts, func(a, b Part) int { return cmp.Compare(a.Designator, b.Designator) })
	if err := d.protect(); err != nil {
		return nil, err
	}
	if err := d.classify(); err != nil {
		return nil, err
	}
	return d, d.policy.check(d.layout)
}

// sizeOf is that of a regular file or of a block device, in bytes.
func sizeOf(f *os.File) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("finding its size: %w", err)
	}
	return size, nil
}

// parts lists the parts of an image: its partitions, or all of it.
func (d *dissection) parts() error {
	whole, err := probe(d.file)
	if err != nil {
		return err
	}
	table, err := gpt.Read(d.file, d.size)
	switch {
	case whole != nil && (errors.Is(err, gpt.ErrNoTable) || err == nil && table.Scheme == gpt.MBR):
		// The first bytes of a file system may look like an MBR.
		d.layout.Parts = []Part{{Designator: string(gpt.Root), Size: d.size, Writable: true, data: d.file}}
		return nil
	case whole != nil:
		return fmt.Errorf("%w: it could be %s as well as a GPT", ErrNotImage, whole.name)
	case errors.Is(err, gpt.ErrNoTable):
		return fmt.Errorf("%w: no file system or partition table is recognised", ErrNotImage)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotImage, err)
	case d.side.tree != nil:
		return fmt.Errorf("%w: a .verity file beside an image that has partitions", ErrNotImage)
	}
	return d.partitions(table)
}

func (d *dissection) partitions(table *gpt.Table) error {
	choice, err := table.Choose(gpt.Wanted{
		Architecture: gpt.Architecture(runtime.GOARCH),
		Verity:       &gpt.Verity{Of: d.side.of, Hash: d.side.hash},
		Unused:       d.policy.unused,
	})
	switch {
	case err != nil && d.side.hash != nil:
		return fmt.Errorf("%w: %w that has the root hash from %s", ErrNotImage, err, d.side.from)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotImage, err)
	}
	d.layout.Table = table.Scheme.String()
	for designator, c := range choice.Partitions {
		d.layout.Parts = append(d.layout.Parts, Part{
			Designator: string(designator), Number: c.Number, Label: c.Label, UUID: c.UUID.String(), Architecture: c.Architecture,
			Offset: c.Offset, Size: c.Size, Writable: c.Writable, Grow: c.Grow, attributes: c.Attributes, data: c.Section(d.file),
		})
	}
	for designator := range choice.Unused {
		d.layout.unused = append(d.layout.unused, string(designator))
	}
	return nil
}

// classify finds out what each part holds and what protects it.
func (d *dissection) classify() error {
	for i := range d.layout.Parts {
		p := &d.layout.Parts[i]
		f, err := probe(p.data)
		if err != nil {
			return p.damaged(err)
		}
		p.Protection = Unprotected
		if f != nil {
			p.FileSystem = f.name
			p.Writable = p.Writable && !f.fixed
		}
		v := d.layout.Verity
		switch {
		case v != nil && v.Of == p.Designator && !errors.Is(v.Unsigned, ErrUnsigned):
			p.Protection, p.Writable, p.Grow = Signed, false, false
		case v != nil && v.Of == p.Designator:
			p.Protection, p.Writable, p.Grow = WithVerity, false, false
		case p.FileSystem == luks:
			p.Protection = Encrypted
		}
	}
	return nil
}

// mountPoints says where the parts of an image are in the tree of files. What is
// left out has no service's files in it.
var mountPoints = map[gpt.Designator]string{gpt.Root: ".", gpt.Usr: "usr", gpt.Home: "home", gpt.Srv: "srv", gpt.Var: "var", gpt.Tmp: "var/tmp"}

// tree opens the file systems of an image.
func (d *dissection) tree(ctx context.Context) (*Tree, error) {
	var m mounts
	for i := range d.layout.Parts {
		p := &d.layout.Parts[i]
		at, known := mountPoints[gpt.Designator(p.Designator)]
		if !known {
			continue
		}
		files, err := d.files(ctx, p)
		if err != nil {
			return nil, errors.Join(p.damaged(err), d.close())
		}
		m = append(m, mountPoint{at, files})
	}
	if d.layout.part(string(gpt.Root)) == nil {
		m = append(m, mountPoint{".", bareRoot{}})
	}
	if len(m) == 1 {
		return &Tree{m[0].files, d.close}, nil
	}
	return &Tree{m.sorted(), d.close}, nil
}

// close gives back all that the dissection has opened.
func (d *dissection) close() error {
	var list []error
	for _, undo := range slices.Backward(d.undo) {
		list = append(list, undo())
	}
	return errors.Join(append(list, d.side.close(), d.file.Close())...)
}

var _ fs.ReadLinkFS = mounts(nil)
