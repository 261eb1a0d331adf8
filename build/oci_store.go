package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// ociStore has the parts of an image under their names in a layout.
type ociStore interface {
	// open opens a regular file. It is an [fs.ErrNotExist] if there is none.
	open(name string) (*ociBlob, error)
	io.Closer
}

func (i *ociImporter) openStore(file string) (ociStore, error) {
	if s, err := os.Stat(file); err == nil && s.IsDir() {
		root, err := os.OpenRoot(file)
		if err != nil {
			return nil, err
		}
		return ociFolder{root}, nil
	}
	// What is no regular file could make us wait for a writer.
	b, err := regular(os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0))
	if err != nil {
		return nil, err
	}
	a, err := i.openArchive(b)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return a, nil
}

func regular(f *os.File, err error) (*ociBlob, error) {
	if err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err == nil && !s.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", f.Name())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &ociBlob{io.NewSectionReader(f, 0, s.Size()), f}, nil
}

// ociFolder is a layout in a folder. Links don't lead out of it.
type ociFolder struct{ *os.Root }

func (f ociFolder) open(name string) (*ociBlob, error) {
	return regular(f.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0))
}

// ociArchive is a layout in an archive, of which we know where its files are.
type ociArchive struct {
	blob    *ociBlob
	members map[string]ociMember
}

type ociMember struct {
	offset, size int64
	link         string // to another member
}

func (a *ociArchive) Close() error { return a.blob.Close() }

// openArchive finds the files in an archive, and unpacks it before if needed. It
// closes the blob only if it returns another one.
func (i *ociImporter) openArchive(b *ociBlob) (*ociArchive, error) {
	unpack, err := unpacker(b)
	if err != nil {
		return nil, err
	}
	if unpack == nil {
		members, err := i.members(b.SectionReader)
		return &ociArchive{b, members}, err
	}
	s, err := i.spool(b, io.Discard)
	if err != nil {
		return nil, err
	}
	plain := &ociBlob{io.NewSectionReader(s.file, 0, s.size), s.file}
	members, err := i.members(plain.SectionReader)
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return &ociArchive{plain, members}, b.Close()
}

func (i *ociImporter) members(section *io.SectionReader) (map[string]ociMember, error) {
	r, list := tar.NewReader(section), map[string]ociMember{}
	for count := 0; ; count++ {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return nil, fmt.Errorf("reading the archive: %w", err)
		case count >= i.limits.members:
			return nil, refuse("more than %d files in the archive of an image", i.limits.members)
		case i.ctx.Err() != nil:
			return nil, i.ctx.Err()
		}
		// The reader reads no further than it has to.
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if name := memberName(h.Name); len(name) <= maxMember {
			list[name] = ociMember{offset, h.Size, ""}
			switch {
			case h.Typeflag == tar.TypeLink:
				list[name] = ociMember{link: memberName(h.Linkname)}
			case h.Typeflag == tar.TypeSymlink:
				list[name] = ociMember{link: memberName(path.Join(path.Dir(name), h.Linkname))}
			case h.Typeflag != tar.TypeReg || isSparse(h):
				delete(list, name)
			}
		}
	}
}

// maxMember is longer than the names of an image's parts are, in bytes.
const maxMember = 512

func memberName(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// open opens a member. Older archives have links in place of equal layers.
func (a *ociArchive) open(name string) (*ociBlob, error) {
	for range 8 {
		m, ok := a.members[memberName(name)]
		switch {
		case !ok:
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		case m.link == "":
			return &ociBlob{io.NewSectionReader(a.blob, m.offset, m.size), io.NopCloser(nil)}, nil
		}
		name = m.link
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
}

// isSparse tells if the content of a file isn't simply behind its header.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}
