package squashfs

import (
	"bytes"
	"fmt"
	"io/fs"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	own "github.com/lockport/lockport/internal/zstd"
)

// encoder compresses blocks. It is used by one goroutine.
type encoder interface {
	// encode appends the compressed form of src to dst. It may give up, with any
	// bytes, when these are no fewer than src has.
	encode(dst, src []byte) ([]byte, error)
}

// compressing is a compressor with its settings.
type compressing struct {
	number  uint16
	options []byte                  // that follow the superblock, with their head; nil if all are the defaults
	open    func() (encoder, error) // makes the encoder of one goroutine
}

func newCompressing(o WriteOptions) (*compressing, error) {
	kinds := map[Compressor]struct {
		name        string
		level, most int // default and greatest level
		make        func(level int, o WriteOptions) *compressing
	}{
		Zstd: {"zstd", 15, 22, zstdCompressing},
		Gzip: {"gzip", 9, 9, gzipCompressing},
		XZ:   {"xz", 1, 1, xzCompressing},
		LZ4:  {"lz4", 1, 2, lz4Compressing},
	}
	k, ok := kinds[o.Compressor]
	if !ok {
		return nil, fmt.Errorf("compressor %d: %w", o.Compressor, fs.ErrInvalid)
	}
	level := o.Level
	if level == 0 {
		level = k.level
	}
	if level < 1 || level > k.most {
		return nil, fmt.Errorf("level %d of %s: %w", level, k.name, fs.ErrInvalid)
	}
	c := k.make(level, o)
	if c.options != nil {
		c.options = append(le.AppendUint16(nil, uint16(len(c.options))|metaPlain), c.options...)
	}
	return c, nil
}

// gzipEncoder makes zlib streams.
type gzipEncoder struct {
	w   *zlib.Writer
	out bytes.Buffer
}

func gzipCompressing(level int, _ WriteOptions) *compressing {
	c := &compressing{number: compGzip, open: func() (encoder, error) {
		w, err := zlib.NewWriterLevel(nil, level)
		return &gzipEncoder{w: w}, err
	}}
	if level != 9 {
		c.options = le.AppendUint32(nil, uint32(level))
		c.options = append(c.options, 15, 0, 1, 0) // bits of the window; the default strategy
	}
	return c
}

func (g *gzipEncoder) encode(dst, src []byte) ([]byte, error) {
	g.out.Reset()
	g.w.Reset(&g.out)
	if _, err := g.w.Write(src); err != nil {
		return nil, err
	}
	if err := g.w.Close(); err != nil {
		return nil, err
	}
	return append(dst, g.out.Bytes()...), nil
}

// zstdEncoder is for levels that are meant to be fast; the others have
// [ownEncoder].
type zstdEncoder struct{ e *zstd.Encoder }

// ownLevel is the lowest level that takes our own encoder.
const ownLevel = 10

func zstdCompressing(level int, o WriteOptions) *compressing {
	c := &compressing{number: compZstd, open: func() (encoder, error) { return newZstdEncoder(level, o.BlockSize) }}
	if level != 15 {
		c.options = le.AppendUint32(nil, uint32(level))
	}
	return c
}

func newZstdEncoder(level, blockSize int) (encoder, error) {
	if level >= ownLevel {
		return ownEncoder{own.NewEncoder(effort(level))}, nil
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(max(blockSize, metaSize)), zstd.WithSingleSegment(true))
	return &zstdEncoder{e}, err
}

func (z *zstdEncoder) encode(dst, src []byte) ([]byte, error) { return z.e.EncodeAll(src, dst), nil }

type ownEncoder struct{ e *own.Encoder }

func (z ownEncoder) encode(dst, src []byte) ([]byte, error) { return z.e.Encode(dst, src), nil }

// effort is what gives about the sizes of libzstd's level.
func effort(level int) own.Effort {
	switch {
	case level < 14:
		return own.Effort{Depth: 6, Nice: 32}
	case level < 18:
		return own.Effort{Depth: 16, Nice: 64}
	}
	return own.Effort{Depth: 128, Nice: 256}
}

// lz4Encoder makes bare blocks.
type lz4Encoder struct {
	compress func(src, dst []byte) (int, error)
	out      []byte
}

func lz4Compressing(level int, o WriteOptions) *compressing {
	c := &compressing{number: compLZ4, open: func() (encoder, error) {
		e := &lz4Encoder{out: make([]byte, lz4.CompressBlockBound(max(o.BlockSize, metaSize)))}
		if level == 1 {
			e.compress = new(lz4.Compressor).CompressBlock
		} else {
			e.compress = (&lz4.CompressorHC{Level: lz4.Level9}).CompressBlock
		}
		return e, nil
	}}
	// The version of the format, which readers want to know, and the slow mode.
	c.options = le.AppendUint32(nil, 1)
	c.options = le.AppendUint32(c.options, uint32(level-1))
	return c
}

func (l *lz4Encoder) encode(dst, src []byte) ([]byte, error) {
	// Room for the worst case: without it, some of what does not fit is an error.
	n, err := l.compress(src, l.out)
	if err != nil {
		return nil, err
	}
	if n == 0 { // it does not fit
		return append(dst, src...), nil
	}
	return append(dst, l.out[:n]...), nil
}
