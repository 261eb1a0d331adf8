package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lockport/lockport/internal/gpt"
	"github.com/lockport/lockport/internal/verity"
)

// Sizes in bytes. Hash trees are over blocks of what page caches have.
const (
	verityBlock = 4096
	alignment   = 4096
	sectorSize  = 512
)

// superblock describes the hash tree of some data. The salt is to make trees of
// different images different; it need not be secret, and is the same for the
// same image.
func (w *writer) superblock(size int64) *verity.Superblock {
	salt := sha256.Sum256([]byte("lockport verity salt " + w.out.Label))
	id := sha256.Sum256([]byte("lockport verity superblock " + w.out.Label))
	s := &verity.Superblock{
		Algorithm: "sha256", DataBlockSize: verityBlock, HashBlockSize: verityBlock, DataBlocks: uint64(size / verityBlock), Salt: salt[:],
	}
	s.UUID = uuidOf(id[:])
	return s
}

// uuidOf makes a UUID of a digest: RFC 9562, version 8.
func uuidOf(digest []byte) (u [16]byte) {
	copy(u[:], digest)
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}

// hashTree writes the hash tree of a part of a file.
func (w *writer) hashTree(data io.ReaderAt, offset, size int64, tree io.WriterAt) (root []byte, bytes int64, err error) {
	if size%verityBlock != 0 {
		return nil, 0, fmt.Errorf("a file system of %d bytes", size)
	}
	s := w.superblock(size)
	if bytes, err = s.TreeSize(); err != nil {
		return nil, 0, err
	}
	root, err = verity.Build(w.ctx, io.NewSectionReader(data, offset, size), tree, s, 0)
	return root, bytes, err
}

// beside writes the file system alone, and its hash tree, root hash and signature
// in files of their own.
func (w *writer) beside(f *os.File, r *Result) error {
	size, err := w.fileSystem(f, 0, r)
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(r.Files[0], ".raw")
	add := func(suffix string, content []byte) (*os.File, error) {
		g, err := w.pending.create(name + suffix)
		if err != nil {
			return nil, err
		}
		r.Files = append(r.Files, name+suffix)
		_, err = g.Write(content)
		return g, err
	}
	tree, err := add(".verity", nil)
	if err != nil {
		return err
	}
	if r.RootHash, _, err = w.hashTree(f, 0, size, tree); err != nil {
		return err
	}
	if _, err := add(".roothash", []byte(hex.EncodeToString(r.RootHash)+"\n")); err != nil {
		return err
	}
	if w.out.Key == nil {
		return nil
	}
	der, err := verity.Sign(r.RootHash, w.out.Key, w.out.Certificate)
	if err != nil {
		return err
	}
	_, err = add(".roothash.p7s", der)
	return err
}

// partitions writes an image with a GPT: the root file system, its hash tree, and
// the signature, after UAPI.2 and as systemd-repart lays them out.
func (w *writer) partitions(f *os.File, r *Result) error {
	table := &gpt.Table{SectorSize: sectorSize}
	if err := w.addPartition(table, gpt.Root, [16]byte{}, alignment); err != nil {
		return err
	}
	start := table.Partitions[0].Offset
	size, err := w.fileSystem(f, start, r)
	if err != nil {
		return err
	}
	table.Partitions[0].Size = size
	treeSize, err := w.superblock(size).TreeSize()
	if err != nil {
		return err
	}
	if err := w.addPartition(table, gpt.RootVerity, [16]byte{}, treeSize); err != nil {
		return err
	}
	tree := &table.Partitions[1]
	if r.RootHash, _, err = w.hashTree(f, start, size, at{f, tree.Offset}); err != nil {
		return err
	}
	table.Partitions[0].UUID, tree.UUID = gpt.UUID(r.RootHash[:16]), gpt.UUID(r.RootHash[16:])
	if w.out.Key != nil {
		if err := w.signature(f, table, r.RootHash); err != nil {
			return err
		}
	}
	return w.table(f, table, r.RootHash)
}

// addPartition adds a partition behind the others, and finds its place.
func (w *writer) addPartition(table *gpt.Table, d gpt.Designator, id [16]byte, size int64) error {
	kind, ok := gpt.TypeOf(gpt.Kind{Designator: d, Architecture: w.out.Architecture})
	if !ok {
		return fmt.Errorf("%w: no partition type for the architecture %q", ErrSpec, w.out.Architecture)
	}
	if id == ([16]byte{}) {
		id[0] = byte(len(table.Partitions) + 1) // until it is known
	}
	table.UUID[0] = 1
	table.Partitions = append(table.Partitions, gpt.Partition{
		Number: len(table.Partitions) + 1, Type: kind, UUID: id, Label: w.out.Label, Attributes: gpt.ReadOnly, Size: size,
	})
	_, err := table.Place(alignment)
	return err
}

func (w *writer) signature(f *os.File, table *gpt.Table, root []byte) error {
	der, err := verity.Sign(root, w.out.Key, w.out.Certificate)
	if err != nil {
		return err
	}
	print := sha256.Sum256(w.out.Certificate.Raw)
	text, err := (&verity.Signature{RootHash: root, PKCS7: der, Fingerprint: print[:]}).Marshal()
	if err != nil {
		return err
	}
	id := sha256.Sum256(append([]byte("lockport signature partition "), root...))
	if err := w.addPartition(table, gpt.RootVeritySig, uuidOf(id[:]), int64(len(text))); err != nil {
		return err
	}
	_, err = f.WriteAt(text, table.Partitions[2].Offset)
	return err
}

// table writes the partition table, which makes the file an image.
func (w *writer) table(f *os.File, table *gpt.Table, root []byte) error {
	id := sha256.Sum256(append([]byte("lockport disk "), root...))
	table.UUID = uuidOf(id[:])
	size, err := table.Place(alignment)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), table.Write(f, size))
}
