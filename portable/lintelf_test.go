package portable

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// elfSpec says what makeELF is to make.
type elfSpec struct {
	arch    string // x86-64 without
	interp  string
	needed  []string
	rpath   string
	runpath string
	section string // the name of one
}

// makeELF writes an ELF file of the given content that is loaded to 0x10000.
func makeELF(s elfSpec) string {
	kind := machines["x86-64"]
	if s.arch != "" {
		kind = machines[s.arch]
	}
	var order binary.ByteOrder = binary.LittleEndian
	if kind.data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	wide := kind.class == elf.ELFCLASS64
	const base, room = 0x10000, 512 // the headers are in the first 512 bytes
	var body bytes.Buffer
	put := func(b []byte) (off uint64) {
		off = room + uint64(body.Len())
		body.Write(b)
		return off
	}
	write := func(w *bytes.Buffer, narrow, broad any) {
		if wide {
			_ = binary.Write(w, order, broad)
		} else {
			_ = binary.Write(w, order, narrow)
		}
	}
	interp := put([]byte(s.interp + "\x00"))
	table := "\x00"
	word := func(text string) uint64 { table += text + "\x00"; return uint64(len(table) - len(text) - 1) }
	var dyn bytes.Buffer
	entry := func(tag elf.DynTag, v uint64) {
		write(&dyn, elf.Dyn32{Tag: int32(tag), Val: uint32(v)}, elf.Dyn64{Tag: int64(tag), Val: v})
	}
	for _, n := range s.needed {
		entry(elf.DT_NEEDED, word(n))
	}
	if s.rpath != "" {
		entry(elf.DT_RPATH, word(s.rpath))
	}
	if s.runpath != "" {
		entry(elf.DT_RUNPATH, word(s.runpath))
	}
	entry(elf.DT_STRTAB, base+put([]byte(table)))
	entry(elf.DT_NULL, 0)
	dynamic := put(dyn.Bytes())
	names := put([]byte("\x00" + s.section + "\x00"))
	var sections bytes.Buffer
	for _, off := range []uint64{0, names} {
		write(&sections, elf.Section32{Name: 1, Off: uint32(off)}, elf.Section64{Name: 1, Off: off})
	}
	shoff := put(sections.Bytes())

	var out bytes.Buffer
	progs := []elf.Prog64{{Type: uint32(elf.PT_LOAD), Vaddr: base, Filesz: room + uint64(body.Len())}}
	if s.interp != "" {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: interp, Filesz: uint64(len(s.interp) + 1)})
	}
	progs = append(progs, elf.Prog64{Type: uint32(elf.PT_DYNAMIC), Off: dynamic, Filesz: uint64(dyn.Len())})
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(kind.class), byte(kind.data), 1}
	write(&out,
		elf.Header32{Ident: ident, Type: 2, Machine: uint16(kind.machine), Phoff: 52, Phentsize: 32, Phnum: uint16(len(progs)), Shoff: uint32(shoff), Shentsize: 40, Shnum: 2, Shstrndx: 1},
		elf.Header64{Ident: ident, Type: 2, Machine: uint16(kind.machine), Phoff: 64, Phentsize: 56, Phnum: uint16(len(progs)), Shoff: shoff, Shentsize: 64, Shnum: 2, Shstrndx: 1})
	for _, p := range progs {
		write(&out, elf.Prog32{Type: p.Type, Off: uint32(p.Off), Vaddr: uint32(p.Vaddr), Filesz: uint32(p.Filesz)}, p)
	}
	out.Write(make([]byte, room-out.Len()))
	out.Write(body.Bytes())
	return out.String()
}

func TestReadELF(t *testing.T) {
	t.Parallel()
	for arch, kind := range machines {
		spec := elfSpec{arch: arch, interp: "/lib/ld.so", needed: []string{"libc.so.6", "libm.so.6"}, rpath: "/r", runpath: "$ORIGIN/x", section: ".gopclntab"}
		want := &elfFile{elfKind: kind, interp: "/lib/ld.so", needed: spec.needed, rpath: "/r", runpath: "$ORIGIN/x", golang: true}
		have, err := readELF(bytes.NewReader([]byte(makeELF(spec))))
		if diff := cmp.Diff(want, have, cmp.AllowUnexported(elfFile{}, elfKind{})); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", arch, err, diff)
		}
		if kind.word() != arch {
			t.Errorf("%s is called %s", arch, kind.word())
		}
	}
}

// What package debug/elf says of real programs is what we say.
func TestReadELFLikeOthers(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	files, err := filepath.Glob("/usr/bin/[a-f]*")
	must(t, err)
	compared := 0
	for _, name := range append(files, self) {
		theirs, err := elf.Open(name)
		if err != nil {
			continue // a script
		}
		compared++
		f, err := os.Open(name)
		must(t, err)
		ours, err := readELF(f)
		must(t, err)
		needed, err := theirs.ImportedLibraries()
		must(t, err)
		golang := theirs.Section(".gopclntab") != nil || theirs.Section(".go.buildinfo") != nil
		if !slices.Equal(ours.needed, needed) || ours.golang != golang || ours.machine != theirs.Machine || (ours.interp == "") != (theirs.Section(".interp") == nil) {
			t.Errorf("%s: %+v and not %v, %v", name, ours, needed, golang)
		}
		must(t, errors.Join(f.Close(), theirs.Close()))
	}
	if compared == 0 {
		t.Error("nothing was compared")
	}
}

// A Go program is known by its notes, too, if it has no sections.
func TestGoWithoutSections(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(peer(t, "go"))
	must(t, err)
	if string(b[:4]) != elf.ELFMAG {
		t.Skip("go is no program of Linux")
	}
	for i := 40; i < 48; i++ {
		b[i] = 0 // the offset of the sections
	}
	if f, err := readELF(bytes.NewReader(b)); err != nil || !f.golang {
		t.Errorf("%+v, %v", f, err)
	}
}

func FuzzELF(f *testing.F) {
	for _, arch := range []string{"x86-64", "arm", "s390x"} {
		f.Add([]byte(makeELF(elfSpec{arch: arch, interp: "/lib/ld.so", needed: []string{"libc.so.6"}, section: ".gopclntab"})))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := readELF(bytes.NewReader(b))
		if (err == nil) != (e != nil) || err != nil && !errors.Is(err, errELF) {
			t.Errorf("%v, %v", e, err)
		}
		if e != nil && (len(e.needed) > maxNeeded || len(e.interp) > maxPath) {
			t.Error("more than there may be")
		}
	})
}
