package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// plainImage is an image whose metadata can be changed where it is.
func plainImage(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/plain.sqfs")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openBytes(b []byte) (*FS, error) { return Open(bytes.NewReader(b), int64(len(b))) }

// entryAt is where the image has a directory's entry: the first one of the name
// in the table of directories, which has eight bytes before it.
func entryAt(t *testing.T, b []byte, name string) int {
	t.Helper()
	table := int(binary.LittleEndian.Uint64(b[72:]))
	i := bytes.Index(b[table:], []byte(name))
	if i < 0 {
		t.Fatalf("no entry %q", name)
	}
	return table + i - 8
}

// inodeAt is where the image has the inode of a path.
func inodeAt(t *testing.T, b []byte, path string) int {
	t.Helper()
	f, err := openBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.walk(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(f.super.inodeTable+n.ref.block()) + 2 + n.ref.offset()
}

// walkAll visits every path, and gives up on an image without end.
func walkAll(f *FS) (first error) {
	paths := 0
	_ = fs.WalkDir(f, ".", func(_ string, _ fs.DirEntry, err error) error {
		if paths++; paths > 1000 {
			first = errors.New("endless")
			return fs.SkipAll
		}
		if err != nil && first == nil {
			first = err
		}
		return nil
	})
	return first
}

// redirect lets an entry lead to the inode of another path.
func redirect(t *testing.T, b []byte, name, path string) {
	t.Helper()
	f, err := openBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.walk(path)
	if err != nil {
		t.Fatal(err)
	}
	parent := f.root
	if name == "deep" {
		if parent, err = f.walk("dir"); err != nil {
			t.Fatal(err)
		}
	}
	before, _, err := parent.find(name)
	if err != nil {
		t.Fatal(err)
	}
	at := entryAt(t, b, name)
	delta := binary.LittleEndian.Uint16(b[at+2:]) + uint16(n.number-before.number)
	binary.LittleEndian.PutUint16(b[at:], uint16(n.ref.offset()))
	binary.LittleEndian.PutUint16(b[at+2:], delta)
}

// A directory that contains itself, the root, or has two names.
func TestDirectoriesThatAreNoTree(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"dir", "."} {
		b := plainImage(t)
		redirect(t, b, "deep", target)
		f, err := openBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		err = walkAll(f)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "in two places") {
			t.Errorf("deep leads to %s: %v", target, err)
		}
	}
}

