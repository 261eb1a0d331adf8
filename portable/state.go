package portable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// state is all that is needed to put back what was at a path.
type state struct {
	Kind    string      `json:"kind"` // one of those below
	Mode    fs.FileMode `json:"mode,omitempty"`
	UID     int         `json:"uid,omitempty"`
	GID     int         `json:"gid,omitempty"`
	Target  string      `json:"target,omitempty"`
	Content []byte      `json:"content,omitempty"`
	Inode   uint64      `json:"inode,omitempty"` // of an image
}

const (
	kindNone      = "none"
	kindFile      = "file"
	kindSymlink   = "symlink"
	kindDirectory = "directory"
	kindImage     = "image" // a file or directory that is moved as a whole
)

// same compares what a path is and holds, not whose it is.
func (s *state) same(other *state) bool {
	return s.Kind == other.Kind && s.Target == other.Target && s.Inode == other.Inode && bytes.Equal(s.Content, other.Content)
}

// begins tells whether a file may become another: its end is missing, or was not on
// the disk when the power failed.
func (s *state) begins(other *state) bool {
	return s.Kind == kindFile && other.Kind == kindFile && len(s.Content) <= len(other.Content) &&
		bytes.HasPrefix(other.Content, bytes.TrimRight(s.Content, "\x00"))
}

// after is the state that a change leads to.
func (c Change) after() *state {
	switch c.Type {
	case Copy:
		if c.image {
			return &state{Kind: kindImage} // its inode is known once it is copied
		}
		return &state{Kind: kindFile, Mode: 0o644, Content: c.Content}
	case Mkdir:
		return &state{Kind: kindDirectory, Mode: 0o755}
	case Symlink:
		return &state{Kind: kindSymlink, Target: c.Source}
	case Write:
		return &state{Kind: kindFile, Mode: 0o644, Content: c.Content}
	}
	return &state{Kind: kindNone}
}

// maxReplaced bounds what is kept in memory and in the journal of one file.
const maxReplaced = 16 << 20

// stateAt looks at a path below the root.
func stateAt(root *dirs, at string) (*state, error) {
	info, err := root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDirectory) {
		return &state{Kind: kindNone}, nil
	}
	if err != nil {
		return nil, err
	}
	s := &state{Mode: info.Mode().Perm()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.UID, s.GID = int(st.Uid), int(st.Gid)
	}
	switch info.Mode().Type() {
	case 0:
		s.Kind = kindFile
		s.Content, err = content(root, at)
	case fs.ModeSymlink:
		s.Kind = kindSymlink
		s.Target, err = root.Readlink(at)
	case fs.ModeDir:
		s.Kind = kindDirectory
	default:
		err = fmt.Errorf("/%s: neither file, link nor directory", at)
	}
	return s, err
}

func content(root *dirs, at string) ([]byte, error) {
	f, err := root.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxReplaced+1))
	if err == nil && len(data) > maxReplaced {
		err = fmt.Errorf("/%s: more than %d bytes are in the way", at, maxReplaced)
	}
	return data, err
}

// restore brings a path from the state that a change made to the one before.
func (h *Host) restore(at string, now, want *state) error {
	if now.Kind == kindDirectory || want.Kind == kindNone {
		err := h.files.remove(at)
		if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
			return nil // someone has put a file there since, which is to stay
		}
		if err != nil || want.Kind == kindNone {
			return err
		}
	}
	if want.Kind == kindDirectory {
		if err := h.files.mkdir(at, want.Mode); err != nil {
			return err
		}
		return h.own(at, want)
	}
	temp := temporary(at)
	var err error
	if want.Kind == kindSymlink {
		err = h.files.symlink(want.Target, temp)
	} else {
		err = h.files.create(temp, want.Content, want.Mode)
	}
	if err == nil {
		err = h.own(temp, want)
	}
	if err == nil {
		err = h.files.rename(temp, at)
	}
	return err
}

// own gives a path back to its owner, where that is not us anyway.
func (h *Host) own(at string, want *state) error {
	have, err := stateAt(h.root, at)
	if err != nil || have.UID == want.UID && have.GID == want.GID {
		return err
	}
	return h.files.chown(at, want.UID, want.GID)
}
