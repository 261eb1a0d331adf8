package erofs

import (
	"bytes"
	"testing"

	"github.com/lockport/lockport/internal/imagefs/imagefstest"
)

var hostile = imagefstest.Format{Open: Open}

type refusal struct {
	name string
	hurt func(b []byte)
	want error
	text string
}

// at is where an image has the inode of a path. The images are small, and have
// their inodes from the start on.
func at(t *testing.T, b []byte, path string) int {
	t.Helper()
	return int(le.Uint32(b[superblockAt+40:]))<<b[superblockAt+12] + int(hostile.Inode(t, b, path))*slotSize
}

// entryAt is where it has the entry with this index.
func entryAt(t *testing.T, b []byte, index int) int {
	t.Helper()
	root := at(t, b, ".")
	start := root + slotSize
	if b[root]&1 != 0 {
		start += slotSize
	}
	return start + index*direntSize
}

// nameAt is where the root directory has a name.
func nameAt(t *testing.T, b []byte, name string) int {
	t.Helper()
	start := entryAt(t, b, 0)
	i := bytes.Index(b[start:], []byte(name))
	if i < 0 {
		t.Fatalf("no name %q", name)
	}
	return start + i
}

// Entries of the root directory, by their order: . .. dir empty fifo and others.
const (
	entryDir  = 2
	entryFIFO = 4
)

// What no image may say, by the field that says it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	b := imagefstest.Images(t, 9)["extended"]
	const s = superblockAt
	text, link, dir := at(t, b, "text"), at(t, b, "link"), at(t, b, "dir")
	first, fifo := entryAt(t, b, 0), entryAt(t, b, entryFIFO)
	put16, put32, put64 := le.PutUint16, le.PutUint32, le.PutUint64
	for _, c := range []refusal{
		{"magic", func(b []byte) { b[s]++ }, ErrNotErofs, "0xe0f5e1e3"},
		{"compressed", func(b []byte) { b[s+80] |= 1 }, ErrUnsupported, "compressed erofs"},
		{"two compressors", func(b []byte) { b[s+80] |= 8 }, ErrUnsupported, "compressed erofs"},
		{"devices", func(b []byte) { b[s+80] |= 8; b[s+86] = 1 }, ErrUnsupported, "data on other devices"},
		{"feature", func(b []byte) { b[s+80] |= 0x80 }, ErrUnsupported, "features 0x80"},
		{"block size", func(b []byte) { b[s+12] = 40 }, ErrDamaged, "blocks of 40 bits"},
		{"directory blocks", func(b []byte) { b[s+90] = 1 }, ErrUnsupported, "blocks of their own size"},
		{"root", func(b []byte) { put16(b[s+14:], 0xffff) }, ErrDamaged, "root directory"},
		{"inodes", func(b []byte) { put32(b[s+40:], 1<<31) }, ErrDamaged, "root directory"},
		{"layout", func(b []byte) { b[text] |= 0xe }, ErrUnsupported, "inode format 0xf"},
		{"format", func(b []byte) { b[text] |= 0x10 }, ErrUnsupported, "inode format"},
		{"compressed file", func(b []byte) { b[text] = 3 }, ErrUnsupported, "compressed erofs"},
		{"type", func(b []byte) { put16(b[text+4:], 0) }, ErrDamaged, "it is of no type"},
		{"size", func(b []byte) { put64(b[text+8:], 1<<63) }, ErrDamaged, "9223372036854775808 bytes in an image"},
		{"large", func(b []byte) { put64(b[text+8:], 1<<30) }, ErrDamaged, "1073741824 bytes in an image"},
		{"data", func(b []byte) { put32(b[text+16:], 1<<31) }, ErrDamaged, "of an image of"},
		{"end", func(b []byte) { put64(b[text+8:], 8192+4096) }, ErrDamaged, "across blocks"},
		{"target", func(b []byte) { put64(b[link+8:], 70_000) }, ErrDamaged, "70000 bytes of at most 65535"},
		{"no target", func(b []byte) { put64(b[link+8:], 0) }, ErrDamaged, "a link without a target"},
		{"attributes", func(b []byte) { put16(b[dir+2:], 0xffff) }, ErrDamaged, ""},
		{"shared", func(b []byte) { b[dir+64+4] = 200 }, ErrDamaged, "200 shared ones"},
		{"attribute", func(b []byte) { put16(b[dir+64+12+2:], 999) }, ErrDamaged, "one of 1006 bytes in"},
		{"prefix", func(b []byte) { b[dir+64+12+1] |= 0x80 }, ErrUnsupported, "prefixes of attributes' names"},
		{"names", func(b []byte) { put16(b[first+8:], 7) }, ErrDamaged, "names at 7 of a block"},
		{"no names", func(b []byte) { put16(b[first+8:], 0) }, ErrDamaged, "names at 0 of a block"},
		{"name", func(b []byte) { put16(b[fifo+8:], 5000) }, ErrDamaged, "a name from"},
		{"name among entries", func(b []byte) { put16(b[fifo+8:], 8) }, ErrDamaged, "a name from"},
		{"order", func(b []byte) { b[nameAt(t, b, "empty")] = 'z' }, ErrDamaged, `"fifo" after "zmpty"`},
		{"slash", func(b []byte) { b[nameAt(t, b, "fifo")+1] = '/' }, ErrDamaged, `an entry "f/fo"`},
		{"null", func(b []byte) { b[nameAt(t, b, "fifo")+1] = 0 }, ErrDamaged, `an entry "f\x00fo"`},
		{"entry's type", func(b []byte) { b[fifo+10] = 1 }, ErrDamaged, "is a fifo, in directory"},
		{"no type", func(b []byte) { b[fifo+10] = 8 }, ErrDamaged, `"fifo" is of no type`},
		{"inode", func(b []byte) { put64(b[fifo:], 1<<60) }, ErrDamaged, "behind the image's end"},
		{"root again", func(b []byte) { put64(b[entryAt(t, b, entryDir):], hostile.Inode(t, b, ".")) }, ErrDamaged, "in two places"},
		{"two places", func(b []byte) { put64(b[fifo:], hostile.Inode(t, b, "dir")); b[fifo+10] = 2 }, ErrDamaged, "in two places"},
	} {
		hostile.Refuse(t, b, c.name, c.hurt, c.want, c.text)
	}
}

// What an image of chunks may not say of them.
func TestChunks(t *testing.T) {
	t.Parallel()
	b := imagefstest.Images(t, 9)["indexes"]
	holes := at(t, b, "holes")
	table := holes + slotSize
	if b[holes]&1 != 0 {
		table += slotSize
	}
	put32 := le.PutUint32
	for _, c := range []refusal{
		{"format", func(b []byte) { b[holes+16] |= 0x40 }, ErrUnsupported, "chunk format"},
		{"device", func(b []byte) { b[table+2] = 1 }, ErrUnsupported, "data on device 1"},
		{"address", func(b []byte) { put32(b[table+4:], 1<<31) }, ErrDamaged, "of an image of"},
		{"table", func(b []byte) { put32(b[holes+8:], 1<<31-1) }, ErrDamaged, "table of chunks"},
	} {
		hostile.Refuse(t, b, c.name, c.hurt, c.want, c.text)
	}
	// The second chunk becomes a hole.
	put32(b[table+8+4:], noBlock)
	fsys, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	want := imagefstest.Holes()
	clear(want[8192 : 2*8192])
	if bytes.Equal(want, imagefstest.Holes()) {
		t.Error("there was nothing in the chunk")
	}
	if got, err := fsys.ReadFile("holes"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("with a hole: %d bytes, or others, %v", len(got), err)
	}
}
