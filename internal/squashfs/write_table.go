package squashfs

import "context"

// writeTables writes what follows the content, in the order and without gaps
// between, as the kernel checks it: inodes, directories, fragments, exports,
// owners, attributes.
func (b *builder) writeTables(ctx context.Context, s *superblock) error {
	c, err := b.codec.open()
	if err != nil {
		return err
	}
	if err := b.writeInodes(ctx, c, s); err != nil {
		return err
	}
	if s.fragmentTable, err = b.writeFragments(c); err != nil {
		return err
	}
	if !b.o.NoExport {
		if s.exportTable, err = b.writeExports(c); err != nil {
			return err
		}
	}
	ids := make([]byte, 0, 4*len(b.idList))
	for _, id := range b.idList {
		ids = le.AppendUint32(ids, id)
	}
	if s.idTable, err = b.writeLookup(c, ids, nil); err != nil {
		return err
	}
	s.attrTable, err = b.writeAttrs(c)
	return err
}

func (b *builder) writeInodes(ctx context.Context, c encoder, s *superblock) (err error) {
	w := &inodeWriter{b: b, ctx: ctx, inodes: metaWriter{c: c}, entries: metaWriter{c: c}}
	if err := w.directory(b.root); err != nil {
		return err
	}
	if err := w.inode(b.root); err != nil {
		return err
	}
	s.root = b.root.ref
	if s.inodeTable, err = w.inodes.finish(b.out); err != nil {
		return err
	}
	s.directoryTable, err = w.entries.finish(b.out)
	return err
}

func (b *builder) writeFragments(c encoder) (int64, error) {
	if len(b.fragments) == 0 {
		return noTable, nil
	}
	table := make([]byte, 0, 16*len(b.fragments))
	for _, f := range b.fragments {
		table = le.AppendUint64(table, uint64(f.at))
		table = le.AppendUint32(table, f.word)
		table = le.AppendUint32(table, 0)
	}
	return b.writeLookup(c, table, nil)
}

func (b *builder) writeExports(c encoder) (int64, error) {
	table := make([]byte, 0, 8*len(b.inodes))
	for _, n := range b.inodes {
		table = le.AppendUint64(table, uint64(n.ref))
	}
	return b.writeLookup(c, table, nil)
}

// writeLookup writes a lookup table: its blocks, and the list of where these
// are, with a head before it. It returns the position of the head.
func (b *builder) writeLookup(c encoder, table, head []byte) (int64, error) {
	m := metaWriter{c: c}
	var list []byte
	for len(table) > 0 {
		n := min(len(table), metaSize)
		list = le.AppendUint64(list, uint64(b.out.at)+uint64(len(m.done)))
		m.write(table[:n])
		m.flush()
		table = table[n:]
	}
	if _, err := m.finish(b.out); err != nil {
		return 0, err
	}
	at := b.out.at
	b.out.write(head)
	b.out.write(list)
	return at, b.out.err
}
