package erofs

import (
	"fmt"
	"io/fs"
	"math"
)

// long tells whether an inode needs the long form.
func (b *builder) long(e *entity) bool {
	return e.UID > math.MaxUint16 || e.GID > math.MaxUint16 || e.links > math.MaxUint16 || e.Size > math.MaxUint32 || e.time != b.built
}

// headSize is how many bytes an inode takes with its attributes.
func (b *builder) headSize(e *entity) int {
	size := slotSize
	if b.long(e) {
		size += slotSize
	}
	return size + b.shared.size(e.Attrs)
}

// inlineEnd is how many bytes at the end of e's data can be behind the inode: all
// that its blocks do not fill, if inode and end fit into a block.
func (b *builder) inlineEnd(e *entity) int {
	end := int(e.Size & (blockSize - 1))
	if b.headSize(e)+end > blockSize {
		return 0
	}
	return end
}

// appendHead appends an inode with its attributes. The data is what its layout
// says.
func (b *builder) appendHead(p []byte, e *entity, l layout, data uint32) []byte {
	long := b.long(e)
	p = le.AppendUint16(p, uint16(l)<<1|flag(long))
	count := 0
	if size := b.shared.size(e.Attrs); size > 0 {
		count = (size-xattrHead)/4 + 1
	}
	p = le.AppendUint16(p, uint16(count))
	p = le.AppendUint16(p, unixMode(e.Mode))
	if long {
		p = le.AppendUint16(p, 0)
		p = le.AppendUint64(p, uint64(e.Size))
	} else {
		p = le.AppendUint16(p, uint16(e.links))
		p = le.AppendUint32(p, uint32(e.Size))
		p = le.AppendUint32(p, 0)
	}
	p = le.AppendUint32(p, data)
	p = le.AppendUint32(p, e.index)
	if long {
		p = le.AppendUint32(p, e.UID)
		p = le.AppendUint32(p, e.GID)
		p = le.AppendUint64(p, uint64(e.time.seconds))
		p = le.AppendUint32(p, e.time.nanoseconds)
		p = le.AppendUint32(p, e.links)
		p = append(p, make([]byte, 16)...)
	} else {
		p = le.AppendUint16(p, uint16(e.UID))
		p = le.AppendUint16(p, uint16(e.GID))
		p = le.AppendUint32(p, 0)
	}
	return b.shared.append(p, e.Attrs)
}

func flag(b bool) uint16 {
	if b {
		return 1
	}
	return 0
}

// types are the numbers of kinds in directories and, of Linux, in modes.
var types = map[fs.FileMode]struct {
	dirent byte
	mode   uint16
}{
	0:                                 {1, 0o100000},
	fs.ModeDir:                        {2, 0o040000},
	fs.ModeDevice | fs.ModeCharDevice: {3, 0o020000},
	fs.ModeDevice:                     {4, 0o060000},
	fs.ModeNamedPipe:                  {5, 0o010000},
	fs.ModeSocket:                     {6, 0o140000},
	fs.ModeSymlink:                    {7, 0o120000},
}

// unixMode is a mode as Linux has it.
func unixMode(m fs.FileMode) uint16 {
	p := uint16(m.Perm()) | types[m.Type()].mode
	if m&fs.ModeSetuid != 0 {
		p |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		p |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		p |= 0o1000
	}
	return p
}

// writeRest writes the second part of the image: all inodes but those of
// directories, and the content of files.
func (b *builder) writeRest() error {
	b.buffer = make([]byte, sourceBuffer)
	b.known, b.seen, b.peers = map[fingerprint]*content{}, map[int64]bool{}, map[int64]int{}
	for _, e := range b.all {
		if e.Mode.IsRegular() {
			b.peers[e.Size]++
		}
	}
	for _, e := range b.all {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		var err error
		switch {
		case e.Mode.IsDir():
		case e.Mode.IsRegular():
			err = b.writeFile(e)
		default:
			b.writeSpecial(e)
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", e.path, err)
		}
		if b.out.err != nil {
			return b.out.err
		}
	}
	b.packer.closeAll()
	b.padEnd()
	return b.out.flush()
}

// padEnd adds a block where an inode without attributes or data behind it is the
// image's end: fsck.erofs 1.5 reads there what attributes would begin with.
func (b *builder) padEnd() {
	for _, e := range b.all {
		if b.out.next-e.at <= 2*slotSize && e.at+int64(b.headSize(e)) == b.out.next {
			b.out.append(zeros[:blockSize])
			return
		}
	}
}

// writeSpecial writes what is neither file nor directory.
func (b *builder) writeSpecial(e *entity) {
	switch {
	case e.Mode.Type() == fs.ModeSymlink:
		target := []byte(e.Target)
		if b.inlineEnd(e) > 0 {
			b.put(e, layoutInline, 0, target)
		} else {
			b.put(e, layoutPlain, uint32(b.out.append(target)>>blockBits), nil)
		}
	case e.Mode&fs.ModeDevice != 0:
		// As Linux's new_encode_dev.
		b.put(e, layoutPlain, e.Minor&0xff|e.Major<<8|(e.Minor&^0xff)<<12, nil)
	default:
		b.put(e, layoutPlain, 0, nil)
	}
}

// put writes an inode and what is behind it.
func (b *builder) put(e *entity, l layout, data uint32, behind []byte) {
	b.item = append(b.appendHead(b.item[:0], e, l, data), behind...)
	e.at = b.packer.put(b.item)
}
