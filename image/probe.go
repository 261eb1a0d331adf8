package image

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/lockport/lockport/internal/erofs"
	"github.com/lockport/lockport/internal/ext4"
	"github.com/lockport/lockport/internal/squashfs"
	"github.com/lockport/lockport/internal/verity"
)

// A reader opens the files of one kind of file system. What it returns follows
// no links.
type reader func(r io.ReaderAt, size int64) (fs.ReadLinkFS, error)

// format is a kind of content that is known by its first bytes.
type format struct {
	name   string
	offset int64
	magic  string
	open   reader                   // nil where only a kernel can read it
	beyond error                    // of open, for images that only a kernel can read
	fixed  bool                     // never written to by a kernel
	sane   func(r io.ReaderAt) bool // where the signature is short; nil where it does
}

const (
	luks     = "crypto_LUKS"
	hashTree = "DM_verity_hash"
)

// formats has the names of libblkid, which policies and people use.
var formats = []format{
	{name: luks, magic: "LUKS\xba\xbe"},
	{name: hashTree, magic: "verity\x00\x00", fixed: true},
	{name: "squashfs", magic: "hsqs", open: openSquashfs, beyond: squashfs.ErrUnsupported, fixed: true},
	{name: "erofs", offset: 1024, magic: "\xe2\xe1\xf5\xe0", open: openErofs, beyond: erofs.ErrUnsupported, fixed: true},
	{name: "ext4", offset: 1024 + 56, magic: "\x53\xef", open: openExt4, beyond: ext4.ErrUnsupported, sane: saneExt4},
	{name: "btrfs", offset: 65536 + 64, magic: "_BHRfS_M"},
	{name: "xfs", magic: "XFSB"},
	{name: "f2fs", offset: 1024, magic: "\x10\x20\xf5\xf2"},
}

// saneExt4 looks at more of a superblock of ext2, ext3 or ext4, whose signature
// any file may have by chance: the kernel's Documentation/filesystems/ext4.
func saneExt4(r io.ReaderAt) bool {
	b := make([]byte, 0x50)
	if _, err := r.ReadAt(b, 1024); err != nil {
		return false
	}
	field := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	const inodes, blocks, first, blockSize, perGroup, revision = 0x00, 0x04, 0x14, 0x18, 0x20, 0x4c
	return field(inodes) > 0 && field(blocks) > 0 && field(first) <= 1 && field(blockSize) <= 6 && field(perGroup) > 0 && field(revision) <= 1
}

func openSquashfs(r io.ReaderAt, size int64) (fs.ReadLinkFS, error) { return squashfs.Open(r, size) }
func openErofs(r io.ReaderAt, size int64) (fs.ReadLinkFS, error)    { return erofs.Open(r, size) }
func openExt4(r io.ReaderAt, size int64) (fs.ReadLinkFS, error)     { return ext4.Open(r, size) }

// probe tells what is in an area. With several signatures in it, programs differ
// in which of them they believe; so that is refused. It returns nil for nothing
// that is known.
func probe(r io.ReaderAt) (*format, error) {
	var found *format
	for i, f := range formats {
		have := make([]byte, len(f.magic))
		_, err := r.ReadAt(have, f.offset)
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case string(have) != f.magic, f.sane != nil && !f.sane(r):
		case found != nil:
			return nil, fmt.Errorf("%w: it could be %s as well as %s", ErrNotImage, found.name, f.name)
		default:
			found = &formats[i]
		}
	}
	return found, nil
}

// files opens the file system of a part.
func (d *dissection) files(ctx context.Context, p *Part) (fs.ReadLinkFS, error) {
	var f *format
	for i := range formats {
		if formats[i].name == p.FileSystem {
			f = &formats[i]
		}
	}
	switch {
	case f == nil:
		return nil, fmt.Errorf("%w: no file system in it is recognised", ErrNotImage)
	case f.name == luks:
		return nil, ErrEncrypted
	case f.open == nil:
		return d.mount(ctx, p)
	}
	files, err := f.open(p.data, p.Size)
	switch {
	case err == nil:
		return files, nil
	case errors.Is(err, f.beyond) && d.mounter != nil:
		return d.mount(ctx, p)
	case errors.Is(err, f.beyond):
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if corrupt := (*verity.CorruptError)(nil); errors.As(err, &corrupt) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrNotImage, err)
}

// mount leaves a file system to the kernel. As that reads past the hash tree,
// all of it is verified before.
func (d *dissection) mount(ctx context.Context, p *Part) (fs.ReadLinkFS, error) {
	if d.mounter == nil {
		return nil, fmt.Errorf("%w: it holds %s", ErrUnsupported, p.FileSystem)
	}
	if v := d.layout.Verity; v != nil && v.Of == p.Designator {
		if err := v.check.Verify(ctx, 0); err != nil {
			return nil, err
		}
	}
	files, undo, err := d.mounter.Mount(ctx, d.file, p.Offset, p.Size, p.FileSystem)
	if err != nil {
		return nil, fmt.Errorf("%w: mounting %s: %w", ErrUnsupported, p.FileSystem, err)
	}
	d.undo = append(d.undo, undo)
	return files, nil
}
