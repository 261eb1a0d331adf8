package image

import (
	"crypto/x509"
	"fmt"
	"io"

	"github.com/lockport/lockport/internal/gpt"
)

// Protection is what keeps a partition from being changed or read unnoticed, in
// the words of image policies.
type Protection string

// The protections of a partition. Verity means that there is a hash tree, Signed
// that its root hash is signed, too, by whomever: see [Verity.Signer].
const (
	Unprotected Protection = "unprotected"
	WithVerity  Protection = "verity"
	Signed      Protection = "signed"
	Encrypted   Protection = "encrypted"
)

// Layout is how an image file is built up.
type Layout struct {
	Table  string  // GPT, MBR, or "" for a file system without a partition table
	Parts  []Part  // root, usr and so on, as far as there are such, in the order of their names
	Verity *Verity // nil when there is no hash tree
	unused []string
}

// Part is a part of an image file that has a use, such as a partition.
type Part struct {
	Designator   string // root, usr and so on: the words of image policies and of UAPI.2
	Number       int    // of the partition, from 1; 0 without a partition table
	Label        string
	UUID         string
	Architecture string // of its type, in systemd's words; "" where that says none
	Offset, Size int64  // in bytes
	FileSystem   string // "" where it holds none that is known here
	Protection   Protection
	Writable     bool // nothing in the image itself forbids to write to it
	Grow         bool // asks to be grown to the partition's size

	attributes gpt.Attributes
	data       io.ReaderAt // verified where there is a hash tree
}

// SourceGiven is the source of a root hash of [WithRootHash].
const SourceGiven = "the caller"

// Verity is what is known of the hash tree of an image.
type Verity struct {
	Of       string // root or usr
	RootHash []byte
	Source   string            // where the root hash is from
	Signer   *x509.Certificate // that of [WithCertificates] which signed the root hash; nil for none
	Unsigned error             // why there is no Signer: [ErrUnsigned] when there is no signature at all
	check    verifier
}

// part returns the part with a designator.
func (l *Layout) part(designator string) *Part {
	for i := range l.Parts {
		if l.Parts[i].Designator == designator {
			return &l.Parts[i]
		}
	}
	return nil
}

// damaged says in which part of an image something is wrong.
func (p Part) damaged(err error) error {
	if p.Number == 0 {
		return err
	}
	return fmt.Errorf("partition %d (%s): %w", p.Number, p.Designator, err)
}
