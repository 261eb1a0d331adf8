package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

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
	if raw {
		if err := s.findHash(dir, name, f); err != nil {
			return nil, err
		}
		var err error
		s.tree, err = dir.Open(name + ".verity")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if o.rootHash != nil {
		if s.of == "" {
			s.of = gpt.Root
		}
		s.hash, s.from, s.signature = o.rootHash, SourceGiven, nil
	}
	return s, nil
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
	text, err := ReadFile(directory{dir}, name, maxBeside)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, fmt.Errorf("/%s: is empty: %w", name, io.ErrUnexpectedEOF)
	}
	return text, nil
}