// What no image may say, by the field that says it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	le32 := binary.LittleEndian.PutUint32
	le16 := binary.LittleEndian.PutUint16
	for _, c := range []struct {
		name string
		hurt func(b []byte)
		want error
		text string
	}{
		{"magic", func(b []byte) { b[0]++ }, ErrNotSquashfs, "it starts with"},
		{"version", func(b []byte) { b[28] = 3 }, ErrUnsupported, "version 3.0"},
		{"lzma", func(b []byte) { b[20] = compLZMA }, ErrUnsupported, "lzma (version 1)"},
		{"compressor", func(b []byte) { b[20] = 9 }, ErrUnsupported, "compressor 9"},
		{"block size", func(b []byte) { le32(b[12:], 4097) }, ErrDamaged, "blocks of 4097 bytes"},
		{"block log", func(b []byte) { le16(b[22:], 13) }, ErrDamaged, "blocks of 4096 bytes (13 bits)"},
		{"size", func(b []byte) { le32(b[40:], 1<<30) }, ErrDamaged, "it has 1073741824 bytes"},
		{"table", func(b []byte) { le32(b[64:], 1<<30) }, ErrDamaged, "table of inodes at 1073741824"},
		{"root", func(b []byte) { le32(b[34:], 1<<30) }, ErrDamaged, "root directory"},
		{"name with a slash", func(b []byte) { b[entryAt(t, b, "deep")+8+1] = '/' }, ErrDamaged, `an entry "d/ep"`},
		{"dot", func(b []byte) { at := entryAt(t, b, "deep"); le16(b[at+6:], 0); b[at+8] = '.' }, ErrDamaged, `an entry "."`},
		{"order", func(b []byte) { b[entryAt(t, b, "text")+8] = 'a' }, ErrDamaged, `"aext" after "null"`},
		{"long name", func(b []byte) { le16(b[entryAt(t, b, "deep")+6:], 256) }, ErrDamaged, "a name of 257 bytes"},
		{"type", func(b []byte) { le16(b[entryAt(t, b, "text")+4:], kindDirWord) }, ErrDamaged, "where the directory has"},
		{"run", func(b []byte) { le32(b[entryAt(t, b, "again")-12:], 256) }, ErrDamaged, "a run of 257 entries"},
		{"owner", func(b []byte) { le16(b[inodeAt(t, b, "text")+4:], 9) }, ErrDamaged, "owner 9 of"},
		{"file size", func(b []byte) { le32(b[inodeAt(t, b, "text")+28:], 1<<31) }, ErrDamaged, "blocks"},
		{"fragment", func(b []byte) { le32(b[inodeAt(t, b, "text")+20:], 77) }, ErrDamaged, "fragment 77 of"},
		{"fragment's offset", func(b []byte) { le32(b[inodeAt(t, b, "text")+20:], 0); le32(b[inodeAt(t, b, "text")+24:], 4000) }, ErrDamaged, "of a fragment"},
		{"block word", func(b []byte) { le32(b[inodeAt(t, b, "text")+32:], 1<<25|7) }, ErrDamaged, "a block of 7 bytes"},
		{"block length", func(b []byte) { le32(b[inodeAt(t, b, "text")+32:], wordPlain|7) }, ErrDamaged, "a block of 7 bytes where 4096 belong"},
		{"data", func(b []byte) { le32(b[inodeAt(t, b, "text")+16:], 0) }, ErrDamaged, "4096 bytes at 0"},
		{"target", func(b []byte) { le32(b[inodeAt(t, b, "link")+20:], 1<<20) }, ErrDamaged, "a target of 1048576 bytes"},
		{"null in a target", func(b []byte) { b[inodeAt(t, b, "link")+24+1] = 0 }, ErrDamaged, "a target with a null"},
		{"number", func(b []byte) { le32(b[inodeAt(t, b, "link")+12:], 1<<20) }, ErrDamaged, "number 1048576 of"},
	} {
		b := plainImage(t)
		c.hurt(b)
		err := readEverything(b)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, without %q", c.name, err, c.text)
		}
	}
}

const kindDirWord = uint16(kindDir)

// readEverything returns the first error.
func readEverything(b []byte) error {
	f, err := openBytes(b)
	if err != nil {
		return err
	}
	return fs.WalkDir(f, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			_, err = info.Sys().(*Stat).Xattrs()
		}
		if err == nil && d.Type().IsRegular() {
			_, err = f.ReadFile(path)
		}
		return err
	})
}

// A block that would be longer than a block is not decompressed to its end.
func TestDecompressionIsBounded(t *testing.T) {
	t.Parallel()
	for compressor, b := range bombs(t) {
		decode, err := newCodec(compressor)
		if err != nil {
			t.Fatal(err)
		}
		f := &FS{codec: decode}
		if got, err := f.decompress(b, 1<<20); err != nil || len(got) != 1<<20 {
			t.Errorf("compressor %d: %d bytes, %v", compressor, len(got), err)
		}
		for _, limit := range []int{0, 1, 4096, 1<<20 - 1} {
			if got, err := f.decompress(b, limit); !errors.Is(err, ErrDamaged) || got != nil {
				t.Errorf("compressor %d, at most %d bytes: %d, %v", compressor, limit, len(got), err)
			}
		}
		// A block of lz4 has no end to miss, and xz's is after all that counts.
		for i := 1; i < len(b); i += 1 + len(b)/30 {
			if got, err := f.decompress(b[:i], 1<<20); err == nil && compressor != compXZ && compressor != compLZ4 {
				t.Errorf("compressor %d, cut at %d: %d bytes", compressor, i, len(got))
			}
		}
	}
}
