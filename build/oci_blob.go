package build

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// ociDigest is the name of a content: image-spec, descriptor.md, "Digests".
type ociDigest struct{ algorithm, hex string }

var ociHashes = map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New}

func parseDigest(text string) (d ociDigest, err error) {
	d.algorithm, d.hex, _ = strings.Cut(text, ":")
	create, known := ociHashes[d.algorithm]
	if !known {
		return d, fmt.Errorf("the digest %.100q is neither sha256 nor sha512", text)
	}
	if len(d.hex) != 2*create().Size() || strings.Trim(d.hex, "0123456789abcdef") != "" {
		return d, fmt.Errorf("%.200q is no digest", text)
	}
	return d, nil
}

func (d ociDigest) hash() hash.Hash { return ociHashes[d.algorithm]() }

func (d ociDigest) check(sum hash.Hash) error {
	if got := hex.EncodeToString(sum.Sum(nil)); got != d.hex {
		return fmt.Errorf("it should be %s:%s, and is %s", d.algorithm, d.hex, got)
	}
	return nil
}

// path is where a layout has the content.
func (d ociDigest) path() string { return "blobs/" + d.algorithm + "/" + d.hex }

// ociBlob is an open part of an image.
type ociBlob struct {
	*io.SectionReader
	io.Closer
}

// verify reads a blob to check that it is what a descriptor says.
func (i *ociImporter) verify(b *ociBlob, d ociDescriptor) error {
	digest, err := parseDigest(d.Digest)
	if err != nil {
		return err
	}
	if b.Size() != d.Size {
		return fmt.Errorf("%s has %d bytes, not %d", d.Digest, b.Size(), d.Size)
	}
	sum, left := digest.hash(), d.Size
	if _, err := io.Copy(sum, &ociMeter{i.ctx, io.NewSectionReader(b, 0, b.Size()), &left, d.Size, func() {}}); err != nil {
		return err
	}
	return digest.check(sum)
}

// ociMeter reads until there is more than is left, or the context ends.
type ociMeter struct {
	ctx   context.Context
	r     io.Reader
	left  *int64
	limit int64  // that is told
	after func() // each part
}

func (m *ociMeter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	if *m.left -= int64(n); *m.left < 0 {
		return 0, refuse("more than %d bytes", m.limit)
	}
	m.after()
	return n, err
}

// ociCounter counts what is read, maybe by a goroutine of a decompressor.
type ociCounter struct {
	io.Reader
	read *atomic.Int64
}

func (c *ociCounter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// ociSpool is a temporary file.
type ociSpool struct {
	file *os.File
	size int64
}

func newOCISpool(folder string) (*ociSpool, error) {
	f, err := os.CreateTemp(folder, "oci-")
	if err != nil {
		return nil, err
	}
	return &ociSpool{file: f}, nil
}

// part returns what opens a part of the file, also when it is closed here.
func (s *ociSpool) part(offset, size int64) func() (io.ReadCloser, error) {
	name := s.file.Name()
	return func() (io.ReadCloser, error) {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		return &ociBlob{io.NewSectionReader(f, offset, size), f}, nil
	}
}

// appendSparse appends a content in which long runs of zeros become holes, and
// returns where it is.
func (s *ociSpool) appendSparse(ctx context.Context, r io.Reader, size int64) (offset int64, err error) {
	offset = s.size
	chunk, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := io.ReadFull(r, chunk[:min(int64(len(chunk)), size-at)])
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(chunk[:n], zeros[:n]) {
			if _, err := s.file.WriteAt(chunk[:n], offset+at); err != nil {
				return 0, err
			}
		}
		at += int64(n)
	}
	s.size += size
	return offset, s.file.Truncate(s.size)
}

// maxWindow is how much of what was unpacked zstd may refer back to: what its
// own program takes without being told otherwise.
const maxWindow = 128 << 20

// unpacker returns what unpacks gzip or zstd, and nil for anything else. No
// archive begins like either.
func unpacker(r io.ReaderAt) (func(io.Reader) (io.ReadCloser, error), error) {
	magic := make([]byte, 4)
	n, err := r.ReadAt(magic, 0)
	switch magic = magic[:n]; {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return unpackZstd, nil
	}
	return nil, nil
}

func unpackZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

func decompress(b *ociBlob, read *atomic.Int64) (io.ReadCloser, error) {
	r := &ociCounter{io.NewSectionReader(b, 0, b.Size()), read}
	unpack, err := unpacker(b)
	if err != nil || unpack == nil {
		return io.NopCloser(r), err
	}
	return unpack(r)
}
