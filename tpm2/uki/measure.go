package uki

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
)

// PCR is the register that unified kernel images are measured into.
const PCR = 11

// bank is one algorithm in which PCRs are kept.
type bank struct {
	name string
	hash func() hash.Hash
}

func banks() []bank {
	return []bank{{"sha1", sha1.New}, {"sha256", sha256.New}, {"sha384", sha512.New384}, {"sha512", sha512.New}}
}

// Banks returns the names of the PCR banks that can be predicted.
func Banks() []string {
	var names []string
	for _, b := range banks() {
		names = append(names, b.name)
	}
	return names
}

func bankByName(name string) (bank, error) {
	for _, b := range banks() {
		if b.name == name {
			return b, nil
		}
	}
	return bank{}, fmt.Errorf("unknown PCR bank %q", name)
}

// extend is what a TPM does to a PCR to which something is added. It takes the
// digest of that.
func (b bank) extend(pcr, digest []byte) []byte {
	h := b.hash()
	h.Write(pcr)
	h.Write(digest)
	return h.Sum(nil)
}

// digest hashes a text.
func (b bank) digest(text string) []byte {
	h := b.hash()
	h.Write([]byte(text))
	return h.Sum(nil)
}

// Measurement is PCR 11 after the stub has measured an image, in some banks.
type Measurement struct{ values map[string][]byte }

// piece is how much is read at a time.
const piece = 256 << 10

// Measure reads sections once and computes what they come to in banks, those of
// [Banks] if none is named. Sections without content count as absent, as they do
// for the stub; the order in which they are given does not matter.
func Measure(ctx context.Context, sections []Section, names ...string) (*Measurement, error) {
	var list []bank
	if len(names) == 0 {
		list = banks()
	}
	m := &Measurement{map[string][]byte{}}
	for _, name := range names {
		b, err := bankByName(name)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	for _, b := range list {
		m.values[b.name] = make([]byte, b.hash().Size())
	}
	sorted, err := inOrder(sections)
	if err != nil {
		return nil, err
	}
	for _, s := range sorted {
		if err := m.add(ctx, s, list); err != nil {
			return nil, fmt.Errorf("section .%s: %w", s.Name, err)
		}
	}
	return m, nil
}

// inOrder sorts sections as they are measured.
func inOrder(sections []Section) ([]Section, error) {
	order := Names()
	for i, s := range sections {
		if !slices.Contains(order, s.Name) {
			return nil, fmt.Errorf("no section .%s is measured", s.Name)
		}
		if slices.ContainsFunc(sections[:i], func(o Section) bool { return o.Name == s.Name }) {
			return nil, fmt.Errorf("two .%s sections", s.Name)
		}
	}
	sorted := slices.Clone(sections)
	slices.SortFunc(sorted, func(a, b Section) int { return slices.Index(order, a.Name) - slices.Index(order, b.Name) })
	return sorted, nil
}

// add measures one section: its name with the NUL at its end, then its content.
func (m *Measurement) add(ctx context.Context, s Section, list []bank) error {
	var hashes []hash.Hash
	for _, b := range list {
		hashes = append(hashes, b.hash())
	}
	var all []io.Writer
	for _, h := range hashes {
		all = append(all, h)
	}
	total, err := io.CopyBuffer(io.MultiWriter(all...), interruptible{ctx, s.Content}, make([]byte, piece))
	if err != nil {
		return err
	}
	if total == 0 {
		return nil
	}
	for i, b := range list {
		named := b.extend(m.values[b.name], b.digest("."+s.Name+"\x00"))
		m.values[b.name] = b.extend(named, hashes[i].Sum(nil))
	}
	return nil
}

// interruptible is a reader that ends with its context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(b []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(b)
}

// PCR11 returns the value of the PCR in a bank once the boot has come to a phase.
func (m *Measurement) PCR11(name string, phase Phase) ([]byte, error) {
	b, err := bankByName(name)
	if err != nil {
		return nil, err
	}
	value, ok := m.values[name]
	if !ok {
		return nil, fmt.Errorf("PCR bank %s is not among those measured", name)
	}
	for _, word := range phase {
		value = b.extend(value, b.digest(word))
	}
	return slices.Clone(value), nil
}

// Phase is how far a boot has come: the words measured so far.
type Phase []string

// ParsePhase reads words joined by colons. Empty words do not count, so ":" is
// the phase before the first word.
func ParsePhase(text string) Phase {
	return slices.DeleteFunc(strings.Split(text, ":"), func(word string) bool { return word == "" })
}

// String returns the words joined by colons, "" for none.
func (p Phase) String() string { return strings.Join(p, ":") }

// DefaultPhases returns those of a boot with systemd, from the start of the
// initrd until the system is up.
func DefaultPhases() []Phase {
	words := Phase{"enter-initrd", "leave-initrd", "sysinit", "ready"}
	var list []Phase
	for i := range words {
		list = append(list, words[:i+1:i+1])
	}
	return list
}
