package squashfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Compressors, as the superblock numbers them.
const (
	compGzip = iota + 1
	compLZMA
	compLZO
	compXZ
	compLZ4
	compZstd
)

// codec decompresses a block to at most limit bytes. It is safe for concurrent
// use.
type codec func(src []byte, limit int) ([]byte, error)

var errTooLong = errors.New("more bytes than a block has")

// decompress returns a block of the image. What goes wrong is damage, or a
// feature that we do without.
func (f *FS) decompress(src []byte, limit int) ([]byte, error) {
	data, err := f.codec(src, limit)
	switch {
	case err == nil && len(data) > limit:
		return nil, fmt.Errorf("%w: %w", ErrDamaged, errTooLong)
	case err == nil || errors.Is(err, ErrUnsupported):
		return data, err
	}
	return nil, fmt.Errorf("%w: decompressing: %w", ErrDamaged, err)
}

func newCodec(compressor uint16) (codec, error) {
	switch compressor {
	case compGzip:
		return (&zlibCodec{}).decode, nil
	case compLZO:
		return lzo1x, nil
	case compLZMA:
		return nil, fmt.Errorf("%w: compressed with lzma (version 1)", ErrUnsupported)
	case compXZ:
		return unxz, nil
	case compLZ4:
		return unlz4, nil
	case compZstd:
		return newZstd()
	}
	return nil, fmt.Errorf("%w: compressor %d", ErrUnsupported, compressor)
}

// zlibCodec keeps decompressors, whose tables and windows are costly to make.
type zlibCodec struct{ idle sync.Pool }

func (z *zlibCodec) decode(src []byte, limit int) ([]byte, error) {
	r, err := z.reader(bytes.NewReader(src))
	if err != nil {
		return nil, err
	}
	defer z.idle.Put(r)
	// One byte more, to reach the end of the stream and its checksum.
	dst := make([]byte, limit+1)
	n, err := io.ReadFull(r, dst)
	switch {
	case err == nil:
		return nil, errTooLong
	case err == io.EOF || err == io.ErrUnexpectedEOF && n > 0 && ended(r):
		return fit(dst[:n]), nil
	}
	return nil, err
}

// ended tells the end of a stream from its being cut off: io.ReadFull returns
// one error for both.
func ended(r io.Reader) bool {
	_, err := r.Read(make([]byte, 1))
	return err == io.EOF
}

func (z *zlibCodec) reader(src io.Reader) (io.ReadCloser, error) {
	if r, ok := z.idle.Get().(io.ReadCloser); ok {
		return r, r.(zlib.Resetter).Reset(src, nil)
	}
	return zlib.NewReader(src)
}

// fit copies what is much shorter than its memory, as the cache keeps it.
func fit(b []byte) []byte {
	if len(b) > cap(b)/2 {
		return b
	}
	return bytes.Clone(b)
}

func unlz4(src []byte, limit int) ([]byte, error) {
	dst := make([]byte, limit)
	n, err := lz4.UncompressBlock(src, dst)
	if err != nil {
		return nil, err
	}
	return fit(dst[:n]), nil
}

// zstdWindow is the greatest window that streams may ask for. It is not memory:
// whole blocks are decompressed, and the limit on these is what holds.
const zstdWindow = 128 << 20

func newZstd() (codec, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return func(src []byte, limit int) ([]byte, error) {
		// With some room behind the block, the decoder copies faster.
		dst, err := d.DecodeAll(src, make([]byte, 0, limit+64))
		return fit(dst), err
	}, nil
}
