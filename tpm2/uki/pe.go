package uki

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// Bounds. The table has some fifty sections in the largest images that are about.
const (
	maxSections = 1024
	// maxPadding is how much of all sections may be zeros that are not in the file.
	maxPadding = 1 << 30
)

// Places in the file's headers: PE specification, "File Headers".
const (
	dosSize       = 0x40
	peOffset      = 0x3c // of the offset of the PE signature
	coffSize      = 4 + 20
	optionalLeast = 70 // up to the subsystem
	sectionSize   = 40

	magicPE32      = 0x10b
	magicPE32Plus  = 0x20b
	efiApplication = 10
)

// machines are the processors that EFI knows.
func machines() []uint16 {
	return []uint16{0x8664, 0xaa64, 0x14c, 0x1c2, 0x5064, 0x6264}
}

// header is the entry of one section. Addresses are below 2³² as is their sum
// with the sizes, in 64 bits.
type header struct {
	name           string // without the dot; "" for one that has none
	address, size  int64  // in memory
	offset, inFile int64  // in the file
}

// file reads the headers of a PE file.
type file struct {
	r    io.ReaderAt
	size int64
}

// read returns bytes at an offset, which are few.
func (f *file) read(what string, offset, n int64) ([]byte, error) {
	if offset > f.size || n > f.size-offset {
		return nil, fmt.Errorf("%s: the file ends too soon", what)
	}
	b := make([]byte, n)
	if _, err := f.r.ReadAt(b, offset); err != nil && (err != io.EOF) {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}

// headers returns the table of sections.
func (f *file) headers() ([]header, error) {
	dos, err := f.read("header", 0, min(dosSize, f.size))
	if err != nil {
		return nil, err
	}
	if len(dos) < dosSize || string(dos[:2]) != "MZ" {
		return nil, fmt.Errorf("%w: no PE file", ErrNotUKI)
	}
	at := int64(binary.LittleEndian.Uint32(dos[peOffset:]))
	coff, err := f.read("PE header", at, coffSize)
	if err != nil {
		return nil, err
	}
	if string(coff[:4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("%w: no PE file", ErrNotUKI)
	}
	if m := binary.LittleEndian.Uint16(coff[4:]); !slices.Contains(machines(), m) {
		return nil, fmt.Errorf("%w: PE file for machine %#x", ErrNotUKI, m)
	}
	n := int64(binary.LittleEndian.Uint16(coff[6:]))
	if n > maxSections {
		return nil, fmt.Errorf("%d sections, more than %d", n, maxSections)
	}
	optional := int64(binary.LittleEndian.Uint16(coff[20:]))
	limit, err := f.imageSize(at+coffSize, optional)
	if err != nil {
		return nil, err
	}
	table, err := f.read("section table", at+coffSize+optional, n*sectionSize)
	if err != nil {
		return nil, err
	}
	return f.sections(table, limit)
}

// imageSize reads the optional header, which is there in all programs, and
// returns how much memory the image takes.
func (f *file) imageSize(at, size int64) (int64, error) {
	if size < optionalLeast {
		return 0, fmt.Errorf("optional header of %d bytes", size)
	}
	b, err := f.read("optional header", at, optionalLeast)
	if err != nil {
		return 0, err
	}
	if m := binary.LittleEndian.Uint16(b); m != magicPE32 && m != magicPE32Plus {
		return 0, fmt.Errorf("optional header of kind %#x", m)
	}
	if s := binary.LittleEndian.Uint16(b[68:]); s != efiApplication {
		return 0, fmt.Errorf("%w: PE file for subsystem %d, no EFI program", ErrNotUKI, s)
	}
	return int64(binary.LittleEndian.Uint32(b[56:])), nil
}

// sections reads the entries of the table and checks each.
func (f *file) sections(table []byte, limit int64) ([]header, error) {
	var list []header
	var padding int64
	for ; len(table) > 0; table = table[sectionSize:] {
		field := func(at int) int64 { return int64(binary.LittleEndian.Uint32(table[at:])) }
		name, _, _ := bytes.Cut(table[:8], []byte{0})
		h := header{size: field(8), address: field(12), inFile: field(16), offset: field(20)}
		if len(name) > 0 && name[0] == '.' {
			h.name = string(name[1:])
		}
		if h.address+h.size > limit {
			return nil, fmt.Errorf("section %q: it ends outside the image's %d bytes of memory", name, limit)
		}
		if h.inFile > 0 && h.offset+h.inFile > f.size {
			return nil, fmt.Errorf("section %q: it ends at %d, outside the file of %d bytes", name, h.offset+h.inFile, f.size)
		}
		if padding += max(h.size-h.inFile, 0); padding > maxPadding {
			return nil, fmt.Errorf("section %q: more than %d bytes that are not in the file", name, maxPadding)
		}
		list = append(list, h)
	}
	return list, nil
}

// checkPlaces refuses sections that share memory, as happens when addresses were
// guessed and a kernel has grown since, or that share parts of the file.
func checkPlaces(table []header) error {
	for _, place := range []struct {
		what string
		span func(header) (int64, int64)
	}{
		{"memory", func(h header) (int64, int64) { return h.address, h.size }},
		{"the file", func(h header) (int64, int64) { return h.offset, h.inFile }},
	} {
		sorted := slices.Clone(table)
		sorted = slices.DeleteFunc(sorted, func(h header) bool { _, n := place.span(h); return n == 0 })
		slices.SortStableFunc(sorted, func(a, b header) int {
			x, _ := place.span(a)
			y, _ := place.span(b)
			return int(x - y)
		})
		for i := 1; i < len(sorted); i++ {
			start, size := place.span(sorted[i-1])
			if next, _ := place.span(sorted[i]); start+size > next {
				return fmt.Errorf("the sections .%s and .%s overlap in %s", sorted[i-1].name, sorted[i].name, place.what)
			}
		}
	}
	return nil
}

// content is the section as it is in memory, which is what gets measured: what
// the file has beyond it is left out, what it has too little is zeros.
func (h header) content(r io.ReaderAt) io.Reader {
	there := min(h.size, h.inFile)
	return io.MultiReader(&exactly{io.NewSectionReader(r, h.offset, there), there}, io.LimitReader(zeros{}, h.size-there))
}

// exactly is a reader that fails if it ends early: a file can shrink.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if e.left -= int64(n); err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
