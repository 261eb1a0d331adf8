package image

import (
	"context"
	"crypto/x509"
	"io/fs"
	"os"

	"github.com/lockport/lockport/internal/verity"
)

// Option changes how image files are opened.
type Option func(*options)

type options struct {
	policy   *Policy
	mounter  Mounter
	trusted  func() ([]*x509.Certificate, error)
	rootHash []byte
}

func collect(list []Option) options {
	var o options
	for _, f := range list {
		f(&o)
	}
	return o
}

// Mounter gives access to a file system in a part of a file, in bytes, that this
// package can't read. What it returns follows no links, and is closed with undo.
type Mounter interface {
	Mount(ctx context.Context, f *os.File, offset, size int64, fileSystem string) (files fs.ReadLinkFS, undo func() error, err error)
}

// WithMounter sets who mounts the file systems that are not read here: btrfs,
// xfs, and erofs with compression. Without, images that have them are refused
// with [ErrUnsupported].
func WithMounter(m Mounter) Option { return func(o *options) { o.mounter = m } }

// WithPolicy refuses image files that a policy does not allow, with [ErrPolicy].
// Directories have nothing that a policy is about.
func WithPolicy(p *Policy) Option { return func(o *options) { o.policy = p } }

// WithCertificates sets whose signatures of root hashes count; [Certificates] has
// those of a host. The function is called for images that are signed.
func WithCertificates(list func() ([]*x509.Certificate, error)) Option {
	return func(o *options) { o.trusted = list }
}

// WithRootHash sets the root hash that the root file system of an image must have.
// What is found in the image or beside it does not count then.
func WithRootHash(hash []byte) Option { return func(o *options) { o.rootHash = hash } }

// ParseRootHash reads a root hash as hex digits.
func ParseRootHash(text string) ([]byte, error) { return verity.ParseRootHash([]byte(text)) }
