package squashfs

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/bits"

	"github.com/ulikunitz/xz/lzma"
)

// xzEncoder makes xz streams of one block, as the kernel wants them: with CRC32
// and a dictionary that is no longer than a block. The container is written here
// because the library's writer takes new memory for each stream.
type xzEncoder struct {
	dict int
	out  bytes.Buffer
}

func xzCompressing(_ int, o WriteOptions) *compressing {
	// The kernel reads metadata with the dictionary of data, or of metadata if
	// that is longer.
	return &compressing{number: compXZ, open: func() (encoder, error) {
		return &xzEncoder{dict: max(o.BlockSize, metaSize)}, nil
	}}
}

func (x *xzEncoder) encode(dst, src []byte) ([]byte, error) {
	x.out.Reset()
	config := lzma.Writer2Config{DictCap: max(min(x.dict, len(src)), lzma.MinDictCap), Matcher: lzma.HashTable4}
	w, err := config.NewWriter2(&x.out)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(src); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return appendXZ(dst, x.out.Bytes(), src, x.dict), nil
}

// appendXZ appends a stream with one block, which this LZMA2 data is of.
func appendXZ(dst, data, src []byte, dict int) []byte {
	dst = append(dst, xzMagic...)
	flags := []byte{0, xzCRC32}
	dst = le.AppendUint32(append(dst, flags...), crc32.ChecksumIEEE(flags))
	start := len(dst)
	// Two words of four bytes; one filter with one byte of properties; padding.
	head := []byte{2, 0, filterLZMA2, 1, dictByte(dict), 0, 0, 0}
	dst = le.AppendUint32(append(dst, head...), crc32.ChecksumIEEE(head))
	dst = append(dst, data...)
	unpadded := len(dst) - start + crc32.Size
	dst = append(dst, make([]byte, -len(data)&3)...)
	dst = le.AppendUint32(dst, crc32.ChecksumIEEE(src))

	index := []byte{0, 1}
	index = binary.AppendUvarint(index, uint64(unpadded))
	index = binary.AppendUvarint(index, uint64(len(src)))
	index = append(index, make([]byte, -len(index)&3)...)
	index = le.AppendUint32(index, crc32.ChecksumIEEE(index))
	dst = append(dst, index...)

	footer := le.AppendUint32(nil, uint32(len(index)/4-1))
	footer = append(footer, flags...)
	dst = le.AppendUint32(dst, crc32.ChecksumIEEE(footer))
	return append(append(dst, footer...), "YZ"...)
}

// dictByte is the property of LZMA2 for a dictionary of a power of two.
func dictByte(size int) byte { return byte(2 * (bits.Len(uint(size)) - 1 - 12)) }
