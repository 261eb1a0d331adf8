package image

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// An opener knows one kind of content of an image file.
type opener struct {
	kind   string
	offset int64
	magic  string
	// open returns the files in it; nil where no reader is wired in.
	open func(ctx context.Context, r io.ReaderAt, size int64) (fs.ReadLinkFS, error)
}

// openers lists what is recognised, the outermost first: a partition table may
// have leftovers of a file system beside it.
var openers = []opener{
	{"a GPT partition table", 512, "EFI PART", nil},
	{"a GPT partition table", 4096, "EFI PART", nil},
	{"an encrypted LUKS volume", 0, "LUKS\xba\xbe", nil},
	{"squashfs", 0, "hsqs", nil},
	{"erofs", 1024, "\xe2\xe1\xf5\xe0", nil},
	{"ext4", 1024 + 56, "\x53\xef", nil},
	{"btrfs", 65536 + 64, "_BHRfS_M", nil},
	{"xfs", 0, "XFSB", nil},
}

// probe opens the content of an image file by its signature.
func probe(ctx context.Context, r io.ReaderAt, size int64) (fs.ReadLinkFS, error) {
	i := slices.IndexFunc(openers, func(o opener) bool {
		have := make([]byte, len(o.magic))
		_, err := r.ReadAt(have, o.offset)
		return err == nil && string(have) == o.magic
	})
	if i < 0 {
		return nil, fmt.Errorf("%w: no file system or partition table is recognised", ErrNotImage)
	}
	if openers[i].open == nil {
		return nil, fmt.Errorf("%w: it holds %s, and only directories are read as yet", ErrUnsupported, openers[i].kind)
	}
	return openers[i].open(ctx, r, size)
}
