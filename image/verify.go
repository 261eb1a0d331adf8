package image

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/lockport/lockport/internal/gpt"
	"github.com/lockport/lockport/internal/verity"
)

// verifier reads all that a root hash is for.
type verifier interface {
	Verify(ctx context.Context, workers int) error
}

// ErrNoVerity: there is no hash tree, or no root hash for it.
var ErrNoVerity = errors.New("nothing to verify it with")

// Verify reads all that the root hash of an image file is for, and returns the
// error of the first block that is not what it was. It returns [ErrNoVerity]
// where nothing is known to compare with.
func (i *Image) Verify(ctx context.Context) error {
	if i.Layout == nil || i.Layout.Verity == nil {
		return fmt.Errorf("%s: %w", i.Path, ErrNoVerity)
	}
	if err := i.Layout.Verity.check.Verify(ctx, 0); err != nil {
		return fmt.Errorf("%s: %w", i.Path, i.Layout.part(i.Layout.Verity.Of).damaged(err))
	}
	return nil
}

// protect has the reads of a part verified where there is a hash tree for it.
func (d *dissection) protect() error {
	for i := range d.layout.Parts {
		p := &d.layout.Parts[i]
		tree, size, ok := d.hashTree(p)
		if !ok {
			continue
		}
		signature, err := d.signature(p)
		if err != nil {
			return err
		}
		v := &Verity{Of: p.Designator}
		if v.RootHash, v.Source = d.rootHash(p, signature); v.RootHash == nil {
			continue
		}
		r, err := verity.NewReader(p.data, io.NewSectionReader(tree, 0, size), v.RootHash)
		if err != nil {
			return p.damaged(fmt.Errorf("with the root hash from %s: %w", v.Source, err))
		}
		if r.Size() > p.Size {
			return p.damaged(fmt.Errorf("%w: the hash tree is for %d bytes, and there are %d", ErrNotImage, r.Size(), p.Size))
		}
		v.check = r
		v.Signer, v.Unsigned = d.signer(v.RootHash, signature)
		p.data, p.Size = r, r.Size()
		d.layout.Verity = v
	}
	return nil
}

// hashTree returns the hash tree of a part, and its size.
func (d *dissection) hashTree(p *Part) (tree io.ReaderAt, size int64, ok bool) {
	if p.Number == 0 {
		if d.side.tree == nil || d.side.hash == nil || d.side.of != gpt.Root {
			return nil, 0, false
		}
		size, err := sizeOf(d.side.tree)
		return d.side.tree, size, err == nil
	}
	name, _ := gpt.Designator(p.Designator).Verity()
	t := d.layout.part(string(name))
	if name == "" || t == nil {
		return nil, 0, false
	}
	return t.data, t.Size, true
}

// signature reads the signature partition of a part; nil where there is none, or
// where a root hash from elsewhere counts instead.
func (d *dissection) signature(p *Part) (*verity.Signature, error) {
	_, name := gpt.Designator(p.Designator).Verity()
	s := d.layout.part(string(name))
	if d.side.hash != nil && (d.side.signature != nil || s == nil) || s == nil {
		return &verity.Signature{RootHash: d.side.hash, PKCS7: d.side.signature}, nil
	}
	if s.Size > maxBeside {
		return nil, s.damaged(fmt.Errorf("%w: %d bytes are too large for a signature", ErrNotImage, s.Size))
	}
	text := make([]byte, s.Size)
	if _, err := s.data.ReadAt(text, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, s.damaged(err)
	}
	signature, err := verity.ParseSignature(text)
	if err != nil {
		return nil, s.damaged(fmt.Errorf("%w: %w", ErrNotImage, err))
	}
	if d.side.hash != nil && hex.EncodeToString(d.side.hash) != hex.EncodeToString(signature.RootHash) {
		return nil, s.damaged(fmt.Errorf("%w: it signs another root hash than %s has", ErrNotImage, d.side.from))
	}
	return signature, nil
}

// rootHash is the one that counts, and where it is from. Where nobody else tells
// it, the UUIDs of a GPT's two partitions are its two halves, if it is one of
// SHA-256: enough to notice damage, though not to trust anybody.
func (d *dissection) rootHash(p *Part, s *verity.Signature) (hash []byte, from string) {
	switch {
	case d.side.hash != nil:
		return d.side.hash, d.side.from
	case s.RootHash != nil:
		return s.RootHash, "the signature partition"
	case d.layout.Table != gpt.GPT.String():
		return nil, ""
	}
	name, _ := gpt.Designator(p.Designator).Verity()
	hash, err := hex.DecodeString(strings.ReplaceAll(p.UUID+d.layout.part(string(name)).UUID, "-", ""))
	if err != nil {
		return nil, ""
	}
	return hash, "the UUIDs of the partitions"
}

// signer finds out whose signature of the root hash there is.
func (d *dissection) signer(hash []byte, s *verity.Signature) (who *x509.Certificate, err error) {
	if s.PKCS7 == nil {
		return nil, ErrUnsigned
	}
	p, err := verity.ParsePKCS7(s.PKCS7)
	if err != nil {
		return nil, fmt.Errorf("the signature of the root hash: %w", err)
	}
	var list []*x509.Certificate
	if d.trusted != nil {
		list, err = d.trusted()
	}
	who, bad := p.Verify(hash, list)
	if bad != nil {
		return nil, errors.Join(bad, err)
	}
	return who, nil
}
