package image

import (
	"io/fs"
	"os"

	"github.com/lockport/lockport/internal/squashfs"
)

// Attribute returns an extended attribute of a file, or false if the file has no
// such, or its file system knows none.
func (t *Tree) Attribute(name, attribute string) (value []byte, ok bool, err error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if onDisk, is := f.(*os.File); is {
		value = xattr(onDisk, attribute)
		return value, value != nil, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	// What the readers of images tell.
	known, is := info.Sys().(interface {
		Xattrs() ([]squashfs.Attr, error)
	})
	if !is {
		return nil, false, nil
	}
	list, err := known.Xattrs()
	if err != nil {
		return nil, false, &fs.PathError{Op: "reading attributes of", Path: name, Err: err}
	}
	for _, a := range list {
		if a.Name == attribute {
			return a.Value, true, nil
		}
	}
	return nil, false, nil
}
