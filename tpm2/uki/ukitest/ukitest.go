// Package ukitest makes PE files for tests: unified kernel images that have all
// sections but no program.
package ukitest

import (
	"bytes"
	"encoding/binary"
)

// Section is one entry of the table of sections.
type Section struct {
	Name    string // with its dot
	Content string
	Size    uint32 // in memory; 0 for that of the content
}

// Kind is what kind of PE file is made.
type Kind struct {
	Machine uint16 // 0 for x86-64
	PE32    bool   // with the header of 32 bits
}

// Where things are in the files that [Build] makes.
const (
	PE       = 0x80           // the PE signature
	Optional = PE + 24        // the optional header
	Table64  = Optional + 240 // the table of sections
	Table32  = Optional + 224

	fileAlign, memoryAlign = 0x200, 0x1000
)

func align(n, to int) int { return (n + to - 1) / to * to }

// Build makes an image of 64 bits for x86-64.
func Build(sections ...Section) []byte { return Kind{}.Build(sections...) }

// Build makes an image of the kind.
func (k Kind) Build(sections ...Section) []byte {
	magic, optionalSize, machine := 0x20b, Table64-Optional, uint16(0x8664)
	if k.PE32 {
		magic, optionalSize = 0x10b, Table32-Optional
	}
	if k.Machine != 0 {
		machine = k.Machine
	}
	headers := align(Optional+optionalSize+40*len(sections), fileAlign)
	table, content := new(bytes.Buffer), new(bytes.Buffer)
	address := align(headers, memoryAlign)
	for _, s := range sections {
		size := max(s.Size, uint32(len(s.Content)))
		if s.Size != 0 {
			size = s.Size
		}
		var e [40]byte
		copy(e[:8], s.Name)
		inFile := align(len(s.Content), fileAlign)
		put32(e[8:], size, uint32(address), uint32(inFile), uint32(headers+content.Len()))
		table.Write(e[:])
		content.WriteString(s.Content)
		// What fills the file up to the next section must not count.
		content.Write(bytes.Repeat([]byte{0xcc}, inFile-len(s.Content)))
		address = align(address+max(int(size), 1), memoryAlign)
	}
	head := make([]byte, headers)
	copy(head, "MZ")
	put32(head[0x3c:], PE)
	copy(head[PE:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(head[PE+4:], machine)
	binary.LittleEndian.PutUint16(head[PE+6:], uint16(len(sections)))
	binary.LittleEndian.PutUint16(head[PE+20:], uint16(optionalSize))
	binary.LittleEndian.PutUint16(head[Optional:], uint16(magic))
	put32(head[Optional+56:], uint32(address), uint32(headers))
	binary.LittleEndian.PutUint16(head[Optional+68:], 10)
	copy(head[Optional+optionalSize:], table.Bytes())
	return append(head, content.Bytes()...)
}

func put32(b []byte, values ...uint32) {
	for i, v := range values {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
}
