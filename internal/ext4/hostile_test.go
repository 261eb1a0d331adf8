package ext4

import (
	"bytes"
	"io/fs"
	"slices"
	"testing"

	"github.com/lockport/lockport/internal/imagefs"
	"github.com/lockport/lockport/internal/imagefs/imagefstest"
)

var hostile = imagefstest.Format{Open: Open}

// at is where an image has the inode of a path.
func at(t *testing.T, b []byte, path string) int {
	t.Helper()
	super, err := readSuperblock(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	e := &reader{super: super}
	e.blocks = imagefs.NewBlocks(bytes.NewReader(b), int64(len(b)), super.blockSize(), ErrDamaged)
	n, err := e.readInode(hostile.Inode(t, b, path))
	if err != nil {
		t.Fatal(err)
	}
	return int(n.at)
}

// entryAt is where an image has the entry of a name in the root directory.
func entryAt(t *testing.T, b []byte, name string) int {
	t.Helper()
	block := int(le.Uint32(b[at(t, b, ".")+pointersAt+12+8:])) * 1024 // the only extent's
	i := bytes.Index(b[block:block+1024], []byte(name))
	if i < 0 {
		t.Fatalf("no entry %q", name)
	}
	return block + i - direntSize
}

type refusal struct {
	name string
	hurt func(b []byte)
	want error
	text string
}

// What no image may say, by the field that says it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	b := imagefstest.Images(t, 6)["extents"]
	const s = superblockAt
	text, holes, link := at(t, b, "text"), at(t, b, "holes"), at(t, b, "link")
	dir, deep := at(t, b, "dir"), at(t, b, "dir/deep")
	leaf := int(le.Uint32(b[holes+pointersAt+12+4:])) * 1024
	put16, put32 := le.PutUint16, le.PutUint32
	for _, c := range []refusal{
		{"magic", func(b []byte) { b[s+0x38]++ }, ErrNotExt4, "0xef54"},
		{"journal", func(b []byte) { b[s+0x60] |= 4 }, ErrUnsupported, "its journal needs recovery"},
		{"encryption", func(b []byte) { b[s+0x62] |= 1 }, ErrUnsupported, "encryption"},
		{"casefold", func(b []byte) { b[s+0x62] |= 2 }, ErrUnsupported, "casefold"},
		{"compression", func(b []byte) { b[s+0x60] |= 1 }, ErrUnsupported, "compression"},
		{"feature", func(b []byte) { b[s+0x63] |= 0x80 }, ErrUnsupported, "features 0x80000000"},
		{"block size", func(b []byte) { put32(b[s+0x18:], 7) }, ErrDamaged, "blocks of 2^7 KiB"},
		{"blocks", func(b []byte) { put32(b[s+4:], 129) }, ErrDamaged, "it has 129 blocks"},
		{"more blocks", func(b []byte) { put32(b[s+0x150:], 1) }, ErrDamaged, "it has 4294967424 blocks"},
		{"first block", func(b []byte) { put32(b[s+0x14:], 2) }, ErrDamaged, "the first of 128 blocks is 2"},
		{"inode size", func(b []byte) { put16(b[s+0x58:], 257) }, ErrDamaged, "inodes of 257 bytes"},
		{"large inodes", func(b []byte) { put16(b[s+0x58:], 2048) }, ErrDamaged, "inodes of 2048 bytes"},
		{"descriptor size", func(b []byte) { put16(b[s+0xfe:], 96) }, ErrDamaged, "group descriptors of 96 bytes"},
		{"short descriptors", func(b []byte) { put16(b[s+0xfe:], 32) }, ErrDamaged, "addresses of 64 bits"},
		{"no groups", func(b []byte) { put32(b[s+0x20:], 0) }, ErrDamaged, "groups of 0 blocks"},
		{"inodes", func(b []byte) { put32(b[s:], 1<<30) }, ErrDamaged, "1073741824 inodes in groups"},
		{"table", func(b []byte) { put32(b[2048+8:], 600) }, ErrDamaged, "its table at block 600 of 128"},
		{"deleted", func(b []byte) { put16(b[text:], 0) }, ErrDamaged, "no type, or deleted"},
		{"encrypted file", func(b []byte) { b[text+0x21] |= 8 }, ErrUnsupported, "compressed or encrypted"},
		{"value", func(b []byte) { b[text+0x22] |= 0x20 }, ErrDamaged, "belongs to an attribute"},
		{"size", func(b []byte) { put32(b[text+0x6c:], 1<<31) }, ErrDamaged, "bytes"},
		{"fields", func(b []byte) { put16(b[text+128:], 129) }, ErrDamaged, "129 bytes of further fields"},
		{"target", func(b []byte) { put32(b[link+4:], 60) }, ErrDamaged, "a target of 60 bytes"},
		{"no target", func(b []byte) { put32(b[link+4:], 0) }, ErrDamaged, "a link without a target"},
		{"extent magic", func(b []byte) { b[text+pointersAt]++ }, ErrDamaged, "no node of a tree"},
		{"depth", func(b []byte) { put16(b[holes+pointersAt+6:], 6) }, ErrDamaged, "a tree of extents of depth 6"},
		{"depth below", func(b []byte) { put16(b[leaf+6:], 1) }, ErrDamaged, "no node of a tree"},
		{"extents", func(b []byte) { put16(b[text+pointersAt+2:], 5) }, ErrDamaged, "5 extents"},
		{"order", func(b []byte) { put32(b[leaf+24:], 0) }, ErrDamaged, "extents out of order"},
		{"index", func(b []byte) { put32(b[holes+pointersAt+16:], 128) }, ErrDamaged, "block 128 of 128"},
		{"extent", func(b []byte) { put32(b[text+pointersAt+20:], 126) }, ErrDamaged, "blocks 126 to 135 of 128"},
		{"extent at the start", func(b []byte) { put32(b[text+pointersAt+20:], 0) }, ErrDamaged, "blocks 0 to"},
		{"directory size", func(b []byte) { put32(b[dir+4:], 1000) }, ErrDamaged, "its last block has 1000 bytes"},
		{"large directory", func(b []byte) { put32(b[dir+4:], 1<<31) }, ErrDamaged, "a directory of 2147483648 bytes"},
		{"hole", func(b []byte) { put16(b[dir+pointersAt+2:], 0) }, ErrDamaged, "an entry of 0 bytes"},
		{"attribute", func(b []byte) { put16(b[dir+128+32+4+2:], 255) }, ErrDamaged, "bytes at 255 of attribute"},
		{"rights", func(b []byte) { put32(b[deep+256-len(shortList):], 7) }, ErrDamaged, "no list of access rights"},
	} {
		hostile.Refuse(t, b, c.name, c.hurt, c.want, c.text)
	}
}

