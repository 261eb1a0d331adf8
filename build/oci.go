package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
)

// ImportOCI adds the files of a container image to a tree, as a container made
// from it would see them. What is in the tree already stays where the image has
// nothing of that name. The path is that of an image layout of the OCI, a folder
// or an archive of one, or that of an archive that docker save made. Where there
// are several images, :NAME behind the path says which.
//
// The architecture, in Go's words, chooses among the images for several. All
// digests are verified. What leads out of the image, or asks for more than an
// image needs, is an [ErrUnsafe]; what leaves open which image is meant is an
// [ErrSpec]. After an error the tree is not to be used.
//
// The content of files is in the spool, an existing folder, which has to be
// there as long as the tree is used. The caller removes it, also after an error.
//
// Sources: OCI image-spec 1.1, image-layout.md, image-index.md, manifest.md and
// layer.md; Docker Image Specification 1.2, "Combined Image JSON + Filesystem
// Changeset Format".
func (t *Tree) ImportOCI(ctx context.Context, path, spool, architecture string) error {
	return t.importOCI(ctx, path, spool, architecture, defaultOCILimits(), nil)
}

func (t *Tree) importOCI(ctx context.Context, path, spool, architecture string, l ociLimits, progress func(done, total int64)) error {
	if spool == "" { // which would mean another folder further down
		return fmt.Errorf("%w: no folder for temporary files", ErrSpec)
	}
	file, name := splitOCI(path)
	i := &ociImporter{ctx: ctx, folder: spool, limits: l, left: l.bytes, tree: New(), progress: progress}
	err := i.image(file, ociChoice{name, architecture})
	if err == nil {
		err = i.tree.checkDepth(l.depth)
	}
	if err == nil {
		err = t.adopt(i.tree)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// splitOCI splits PATH[:NAME]. What is there counts: both may have colons.
func splitOCI(text string) (file, name string) {
	for at, char := range text + ":" {
		if char != ':' {
			continue
		}
		if _, err := os.Lstat(text[:at]); err == nil {
			return text[:at], strings.TrimPrefix(text[at:], ":")
		}
	}
	return text, ""
}

// ociLimits are the bounds on what an image may ask for.
type ociLimits struct {
	layers  int   // of an image
	entries int   // of all layers
	nodes   int   // that are ever in the tree
	depth   int   // of directories
	names   int64 // bytes of all names, links and attributes
	bytes   int64 // of all that is unpacked; as much may be in files that are links or have holes
	json    int64 // bytes of a manifest and the like
	visited int   // descriptors on the way to the image
	members int   // files of an archive with an image in it
}

func defaultOCILimits() ociLimits {
	return ociLimits{
		layers: 128, entries: 1 << 20, nodes: 1 << 20, depth: 256, names: 256 << 20,
		bytes: 64 << 30, json: 4 << 20, visited: 4096, members: 64 << 10,
	}
}

// ociImporter puts the layers of an image on top of each other.
type ociImporter struct {
	ctx     context.Context
	folder  string // for temporary files
	limits  ociLimits
	left    int64 // bytes that may still be unpacked
	entries int
	names   int64
	content int64 // bytes in files, as often as they are linked to
	links   uint64
	tree    *Tree
	sparse  *ociSpool // nil as long as no file has holes

	progress    func(done, total int64) // or nil; in bytes of blobs
	done, total int64                   // of those before the present one, and of all
	read        atomic.Int64            // of the present one
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrUnsafe}, args...)...)
}

func (i *ociImporter) image(file string, c ociChoice) error {
	s, err := i.openStore(file)
	if err != nil {
		return err
	}
	image, err := i.choose(s, c)
	if err == nil {
		err = i.layers(s, image)
	}
	if i.sparse != nil {
		err = errors.Join(err, i.sparse.file.Close())
	}
	return errors.Join(err, s.Close())
}

func (i *ociImporter) layers(s ociStore, list []ociLayer) error {
	if len(list) > i.limits.layers {
		return refuse("%d layers, more than %d", len(list), i.limits.layers)
	}
	if err := i.measure(s, list); err != nil {
		return err
	}
	for n, l := range list {
		if err := i.layer(s, l); err != nil {
			return fmt.Errorf("layer %d of %d: %w", n+1, len(list), err)
		}
	}
	return nil
}

// measure adds up how much there is to unpack, if somebody wants to know.
func (i *ociImporter) measure(s ociStore, list []ociLayer) error {
	if i.progress == nil {
		return nil
	}
	for _, l := range list {
		b, err := s.open(l.name)
		if err != nil {
			return err
		}
		i.total += b.Size()
		if err := b.Close(); err != nil {
			return err
		}
	}
	return nil
}

// passed tells how far the layers are unpacked.
func (i *ociImporter) passed() {
	if i.total > 0 {
		i.progress(i.done+i.read.Load(), i.total)
	}
}

// layer unpacks a layer to the spool and applies it from there, so that nothing
// is looked at before its digest is right, and as often as is needed after.
func (i *ociImporter) layer(s ociStore, l ociLayer) error {
	b, err := s.open(l.name)
	if err != nil {
		return err
	}
	spool, err := i.unpack(b, l)
	i.done += b.Size()
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	return errors.Join(i.apply(spool), spool.file.Close())
}

func (i *ociImporter) unpack(b *ociBlob, l ociLayer) (*ociSpool, error) {
	if l.blob != nil {
		if err := i.verify(b, *l.blob); err != nil {
			return nil, err
		}
	}
	sum := l.diff.hash()
	spool, err := i.spool(b, sum)
	if err != nil {
		return nil, err
	}
	if err := l.diff.check(sum); err != nil {
		return nil, errors.Join(fmt.Errorf("unpacked: %w", err), spool.file.Close())
	}
	return spool, nil
}

// spool unpacks a blob to a file of its own, and writes it elsewhere too.
func (i *ociImporter) spool(b *ociBlob, also io.Writer) (*ociSpool, error) {
	i.read.Store(0)
	r, err := decompress(b, &i.read)
	if err != nil {
		return nil, err
	}
	spool, err := newOCISpool(i.folder)
	if err != nil {
		r.Close()
		return nil, err
	}
	spool.size, err = io.Copy(io.MultiWriter(spool.file, also), &ociMeter{i.ctx, r, &i.left, i.limits.bytes, i.passed})
	r.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("unpacking: %w", err), spool.file.Close())
	}
	return spool, nil
}

// checkDepth tells if directories are too deep, which links can make of paths
// that are all short.
func (t *Tree) checkDepth(limit int) error {
	type item struct {
		node  *node
		depth int
	}
	for list := []item{{t.top, 0}}; len(list) > 0; {
		last := list[len(list)-1]
		list = list[:len(list)-1]
		if last.depth > limit {
			return refuse("files more than %d directories deep", limit)
		}
		for _, c := range last.node.children {
			list = append(list, item{c, last.depth + 1})
		}
	}
	return nil
}

// adopt takes over the nodes of a tree that is not used any more.
func (t *Tree) adopt(from *Tree) error {
	if len(t.top.children) == 0 {
		*t = *from
		return nil
	}
	return t.Import("/", source{from})
}
