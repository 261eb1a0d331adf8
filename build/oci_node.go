package build

import (
	"archive/tar"
	"cmp"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lockport/lockport/internal/squashfs"
)

// node makes the node of an entry. Of extended attributes those of users and
// capabilities are taken: others are of the machine that the image was made on.
func (i *ociImporter) node(e *ociEntry) (*node, error) {
	if e.Typeflag == tar.TypeLink {
		return i.hardLink(e)
	}
	n := &node{Node: squashfs.Node{Name: e.name, Mode: permissionsOf(e.Mode), ModTime: timeOf(e.ModTime)}}
	for _, id := range []int{e.Uid, e.Gid} {
		// The last number means none.
		if id < 0 || int64(id) >= math.MaxUint32 {
			return nil, refuse("the owner %d:%d", e.Uid, e.Gid)
		}
	}
	n.UID, n.GID = uint32(e.Uid), uint32(e.Gid)
	var err error
	if n.Attrs, err = attrsOf(e.PAXRecords); err != nil {
		return nil, err
	}
	return n, i.kind(e, n)
}

// kind fills in what depends on the kind of the file.
func (i *ociImporter) kind(e *ociEntry, n *node) error {
	switch e.Typeflag {
	case tar.TypeDir:
		n.Mode |= fs.ModeDir
		n.children = map[string]*node{}
	case tar.TypeReg, tar.TypeGNUSparse:
		return i.file(e, n)
	case tar.TypeSymlink:
		if e.Linkname == "" || len(e.Linkname) > maxPath || strings.Contains(e.Linkname, "\x00") {
			return refuse("a link to %d bytes, or with a zero", len(e.Linkname))
		}
		n.Mode, n.Target = fs.ModeSymlink|0o777, e.Linkname
	case tar.TypeFifo:
		n.Mode |= fs.ModeNamedPipe
	case tar.TypeBlock, tar.TypeChar:
		return device(e, n)
	default:
		return refuse("an entry of kind %q", e.Typeflag)
	}
	return nil
}

// file notes where the content of a file is. What has holes is unpacked further.
func (i *ociImporter) file(e *ociEntry, n *node) (err error) {
	if err := i.take(e.Size); err != nil {
		return err
	}
	spool, offset := e.spool, e.offset
	switch {
	case isSparse(e.Header):
		if i.sparse == nil {
			if i.sparse, err = newOCISpool(i.folder); err != nil {
				return err
			}
		}
		spool = i.sparse
		if offset, err = spool.appendSparse(i.ctx, e.content, e.Size); err != nil {
			return err
		}
	case e.Size > spool.size-offset:
		return refuse("a file of %d bytes is longer than the layer", e.Size)
	}
	n.Size, n.open = e.Size, spool.part(offset, e.Size)
	return nil
}

// device keeps the device files of an image. Where a service runs, they can't be
// opened: images are mounted without. One that hides a file in an overlay would
// do so wherever the image becomes a layer of one.
func device(e *ociEntry, n *node) error {
	// Bounds of what the kernel has, and images.
	if e.Devmajor < 0 || e.Devmajor > 0xfff || e.Devminor < 0 || e.Devminor > 0xfffff {
		return refuse("the device %d:%d", e.Devmajor, e.Devminor)
	}
	n.Mode |= fs.ModeDevice
	if e.Typeflag == tar.TypeChar {
		n.Mode |= fs.ModeCharDevice
		if e.Devmajor == 0 && e.Devminor == 0 {
			return refuse("a device 0:0, which hides files")
		}
	}
	n.Major, n.Minor = uint32(e.Devmajor), uint32(e.Devminor)
	return nil
}

// permissionsOf are the lower twelve bits of a mode. Others are of the kind of
// file, which the archive says elsewhere.
func permissionsOf(mode int64) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, bit := range []struct {
		unix int64
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if mode&bit.unix != 0 {
			m |= bit.mode
		}
	}
	return m
}

// timeOf bounds a time to those that images have.
func timeOf(t time.Time) time.Time {
	if t.IsZero() || t.Unix() < 0 {
		return time.Unix(0, 0)
	}
	if t.Unix() > math.MaxUint32 {
		return time.Unix(math.MaxUint32, 0)
	}
	return t
}

// Attributes in PAX records: star's prefix, which all tools use on Linux.
const (
	attrRecord = "SCHILY.xattr."
	userAttr   = "user."
	capability = "security.capability"
	maxAttr    = 64 << 10 // bytes of a value, of the kernel
)

func attrsOf(records map[string]string) (list []squashfs.Attr, err error) {
	for key, value := range records {
		name, is := strings.CutPrefix(key, attrRecord)
		if !is || name != capability && !strings.HasPrefix(name, userAttr) {
			continue
		}
		if name == userAttr || len(name) > maxName || len(value) > maxAttr {
			return nil, refuse("%d bytes in the attribute %.300q", len(value), name)
		}
		list = append(list, squashfs.Attr{Name: name, Value: []byte(value)})
	}
	slices.SortFunc(list, func(a, b squashfs.Attr) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}
