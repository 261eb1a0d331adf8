package squashfs

import (
	"encoding/binary"
	"fmt"
	"io/fs"
)

// A lookup table is an array of equal entries in metadata blocks, with a list of
// where these are.

// tableEntry reads an entry of a table whose list is at this position. Entries
// do not cross blocks, for their sizes are powers of two.
func (f *FS) tableEntry(list int64, index uint32, size int) (*cursor, error) {
	perBlock := metaSize / size
	where := list + 8*int64(index/uint32(perBlock))
	if list < 0 || where > f.super.used-8 {
		return nil, damage("entry %d of a table at %d", index, list)
	}
	var b [8]byte
	if err := f.readFull(b[:], where); err != nil {
		return nil, err
	}
	at := int64(binary.LittleEndian.Uint64(b[:]))
	data, _, err := f.metaBlock(at, region{superblockSize, f.super.used})
	if err != nil {
		return nil, err
	}
	from := int(index%uint32(perBlock)) * size
	if from+size > len(data) {
		return nil, damage("entry %d of a table, where its block ends", index)
	}
	return &cursor{b: data[from : from+size]}, nil
}

// readIDs reads the users and groups, which inodes have by index. There are no
// more than 65535.
func (f *FS) readIDs() error {
	for i := range f.super.ids {
		c, err := f.tableEntry(f.super.idTable, uint32(i), 4)
		if err != nil {
			return err
		}
		f.ids = append(f.ids, c.u32())
	}
	return nil
}

func (f *FS) owner(index uint16) (uint32, error) {
	if int(index) >= len(f.ids) {
		return 0, damage("owner %d of %d", index, len(f.ids))
	}
	return f.ids[index], nil
}

// fragment returns a block of ends of files.
func (f *FS) fragment(index uint32) ([]byte, error) {
	if f.super.fragmentTable == noTable || index >= f.super.fragments {
		return nil, damage("fragment %d of %d", index, f.super.fragments)
	}
	c, err := f.tableEntry(f.super.fragmentTable, index, 16)
	if err != nil {
		return nil, fmt.Errorf("fragment %d: %w", index, err)
	}
	at, word := c.i64(), c.u32()
	size, err := f.checkWord(word)
	if err == nil && size == 0 {
		err = damage("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("fragment %d: %w", index, err)
	}
	data, err := f.dataBlock(at, word)
	if err != nil {
		return nil, fmt.Errorf("fragment %d: %w", index, err)
	}
	return data, nil
}

// ByNumber describes the inode with this number, through the export table that
// images have for NFS. Without the table the error is [fs.ErrNotExist]. The
// name is "".
func (f *FS) ByNumber(number uint32) (fs.FileInfo, error) {
	n, err := f.exported(number)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	return info{"", n}, nil
}

func (f *FS) exported(number uint32) (*inode, error) {
	if f.super.exportTable == noTable || number == 0 || number > f.super.inodes {
		return nil, fs.ErrNotExist
	}
	c, err := f.tableEntry(f.super.exportTable, number-1, 8)
	if err != nil {
		return nil, err
	}
	n, err := f.readInode(ref(c.u64()))
	if err == nil && n.number != number {
		err = damage("the export table leads to inode %d", n.number)
	}
	return n, err
}
