package portable

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
)

const errNotDirectory = syscall.ENOTDIR

// files is how a tree is changed: one function for each thing that can fail. All
// paths are below the root, and their directories without links.
type files struct {
	mkdir   func(name string, mode fs.FileMode) error
	write   func(name string, data []byte, mode fs.FileMode) error // new
	create  func(name string, data []byte, mode fs.FileMode) error // new, and on disk
	symlink func(target, name string) error
	rename  func(from, to string) error // replaces
	link    func(from, to string) error // does not
	chown   func(name string, uid, gid int) error
	remove  func(name string) error
	sync    func(names ...string) error // files or directories, in this order
	syncAll func(folder string) error   // all of its file system

	// copyImage copies a file or a tree to a new one, onto the disk.
	copyImage func(ctx context.Context, from, to string) error
	removeAll func(name string) error // also if there is nothing
}

// flush is how what is written comes to the disk: a file or directory, and all
// below a directory. A file's start does not wait.
type flush struct {
	start    func(*os.File)
	one, all func(*os.File) error
}

func filesBelow(root *dirs, f flush) files {
	return files{
		mkdir: func(name string, mode fs.FileMode) error {
			if err := root.Mkdir(name, mode); err != nil {
				return err
			}
			return root.Chmod(name, mode) // whatever the umask
		},
		write: func(name string, data []byte, mode fs.FileMode) error {
			return create(root, func(*os.File) error { return nil }, name, data, mode)
		},
		create:  func(name string, data []byte, mode fs.FileMode) error { return create(root, f.one, name, data, mode) },
		symlink: root.Symlink,
		rename:  root.Rename,
		link:    root.Link,
		chown:   root.Lchown,
		remove:  root.Remove,
		sync:    func(names ...string) error { return syncTogether(root, f, names) },
		syncAll: func(folder string) error { return syncAt(root, f.all, folder) },

		copyImage: func(ctx context.Context, from, to string) error { return copyImage(ctx, root, f, from, to) },
		removeAll: root.RemoveAll,
	}
}

func create(root *dirs, sync func(*os.File) error, name string, data []byte, mode fs.FileMode) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = sync(f)
	}
	return errors.Join(err, f.Close())
}

func syncAt(root *dirs, sync func(*os.File) error, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(sync(f), f.Close())
}

// syncTogether brings several things to the disk. Where all are on their way before
// the first is waited for, most file systems write down once what they are about.
func syncTogether(root *dirs, f flush, names []string) error {
	var open []*os.File
	var err error
	for _, name := range names {
		var o *os.File
		if o, err = root.Open(name); err != nil {
			break
		}
		open = append(open, o)
		if len(names) > 1 {
			f.start(o)
		}
	}
	for _, o := range open {
		if err == nil {
			err = f.one(o)
		}
		err = errors.Join(err, o.Close())
	}
	return err
}

// temporary is the name under which something is made before it takes its place.
// It is one that the service manager passes over.
func temporary(name string) string {
	return path.Join(path.Dir(name), ".#"+path.Base(name)+".lockport")
}

// discarded is where an image goes that is taken away, until it is certain that
// it need not come back.
func discarded(name string) string { return temporary(name) + "-old" }