// shortList stands for the list of rights that is at the end of an inode.
var shortList = make([]byte, 4+4+8+4+4+4)

// What no directory may have.
func TestEntries(t *testing.T) {
	t.Parallel()
	b := imagefstest.Images(t, 6)["extents"]
	number := func(path string) uint32 { return uint32(hostile.Inode(t, b, path)) }
	entry := func(name string) int { return entryAt(t, b, name) }
	put16, put32 := le.PutUint16, le.PutUint32
	for _, c := range []refusal{
		{"no length", func(b []byte) { put16(b[entry("text")+4:], 0) }, ErrDamaged, "an entry of 0 bytes"},
		{"length", func(b []byte) { put16(b[entry("text")+4:], 4096) }, ErrDamaged, "an entry of 4096 bytes"},
		{"odd length", func(b []byte) { put16(b[entry("text")+4:], 13) }, ErrDamaged, "an entry of 13 bytes"},
		{"name's length", func(b []byte) { b[entry("text")+6] = 255 }, ErrDamaged, "with a name of 255"},
		{"empty name", func(b []byte) { b[entry("text")+6] = 0 }, ErrDamaged, `an entry ""`},
		{"slash", func(b []byte) { b[entry("text")+direntSize+1] = '/' }, ErrDamaged, `an entry "t/xt"`},
		{"null", func(b []byte) { b[entry("text")+direntSize+1] = 0 }, ErrDamaged, `an entry "t\x00xt"`},
		{"twice", func(b []byte) { copy(b[entry("link")+direntSize:], "long") }, ErrDamaged, `two entries "long"`},
		{"type", func(b []byte) { b[entry("text")+7] = 2 }, ErrDamaged, "in directory 2 a directory"},
		{"no type", func(b []byte) { b[entry("text")+7] = 9 }, ErrDamaged, `"text" is of no type`},
		{"reserved", func(b []byte) { put32(b[entry("text"):], 7) }, ErrDamaged, "the first being 11"},
		{"inode", func(b []byte) { put32(b[entry("text"):], 1<<20) }, ErrDamaged, "inode 1048576: "},
		{"root", func(b []byte) { put32(b[entry("dir"):], 2) }, ErrDamaged, "directory 2 is in two places"},
		{"two places", func(b []byte) { put32(b[entry("text"):], number("dir")); b[entry("text")+7] = 2 }, ErrDamaged, "in two places"},
	} {
		hostile.Refuse(t, b, c.name, c.hurt, c.want, c.text)
	}
}

// An entry may leave it to the inode what it is.
func TestEntryOfUnknownType(t *testing.T) {
	t.Parallel()
	b := imagefstest.Images(t, 6)["extents"]
	b[entryAt(t, b, "link")+7] = 0
	fsys, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	list, err := fsys.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if (e.Type() == fs.ModeSymlink) != (e.Name() == "link" || e.Name() == "long") {
			t.Errorf("%s is a %v", e.Name(), e.Type())
		}
	}
}

// Lengths of entries in the largest blocks have more than 16 bits.
func TestRecordSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		word        uint16
		block, want int
	}{{12, 1024, 12}, {0, 4096, 0}, {0xffff, 65536, 65536}, {0, 65536, 65536}, {0xfffd, 65536, 65532 + 65536}, {24, 65536, 24}} {
		if got := recordSize(c.word, c.block); got != c.want {
			t.Errorf("%#x in blocks of %d: %d, not %d", c.word, c.block, got, c.want)
		}
	}
}

// Groups that have a copy of the superblock, as mke2fs lists them.
func TestCopiesOfSuperblock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		super superblock
		want  []uint32
	}{
		{superblock{readOnly: readOnlySparse}, []uint32{0, 1, 3, 5, 7, 9, 25, 27, 49}},
		{superblock{compat: compatSparse2, backups: [2]uint32{1, 59}}, []uint32{0, 1, 59}},
		{superblock{compat: compatSparse2}, []uint32{0}},
	} {
		var got []uint32
		for g := range uint32(60) {
			if c.super.hasSuperblock(g) {
				got = append(got, g)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v, not %v", got, c.want)
		}
	}
	if s := (superblock{}); !s.hasSuperblock(6) {
		t.Error("old images have one in every group")
	}
}

// Old device numbers are in another place than new ones.
func TestDevice(t *testing.T) {
	t.Parallel()
	for _, c := range [][4]uint32{{0x0801, 0, 8, 1}, {0xffff, 0, 255, 255}, {0, 0x0801, 8, 1}, {0, 0x1111ff70, 511, 0x11170}} {
		if major, minor := device(c[0], c[1]); major != c[2] || minor != c[3] {
			t.Errorf("%#x, %#x: %d:%d", c[0], c[1], major, minor)
		}
	}
}
