package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/lockport/lockport/internal/gpt"
	"github.com/lockport/lockport/internal/verity"
)

// sidecar is what lies beside an image file and protects it. It is one level of
// trust: who can change the image can change these, unless a signature says
// otherwise.
type sidecar struct {
	of        gpt.Designator // what the root hash is for
	hash      []byte         // nil for none
	from      string         // where the root hash was found
	signature []byte         // PKCS#7 in DER; nil for none
	tree      *os.File       // the hash tree of an image without partitions; nil for none
}

func (s *sidecar) close() error {
	if s == nil || s.tree == nil {
		return nil
	}
	return s.tree.Close()
}

// besides are the names that count, in their order. The first designator that
// has a root hash is taken: systemd's verity_settings_load.
var besides = []struct {
	of         gpt.Designator
	attribute  string // of the image file
	suffix     string
	signatures string
}{
	{gpt.Root, "user.verity.roothash", ".roothash", ".roothash.p7s"},
	{gpt.Usr, "user.verity.usrhash", ".usrhash", ".usrhash.p7s"},
}

// maxBeside bounds each of the small files beside an image.
const maxBeside = 4 << 20

// findSidecar looks for what belongs to an image file. Only files called *.raw
// have something beside them.
func findSidecar(dir *os.Root, at string, f *os.File, o options) (*sidecar, error) {
	s := &sidecar{}
	name, raw := strings.CutSuffix(at, ".raw")
	var err error
	switch {
	case o.rootHash != nil:
		s.of, s.hash, s.from = gpt.Root, o.rootHash, SourceGiven
	case raw:
		err = s.findHash(dir, name, f)
	}
	if raw && err == nil {
		s.tree, err = openTreeFile(dir, name+".verity")
	}
	return s, err
}

// openTreeFile opens the hash tree beside an image; nil if there is none.
func openTreeFile(dir *os.Root, name string) (*os.File, error) {
	if there, err := isBeside(dir, name); err != nil || !there {
		return nil, err
	}
	return dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// isBeside tells whether there is a file. It is no link: an image that is copied
// has to be as well protected as it was.
func isBeside(dir *os.Root, name string) (bool, error) {
	s, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !s.Mode().IsRegular():
		return false, fmt.Errorf("/%s: %w", name, ErrNotRegular)
	}
	return true, nil
}

func (s *sidecar) findHash(dir *os.Root, name string, f *os.File) error {
	for _, b := range besides {
		text, from, err := hashText(dir, f, b.attribute, name+b.suffix)
		if err != nil {
			return err
		}
		if text == nil {
			continue
		}
		hash, err := verity.ParseRootHash(text)
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		signature, err := readBeside(dir, name+b.signatures)
		if err != nil {
			return err
		}
		*s = sidecar{b.of, hash, from, signature, nil}
		return nil
	}
	return nil
}

// hashText returns the text of a root hash and where it was found; nil for none.
func hashText(dir *os.Root, f *os.File, attribute, name string) (text []byte, from string, err error) {
	if text = xattr(f, attribute); text != nil {
		return text, "its attribute " + attribute, nil
	}
	text, err = readBeside(dir, name)
	return text, "/" + name, err
}

// readBeside reads a small file that may be missing, but not empty.
func readBeside(dir *os.Root, name string) ([]byte, error) {
	there, err := isBeside(dir, name)
	if err != nil || !there {
		return nil, err
	}
	text, err := ReadFile(below{dir}, name, maxBeside)
	switch {
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, fmt.Errorf("/%s: is empty: %w", name, io.ErrUnexpectedEOF)
	}
	return text, nil
}
