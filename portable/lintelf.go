package portable

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// Bounds on what is read of an ELF file. The kernel takes 64 KiB of program
// headers and a path for the loader.
const (
	maxSegments = 64 << 10 / 56
	maxSections = 4096
	maxDynamic  = 4096 // entries
	maxNeeded   = 512
	maxPath     = 4096
	maxSoname   = 256
)

// errELF: a file begins as an ELF file but does not go on as one.
var errELF = errors.New("a damaged ELF file")

// machines are the ELF header's machine, class and byte order of architectures.
var machines = map[string]elfKind{
	"x86-64": {elf.EM_X86_64, elf.ELFCLASS64, elf.ELFDATA2LSB}, "x86": {elf.EM_386, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"arm64": {elf.EM_AARCH64, elf.ELFCLASS64, elf.ELFDATA2LSB}, "arm": {elf.EM_ARM, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"riscv64": {elf.EM_RISCV, elf.ELFCLASS64, elf.ELFDATA2LSB}, "loongarch64": {elf.EM_LOONGARCH, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"ppc64-le": {elf.EM_PPC64, elf.ELFCLASS64, elf.ELFDATA2LSB}, "ppc64": {elf.EM_PPC64, elf.ELFCLASS64, elf.ELFDATA2MSB},
	"s390x": {elf.EM_S390, elf.ELFCLASS64, elf.ELFDATA2MSB}, "mips64-le": {elf.EM_MIPS, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"mips64": {elf.EM_MIPS, elf.ELFCLASS64, elf.ELFDATA2MSB},
}

// elfKind is what has to fit between a program, its libraries and the machine.
type elfKind struct {
	machine elf.Machine
	class   elf.Class
	data    elf.Data
}

// word is the name of the architecture.
func (k elfKind) word() string {
	for word, kind := range machines {
		if kind == k {
			return word
		}
	}
	return strings.ToLower(strings.TrimPrefix(k.machine.String(), "EM_"))
}

// elfFile is what the kernel and the loader look at.
type elfFile struct {
	elfKind
	interp  string // "" for a static program
	needed  []string
	rpath   string
	runpath string
	golang  bool
}

// elfReader reads the parts of a file. It goes by the program headers, as the
// kernel does; package debug/elf goes by the sections, which may be missing, and
// is not made for hostile files.
type elfReader struct {
	r        io.ReaderAt
	order    binary.ByteOrder
	wide     bool // 64 bits
	segments []elf.ProgHeader
}

// readELF reads an ELF file. The amount of memory and of reads is bounded,
// whatever the file says.
func readELF(r io.ReaderAt) (*elfFile, error) {
	e := &elfReader{r: r}
	f := &elfFile{}
	h, err := e.header(f)
	if err == nil {
		err = e.readSegments(h)
	}
	for _, s := range e.segments {
		switch {
		case err != nil:
		case s.Type == elf.PT_INTERP:
			f.interp, err = e.text(s.Off, min(s.Filesz, maxPath))
		case s.Type == elf.PT_DYNAMIC:
			err = e.dynamic(f, s)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errELF, err)
	}
	f.golang = e.hasGo(h)
	return f, nil
}

// at decodes a structure at an offset.
func (e *elfReader) at(off uint64, into any) error {
	b := make([]byte, binary.Size(into))
	if off > math.MaxInt64-uint64(len(b)) {
		return io.ErrUnexpectedEOF
	}
	if n, err := e.r.ReadAt(b, int64(off)); n < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return binary.Read(bytes.NewReader(b), e.order, into)
}

// text reads a string of at most so many bytes with its zero.
func (e *elfReader) text(off, most uint64) (string, error) {
	if off > math.MaxInt64-most {
		return "", io.ErrUnexpectedEOF
	}
	b := make([]byte, most)
	n, err := e.r.ReadAt(b, int64(off))
	if i := bytes.IndexByte(b[:n], 0); i >= 0 {
		return string(b[:i]), nil
	}
	if err == nil || err == io.EOF {
		err = errors.New("a string has no end")
	}
	return "", err
}

// header reads the head of the file.
func (e *elfReader) header(f *elfFile) (h elf.Header64, err error) {
	var ident [elf.EI_NIDENT]byte
	e.order = binary.LittleEndian
	if err := e.at(0, &ident); err != nil {
		return h, err
	}
	f.class, f.data = elf.Class(ident[elf.EI_CLASS]), elf.Data(ident[elf.EI_DATA])
	if f.data == elf.ELFDATA2MSB {
		e.order = binary.BigEndian
	}
	switch f.class {
	case elf.ELFCLASS64:
		e.wide = true
		err = e.at(0, &h)
	case elf.ELFCLASS32:
		var n elf.Header32
		err = e.at(0, &n)
		h = elf.Header64{Machine: n.Machine, Phoff: uint64(n.Phoff), Phentsize: n.Phentsize, Phnum: n.Phnum,
			Shoff: uint64(n.Shoff), Shentsize: n.Shentsize, Shnum: n.Shnum, Shstrndx: n.Shstrndx}
	default:
		return h, errors.New("neither 32 nor 64 bits")
	}
	f.machine = elf.Machine(h.Machine)
	return h, err
}

func (e *elfReader) readSegments(h elf.Header64) error {
	if h.Phnum > maxSegments {
		return fmt.Errorf("%d segments", h.Phnum)
	}
	for i := range uint64(h.Phnum) {
		var p elf.Prog64
		off := h.Phoff + i*uint64(h.Phentsize)
		if e.wide {
			if err := e.at(off, &p); err != nil {
				return err
			}
		} else {
			var n elf.Prog32
			if err := e.at(off, &n); err != nil {
				return err
			}
			p = elf.Prog64{Type: n.Type, Off: uint64(n.Off), Vaddr: uint64(n.Vaddr), Filesz: uint64(n.Filesz)}
		}
		e.segments = append(e.segments, elf.ProgHeader{Type: elf.ProgType(p.Type), Off: p.Off, Vaddr: p.Vaddr, Filesz: p.Filesz})
	}
	return nil
}

// dynamic reads what the loader is told.
func (e *elfReader) dynamic(f *elfFile, s elf.ProgHeader) error {
	var table uint64
	offsets := map[elf.DynTag][]uint64{}
	for i := range uint64(maxDynamic) {
		size := uint64(16)
		var d elf.Dyn64
		var err error
		if e.wide {
			err = e.at(s.Off+i*size, &d)
		} else {
			var n elf.Dyn32
			size = 8
			err = e.at(s.Off+i*size, &n)
			d = elf.Dyn64{Tag: int64(n.Tag), Val: uint64(n.Val)}
		}
		if err != nil {
			return err
		}
		tag := elf.DynTag(d.Tag)
		if tag == elf.DT_NULL || (i+1)*size > s.Filesz {
			break
		}
		if tag == elf.DT_STRTAB {
			table = d.Val
		}
		if len(offsets[tag]) < maxNeeded {
			offsets[tag] = append(offsets[tag], d.Val)
		}
	}
	for _, off := range offsets[elf.DT_NEEDED] {
		name, err := e.string(table, off, maxSoname)
		if err != nil {
			return err
		}
		f.needed = append(f.needed, name)
	}
	return errors.Join(e.single(&f.rpath, table, offsets[elf.DT_RPATH]), e.single(&f.runpath, table, offsets[elf.DT_RUNPATH]))
}

func (e *elfReader) single(into *string, table uint64, offsets []uint64) (err error) {
	if len(offsets) > 0 {
		*into, err = e.string(table, offsets[0], maxPath)
	}
	return err
}

// string reads from the table of strings, whose address in memory is given.
func (e *elfReader) string(table, off, most uint64) (string, error) {
	address := table + off
	for _, s := range e.segments {
		if s.Type == elf.PT_LOAD && address >= s.Vaddr && address-s.Vaddr < s.Filesz {
			return e.text(address-s.Vaddr+s.Off, most)
		}
	}
	return "", errors.New("a string is outside of the file")
}

// hasGo tells whether the Go linker made the program: it leaves sections of its
// own names, and a note called "Go" where there are no sections.
func (e *elfReader) hasGo(h elf.Header64) bool {
	for _, s := range e.segments {
		var note struct {
			Name, Desc, Type uint32
			Text             [4]byte
		}
		if s.Type == elf.PT_NOTE && e.at(s.Off, &note) == nil && note.Name == 4 && string(note.Text[:]) == "Go\x00\x00" {
			return true
		}
	}
	names, ok := e.section(h, uint64(h.Shstrndx))
	if !ok || h.Shnum > maxSections {
		return false
	}
	for i := range uint64(h.Shnum) {
		s, ok := e.section(h, i)
		if !ok {
			return false
		}
		name, err := e.text(names.Off+uint64(s.Name), 32)
		if err == nil && (name == ".go.buildinfo" || name == ".gopclntab" || name == ".note.go.buildid") {
			return true
		}
	}
	return false
}

func (e *elfReader) section(h elf.Header64, i uint64) (s elf.Section64, ok bool) {
	if h.Shoff == 0 {
		return s, false
	}
	off := h.Shoff + i*uint64(h.Shentsize)
	if e.wide {
		return s, e.at(off, &s) == nil
	}
	var n elf.Section32
	err := e.at(off, &n)
	return elf.Section64{Name: n.Name, Off: uint64(n.Off)}, err == nil
}
