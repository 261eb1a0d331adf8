package erofs

import "slices"

// layOut gives the image's first part its places, the root first: its number has
// only 16 bits.
func (b *builder) layOut() error {
	p := &b.packer
	p.out = b.out
	p.add(b.out.take(1)).used = superblockAt + superblockSize
	for _, e := range b.all {
		if !e.Mode.IsDir() {
			continue
		}
		e.Size = listingSize(e)
		end := b.inlineEnd(e)
		_, e.at = p.place(b.headSize(e) + end)
		e.start = b.out.take((e.Size - int64(end) + blockSize - 1) >> blockBits)
	}
	if len(b.shared.area) > 0 {
		_, b.shared.at = p.place(len(b.shared.area))
	}
	if b.out.err != nil {
		return b.out.err
	}
	b.first = make([]byte, b.out.next)
	p.keep(b.first)
	return nil
}

// entries are those of a directory, with itself and its parent, in the order of
// their bytes.
func entries(d *entity) []child {
	list := append([]child{{".", d}, {"..", d.parent}}, d.children...)
	slices.SortFunc(list, func(a, b child) int {
		switch {
		case a.name < b.name:
			return -1
		case a.name > b.name:
			return 1
		}
		return 0
	})
	return list
}

// listingBlock is how many of the entries fit into one block, and their bytes.
func listingBlock(list []child) (n, size int) {
	for n < len(list) && size+direntSize+len(list[n].name) <= blockSize {
		size += direntSize + len(list[n].name)
		n++
	}
	return n, size
}

// listingSize is the size of a directory in bytes.
func listingSize(d *entity) (size int64) {
	for list := entries(d); ; size += blockSize {
		n, used := listingBlock(list)
		if list = list[n:]; len(list) == 0 {
			return size + int64(used)
		}
	}
}

// writeDirectory writes a directory to its place in the first part of the image.
func (b *builder) writeDirectory(d *entity) {
	listing := make([]byte, 0, d.Size)
	for list := entries(d); len(list) > 0; {
		n, used := listingBlock(list)
		listing = appendListing(listing, list[:n])
		if list = list[n:]; len(list) > 0 {
			listing = append(listing, make([]byte, blockSize-used)...)
		}
	}
	end := b.inlineEnd(d)
	row := len(listing) - end
	copy(b.first[d.start:], listing[:row])
	l := layoutPlain
	if end > 0 {
		l = layoutInline
	}
	head := b.appendHead(b.item[:0], d, l, uint32(d.start>>blockBits))
	copy(b.first[d.at:], append(head, listing[row:]...))
}

// appendListing appends a block of a directory.
func appendListing(b []byte, list []child) []byte {
	name := len(list) * direntSize
	for _, c := range list {
		b = le.AppendUint64(b, c.e.number())
		b = le.AppendUint16(b, uint16(name))
		b = append(b, types[c.e.Mode.Type()].dirent, 0)
		name += len(c.name)
	}
	for _, c := range list {
		b = append(b, c.name...)
	}
	return b
}
