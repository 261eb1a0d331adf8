package squashfs

import (
	"context"
	"fmt"
	"math"
)

// listed is where the listing of a directory is.
type listed struct {
	start ref
	size  int
	index []indexed
}

// indexed is an entry of a directory's index: where in the listing a run begins.
type indexed struct {
	offset int
	block  int64
	first  string
}

// inodeWriter writes inodes and listings. Each needs the places of others, so
// what is below a directory comes before it.
type inodeWriter struct {
	b       *builder
	ctx     context.Context
	inodes  metaWriter
	entries metaWriter
}

// directory writes the inodes in a directory, next to each other, and its
// listing, but not its own inode, which is written with its neighbours.
func (w *inodeWriter) directory(d *node) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	for _, c := range d.children {
		if c.node.kind != kindDir {
			continue
		}
		if err := w.directory(c.node); err != nil {
			return err
		}
	}
	for _, c := range d.children {
		if err := w.inode(c.node); err != nil {
			return fmt.Errorf("%s: %w", c.node.path, err)
		}
	}
	if err := w.list(d); err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	return w.entries.err
}

// inode writes an inode, unless another name of it was there before.
func (w *inodeWriter) inode(n *node) error {
	if n.ref != noRef {
		return nil
	}
	n.ref = w.inodes.pos()
	b := w.head(n)
	switch n.kind {
	case kindDir:
		b = appendDir(b, n)
	case kindFile:
		b = appendFile(b, n)
	case kindLink:
		b = le.AppendUint32(b, n.links)
		b = le.AppendUint32(b, uint32(len(n.Target)))
		b = append(b, n.Target...)
	case kindBlock, kindChar:
		b = le.AppendUint32(b, n.links)
		// Linux's packing: the minor number grew around the major one.
		b = le.AppendUint32(b, n.Minor&0xff|n.Major<<8|n.Minor&^0xff<<12)
	default:
		b = le.AppendUint32(b, n.links)
	}
	if n.extended() && n.kind != kindDir && n.kind != kindFile {
		b = le.AppendUint32(b, n.attrs)
	}
	w.inodes.write(b)
	return w.inodes.err
}

// noRef is the place of what has none yet.
const noRef = ref(math.MaxUint64)

// head is what all inodes have.
func (w *inodeWriter) head(n *node) []byte {
	k := uint16(n.kind)
	if n.extended() {
		k += extended
	}
	b := le.AppendUint16(nil, k)
	b = le.AppendUint16(b, permissions(n.Mode))
	b = le.AppendUint16(b, w.b.ids[n.UID])
	b = le.AppendUint16(b, w.b.ids[n.GID])
	b = le.AppendUint32(b, w.b.seconds(n.ModTime))
	return le.AppendUint32(b, n.number)
}

// extended tells whether an inode needs fields that the basic ones lack.
func (n *node) extended() bool {
	switch {
	case n.attrs != none:
		return true
	case n.kind == kindDir:
		return n.listing.size > math.MaxUint16 || n.listing.index != nil
	case n.kind == kindFile:
		return n.links > 1 || n.Size > math.MaxUint32 || n.content.start > math.MaxUint32 || n.content.holes > 0
	}
	return false
}

func appendDir(b []byte, n *node) []byte {
	l := &n.listing
	if !n.extended() {
		b = le.AppendUint32(b, uint32(l.start.block()))
		b = le.AppendUint32(b, n.links)
		b = le.AppendUint16(b, uint16(l.size))
		b = le.AppendUint16(b, uint16(l.start.offset()))
		return le.AppendUint32(b, n.parent)
	}
	b = le.AppendUint32(b, n.links)
	b = le.AppendUint32(b, uint32(l.size))
	b = le.AppendUint32(b, uint32(l.start.block()))
	b = le.AppendUint32(b, n.parent)
	b = le.AppendUint16(b, uint16(len(l.index)))
	b = le.AppendUint16(b, uint16(l.start.offset()))
	b = le.AppendUint32(b, n.attrs)
	for _, x := range l.index {
		b = le.AppendUint32(b, uint32(x.offset))
		b = le.AppendUint32(b, uint32(x.block))
		b = le.AppendUint32(b, uint32(len(x.first)-1))
		b = append(b, x.first...)
	}
	return b
}

func appendFile(b []byte, n *node) []byte {
	c := n.content
	if n.extended() {
		b = le.AppendUint64(b, uint64(c.start))
		b = le.AppendUint64(b, uint64(n.Size))
		b = le.AppendUint64(b, uint64(c.holes))
		b = le.AppendUint32(b, n.links)
		b = le.AppendUint32(b, c.fragment)
		b = le.AppendUint32(b, c.offset)
		b = le.AppendUint32(b, n.attrs)
	} else {
		b = le.AppendUint32(b, uint32(c.start))
		b = le.AppendUint32(b, c.fragment)
		b = le.AppendUint32(b, c.offset)
		b = le.AppendUint32(b, uint32(n.Size))
	}
	for _, word := range c.words {
		b = le.AppendUint32(b, word)
	}
	return b
}

// list writes the listing of a directory.
func (w *inodeWriter) list(d *node) error {
	l := listed{start: w.entries.pos(), size: dots}
	offset := 0 // in the listing
	for at := 0; at < len(d.children); {
		pos := w.entries.pos()
		if at > 0 && pos.block() != l.lastBlock() {
			l.index = append(l.index, indexed{offset, pos.block(), d.children[at].name})
		}
		run, n := appendRun(nil, d.children[at:], metaSize-pos.offset())
		w.entries.write(run)
		offset, at = offset+len(run), at+n
		if offset > maxListing {
			return unsuitable("a listing of more than %d bytes", maxListing)
		}
	}
	l.size += offset
	d.listing = l
	return nil
}

// lastBlock is where the last index entry leads, or the listing starts.
func (l *listed) lastBlock() int64 {
	if len(l.index) > 0 {
		return l.index[len(l.index)-1].block
	}
	return l.start.block()
}

const runSize = 256 // most entries of a run

// appendRun appends a head and entries that it suits, and returns their number.
// These end with the one that leaves the room in the block, so that the next run
// can be in the index.
func appendRun(b []byte, list []name, room int) ([]byte, int) {
	first := list[0].node
	start := len(b)
	b = append(b, make([]byte, 4)...)
	b = le.AppendUint32(b, uint32(first.ref.block()))
	b = le.AppendUint32(b, first.number)
	count := 0
	for _, e := range list[:min(len(list), runSize)] {
		n := e.node
		delta := int64(n.number) - int64(first.number)
		if n.ref.block() != first.ref.block() || delta != int64(int16(delta)) || count > 0 && len(b)-start >= room {
			break
		}
		b = le.AppendUint16(b, uint16(n.ref.offset()))
		b = le.AppendUint16(b, uint16(delta))
		b = le.AppendUint16(b, uint16(n.kind))
		b = le.AppendUint16(b, uint16(len(e.name)-1))
		b = append(b, e.name...)
		count++
	}
	le.PutUint32(b[start:], uint32(count-1))
	return b, count
}
