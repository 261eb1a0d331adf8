package squashfs_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"testing"

	"github.com/lockport/lockport/internal/squashfs"
)

// mksquashfs takes half a minute for a file of 5 GiB, so its image is written
// by hand: blocks of 1 MiB, all holes but some.

const (
	bigBlock = 1 << 20
	bigSize  = 5<<30 + 5
)

// bigTexts are what the file has, by position.
func bigTexts() map[int64]string {
	return map[int64]string{0: "first", 1<<32 - 3: "acr", 1 << 32: "oss", bigSize - 4: "last"}
}

var le = binary.LittleEndian

func le16(b []byte, v ...uint16) []byte {
	for _, x := range v {
		b = le.AppendUint16(b, x)
	}
	return b
}

func le32(b []byte, v ...uint32) []byte {
	for _, x := range v {
		b = le.AppendUint32(b, x)
	}
	return b
}

func le64(b []byte, v ...uint64) []byte {
	for _, x := range v {
		b = le.AppendUint64(b, x)
	}
	return b
}

// metadata stores bytes as blocks that are not compressed.
func metadata(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		n := min(len(b), 8192)
		out = append(le16(out, uint16(n)|0x8000), b[:n]...)
		b = b[n:]
	}
	return out
}

// bigData writes the file's blocks, and the list of their sizes.
func bigData(t *testing.T) (data, words []byte) {
	t.Helper()
	texts := bigTexts()
	for at := int64(0); at < bigSize; at += bigBlock {
		var content []byte
		for pos, text := range texts {
			if pos >= at && pos < at+bigBlock {
				content = append(content, make([]byte, min(bigBlock, bigSize-at)-int64(len(content)))...)
				copy(content[pos-at:], text)
			}
		}
		if content == nil {
			words = le32(words, 0)
			continue
		}
		var z bytes.Buffer
		w := zlib.NewWriter(&z)
		_, err := w.Write(content)
		must(t, err)
		must(t, w.Close())
		data, words = append(data, z.Bytes()...), le32(words, uint32(z.Len()))
	}
	return data, words
}

// bigImage is an image with one file in its root.
func bigImage(t *testing.T) []byte {
	t.Helper()
	data, words := bigData(t)
	none := uint32(0xffffffff)
	file := le32(le16(nil, 9, 0o644, 0, 0), 0, 1)
	file = le32(le64(file, 96, bigSize, 0), 1, none, 0, none)
	file = append(file, words...)
	root := len(file)
	inodes := le32(le16(file, 1, 0o755, 0, 0), 0, 2)
	inodes = le32(le16(le32(inodes, 0, 2), 3+12+8+3, 0), 3)
	listing := append(le16(le32(nil, 0, 0, 1), 0, 0, 2, 2), "big"...)

	image := append(make([]byte, 96), data...)
	inodeTable := len(image)
	image = append(image, metadata(inodes)...)
	directoryTable := len(image)
	image = append(image, metadata(listing)...)
	owner := len(image)
	image = append(image, metadata(make([]byte, 4))...)
	idTable := len(image)
	image = le64(image, uint64(owner))

	head := le32(nil, 0x73717368, 2, 0, bigBlock, 0)
	head = le16(head, 1, 20, 0, 1, 4, 0)
	head = le64(head, uint64(root/8192*8194)<<16|uint64(root%8192), uint64(len(image)), uint64(idTable), 1<<64-1)
	head = le64(head, uint64(inodeTable), uint64(directoryTable), 1<<64-1, 1<<64-1)
	copy(image, head)
	return image
}

// A file of more than 4 GiB is read at its end without what is before.
func TestBigFile(t *testing.T) {
	t.Parallel()
	image := bigImage(t)
	fsys, err := openBytes(image)
	must(t, err)
	f, err := fsys.Open("big")
	must(t, err)
	for _, c := range []struct {
		at   int64
		text string
	}{{bigSize - 4, "last"}, {1<<32 - 3, "across"}, {1<<32 - 5, "\x00\x00ac"}, {0, "first"}, {bigSize / 2, "\x00\x00"}} {
		got := make([]byte, len(c.text))
		if _, err := f.(io.ReaderAt).ReadAt(got, c.at); err != nil || string(got) != c.text {
			t.Errorf("at %d: %q, %v", c.at, got, err)
		}
	}
	if _, err := fsys.ReadFile("big"); err == nil {
		t.Error("all of it is read at once")
	}
	info, err := f.Stat()
	must(t, err)
	if info.Size() != bigSize {
		t.Errorf("it has %d bytes", info.Size())
	}
}

// Opening an image and describing a file in it reads little of it.
func TestReadsOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	image := bigImage(t)
	image = append(image, make([]byte, 1<<20)...)
	r := &counter{ReaderAt: bytes.NewReader(image)}
	fsys, err := squashfs.Open(r, int64(len(image)))
	must(t, err)
	_, err = fsys.Stat("big")
	must(t, err)
	if r.bytes > 20<<10 {
		t.Errorf("%d bytes are read", r.bytes)
	}
}
