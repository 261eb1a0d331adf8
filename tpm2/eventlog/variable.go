package eventlog

import (
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"strings"
)

// guid is an EFI GUID as it lies in memory.
type guid [16]byte

func (g guid) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[:]),
		binary.LittleEndian.Uint16(g[4:]), binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:])
}

// Owners of variables, as text.
const (
	globalVariables  = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	securityDatabase = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
)

func (c *cursor) guid() guid {
	var g guid
	copy(g[:], c.bytes(uint64(len(g))))
	return g
}

// variable is an EFI variable as it is measured (UEFI_VARIABLE_DATA).
type variable struct {
	owner string
	name  []byte // UTF-16
	value []byte
}

func parseVariable(b []byte) (variable, error) {
	c := &cursor{b: b}
	v := variable{owner: c.guid().String()}
	chars, size := c.u64(), c.u64()
	if chars > uint64(len(b)) { // or twice as many would overflow
		chars = uint64(len(b))
	}
	v.name = c.bytes(2 * chars)
	v.value = c.bytes(size)
	return v, c.err
}

func (v variable) is(owner, name string) bool {
	return v.owner == owner && len(v.name) == 2*len(name) && utf16Text(v.name) == name
}

// label is the name, fit for a person.
func (v variable) label() string {
	return readable(strings.TrimRight(utf16Text(clip(v.name)), "\x00"))
}

// SecureBoot tells whether Secure Boot was on, as far as the firmware says.
func (l *Log) SecureBoot() (on, known bool) {
	for _, e := range l.Events {
		if e.System || e.PCR != 7 || e.Type != efiVariableDriver {
			continue
		}
		v, err := parseVariable(e.Data)
		if err == nil && v.is(globalVariables, "SecureBoot") && len(v.value) <= 1 {
			on, known = len(v.value) == 1 && v.value[0] == 1, true
		}
	}
	return on, known
}

func sayVariable(e Event) string {
	v, err := parseVariable(e.Data)
	name := v.label()
	if err != nil || name == "" {
		return ""
	}
	switch {
	case v.is(globalVariables, "SecureBoot"):
		return "Secure Boot variable SecureBoot (" + onOff(v.value) + ")"
	case v.is(globalVariables, "BootOrder"):
		return "boot order " + bootOrder(v.value)
	case v.owner == globalVariables && isBootEntry(name):
		return "boot entry " + name + bootEntry(v.value)
	case e.PCR == 7 && (v.owner == globalVariables || v.owner == securityDatabase):
		return "Secure Boot variable " + name + " (" + signatures(v.value) + ")"
	}
	return "EFI variable " + name + " (" + amount(v.value) + ")"
}

func onOff(value []byte) string {
	if len(value) == 1 && value[0] == 1 {
		return "on"
	}
	return "off"
}

func amount(value []byte) string {
	if len(value) == 0 {
		return "empty"
	}
	return size(uint64(len(value)))
}

func bootOrder(value []byte) string {
	var list []string
	c := &cursor{b: clip(value)}
	for c.off+2 <= len(c.b) {
		list = append(list, fmt.Sprintf("%04X", c.u16()))
	}
	return strings.Join(list, ", ")
}

func isBootEntry(name string) bool {
	digits, ok := strings.CutPrefix(name, "Boot")
	return ok && len(digits) == 4 && strings.Trim(digits, "0123456789ABCDEF") == ""
}

// bootEntry takes the description out of a load option.
func bootEntry(value []byte) string {
	c := &cursor{b: clip(value)}
	c.bytes(6) // attributes, length of the path
	if title := strings.TrimSpace(readable(c.utf16z())); title != "" {
		return " (" + title + ")"
	}
	return ""
}

// sayAuthority tells which entry of which list allowed an image to run.
func sayAuthority(e Event) string {
	v, err := parseVariable(e.Data)
	name := v.label()
	if err != nil || name == "" {
		return ""
	}
	s := "Secure Boot authority " + name
	if subject := certificate(v.value); subject != "" {
		return s + ": " + subject
	}
	if t := text(v.value); t != "" {
		return s + ": " + t
	}
	return s + " (" + amount(v.value) + ")"
}

// signatures counts the entries of a database of Secure Boot.
func signatures(value []byte) string {
	const x509, headerSize = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072", 28
	certificates, others := uint64(0), uint64(0)
	c := &cursor{b: value}
	for c.off < len(value) {
		kind, all, header, each := c.guid(), uint64(c.u32()), uint64(c.u32()), uint64(c.u32())
		if c.err != nil || each == 0 || all < headerSize+header || all-headerSize > uint64(len(value)-c.off) {
			return amount(value)
		}
		c.bytes(all - headerSize)
		if n := (all - headerSize - header) / each; kind.String() == x509 {
			certificates += n
		} else {
			others += n
		}
	}
	switch {
	case certificates > 0 && others > 0:
		return count(certificates, "certificate") + ", " + count(others, "hash")
	case others > 0:
		return count(others, "hash")
	case certificates > 0:
		return count(certificates, "certificate")
	}
	return amount(value)
}

// certificate returns the subject of an entry that is a certificate: it has the
// GUID of who put it there in front.
func certificate(entry []byte) string {
	const ownerSize, most = 16, 64 << 10
	if len(entry) <= ownerSize || len(entry) > most {
		return ""
	}
	cert, err := x509.ParseCertificate(entry[ownerSize:])
	if err != nil {
		return ""
	}
	if cert.Subject.CommonName != "" {
		return quote(cert.Subject.CommonName)
	}
	return quote(cert.Subject.String())
}
