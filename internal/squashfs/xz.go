package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// The container is read here, not by the library: that one knows no filters but
// LZMA2, and takes as much memory as the stream says its dictionary has. The
// format is that of xz-file-format.txt, of which squashfs uses streams of one
// block. Their index and footer say again what the block has, and are ignored.

// Checks of an xz stream.
const (
	xzNoCheck = 0
	xzCRC32   = 1
	xzCRC64   = 4
)

// Filters of an xz block.
const filterLZMA2 = 0x21

var (
	xzMagic = []byte("\xfd7zXZ\x00")
	errXZ   = errors.New("xz: its header is wrong")
)

// xzFilter is a filter that was applied before LZMA2.
type xzFilter struct {
	id    uint64
	start uint32 // position that the first byte is taken to have
}

// unxz decompresses one block.
func unxz(src []byte, limit int) ([]byte, error) {
	check, rest, err := xzStream(src)
	if err != nil {
		return nil, err
	}
	filters, rest, err := xzBlock(rest)
	if err != nil {
		return nil, err
	}
	size, length, err := lzma2Size(rest, limit)
	if err != nil {
		return nil, err
	}
	data := make([]byte, length)
	// Nothing in a block reaches further back than its start.
	r, err := lzma.Reader2Config{DictCap: max(limit, lzma.MinDictCap)}.NewReader2(bytes.NewReader(rest[:size]))
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	for i := len(filters) - 1; i >= 0; i-- {
		if err := filters[i].undo(data); err != nil {
			return nil, err
		}
	}
	return data, xzCheck(check, data, rest[min((size+3)&^3, len(rest)):])
}

// xzStream reads the stream's header.
func xzStream(b []byte) (check byte, rest []byte, err error) {
	const size = 12
	if len(b) < size || !bytes.HasPrefix(b, xzMagic) || crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return 0, nil, errXZ
	}
	switch check = b[7]; {
	case b[6] != 0:
		return 0, nil, errXZ
	case check != xzNoCheck && check != xzCRC32 && check != xzCRC64:
		return 0, nil, fmt.Errorf("%w: xz check %d", ErrUnsupported, check)
	}
	return check, b[size:], nil
}

// xzBlock reads the block's header: its sizes, which are ignored, and filters.
func xzBlock(b []byte) ([]xzFilter, []byte, error) {
	if len(b) == 0 || b[0] == 0 {
		return nil, nil, errXZ
	}
	size := (int(b[0]) + 1) * 4
	if size > len(b) || crc32.ChecksumIEEE(b[:size-4]) != binary.LittleEndian.Uint32(b[size-4:]) {
		return nil, nil, errXZ
	}
	h := &xzHeader{b: b[2 : size-4]}
	for _, present := range []byte{0x40, 0x80} {
		if b[1]&present != 0 {
			h.number()
		}
	}
	var filters []xzFilter
	for range b[1] & 3 {
		filters = append(filters, h.filter())
	}
	if id := h.number(); id != filterLZMA2 || h.number() != 1 || len(h.bytes(1)) != 1 || h.bad {
		return nil, nil, errXZ
	}
	return filters, b[size:], nil
}

// xzHeader reads the fields of a block's header.
type xzHeader struct {
	b   []byte
	bad bool
}

func (h *xzHeader) number() uint64 {
	n, size := binary.Uvarint(h.b)
	if size <= 0 {
		h.bad = true
		return 0
	}
	h.b = h.b[size:]
	return n
}

func (h *xzHeader) bytes(n uint64) []byte {
	if n > uint64(len(h.b)) {
		h.bad = true
		return nil
	}
	out := h.b[:n]
	h.b = h.b[n:]
	return out
}

func (h *xzHeader) filter() xzFilter {
	f := xzFilter{id: h.number()}
	switch options := h.bytes(h.number()); len(options) {
	case 0:
	case 4:
		f.start = binary.LittleEndian.Uint32(options)
	default:
		// Left to undo, which knows the filter's name if it is another one.
	}
	return f
}

// lzma2Size adds up the chunks of the LZMA2 data at the start of b: their size,
// and their length once decompressed. The decoder gets no more than that, and
// does not start on what is too long.
func lzma2Size(b []byte, limit int) (size, length int, err error) {
	for {
		head := b[size:]
		if len(head) == 0 {
			return 0, 0, io.ErrUnexpectedEOF
		}
		control := head[0]
		if control == 0 {
			return size + 1, length, nil
		}
		if len(head) < 6 {
			return 0, 0, io.ErrUnexpectedEOF
		}
		unpacked, packed := int(binary.BigEndian.Uint16(head[1:]))+1, 0
		if control < 0x80 { // stored
			packed = 3 + unpacked
		} else {
			unpacked += int(control&0x1f) << 16
			packed = 5 + int(binary.BigEndian.Uint16(head[3:])) + 1
			if control >= 0xc0 { // with a byte of properties
				packed++
			}
		}
		if size, length = size+packed, length+unpacked; size > len(b) {
			return 0, 0, io.ErrUnexpectedEOF
		}
		if length > limit {
			return 0, 0, errTooLong
		}
	}
}

// xzCheck compares the data with the check that follows it.
func xzCheck(check byte, data, rest []byte) error {
	var want []byte
	switch check {
	case xzCRC32:
		want = binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(data))
	case xzCRC64:
		want = binary.LittleEndian.AppendUint64(nil, crc64.Checksum(data, crc64.MakeTable(crc64.ECMA)))
	}
	switch {
	case !bytes.HasPrefix(rest, want):
		return errors.New("xz: the checksum is wrong")
	case len(rest) == len(want) || rest[len(want)] != 0: // the index
		return errors.New("xz: more than one block")
	}
	return nil
}
