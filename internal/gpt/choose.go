package gpt

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/lockport/lockport/internal/version"
)

// Why no choice among the partitions of an image can be made.
var (
	ErrNoRoot   = errors.New("no root or usr partition")
	ErrSeveral  = errors.New("several partitions of which only one can be used")
	ErrMismatch = errors.New("partitions that don't belong together")
)

// Wanted says what to choose the partitions for.
type Wanted struct {
	Architecture string  // of the machine; see [Architecture]
	Verity       *Verity // nil when hash trees and signatures don't matter

	// Unused says which partitions the image policy has ignored; nil says none.
	Unused func(Designator) bool
}

// Verity is what is known about the hash tree before the image is looked at.
type Verity struct {
	Of   Designator // Root or Usr; "" is Root when there is a hash, and else either
	Hash []byte     // root hash that is trusted, of 16 bytes at least; nil when there is none
}

// Chosen is one partition for the time that it is used.
type Chosen struct {
	Partition
	Architecture string // "" when its type has none
	Writable     bool
	Grow         bool // grow its file system to its size
}

// Choice has at most one partition of each designator. A generic Linux partition
// that serves as root is in it as [Root].
type Choice struct {
	Partitions map[Designator]Chosen
	Unused     map[Designator]bool // there, but ignored by the policy, and nothing else of the kind
	Protected  Designator          // Root or Usr when its reads are to be verified, else ""
}

// Choose takes the partitions that an image is used with, as systemd-dissect
// does: the native architecture before the secondary one before all others, the
// newest label (UAPI.10) among roots and usrs and their hash trees, the first of
// all else. With a root hash only the partitions that have it in their UUIDs are
// taken, half in that of the data, half in that of the tree (UAPI.2, "Verity").
// A var partition is taken whatever its UUID, as it is for services.
//
// It returns [ErrNoRoot], [ErrSeveral] and [ErrMismatch], wrapped.
func (t *Table) Choose(w Wanted) (*Choice, error) {
	if w.Verity != nil && w.Verity.Hash != nil && len(w.Verity.Hash) < 16 {
		return nil, fmt.Errorf("a root hash of %d bytes", len(w.Verity.Hash))
	}
	c := &Choice{Partitions: map[Designator]Chosen{}, Unused: map[Designator]bool{}}
	var generic []Partition
	for _, p := range t.Partitions {
		kind := p.Kind()
		if kind == (Kind{}) || kind.Designator == UserHome || p.hidden() || !w.Verity.admits(p) {
			continue
		}
		if kind.Designator == Generic {
			generic = append(generic, p)
			continue
		}
		c.offer(p, kind, w)
	}
	if err := c.consistent(); err != nil {
		return nil, err
	}
	if err := c.takeGeneric(generic, w); err != nil {
		return nil, err
	}
	if !c.has(Root) && !c.has(Usr) {
		return nil, ErrNoRoot
	}
	if err := c.protect(w.Verity); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Choice) has(d Designator) bool { _, ok := c.Partitions[d]; return ok }

// hidden tells whether the partition asks to be left alone.
func (p Partition) hidden() bool {
	if p.Kind().Designator == ESP { // which the other flag isn't defined for
		return p.Attributes&NoBlockIO != 0
	}
	return p.Attributes&NoAuto != 0
}

// of is the data partition that the root hash is for.
func (v *Verity) of() Designator {
	if v.Of == "" && v.Hash != nil {
		return Root
	}
	return v.Of
}

// admits tells whether a partition is one that the settings are about, as far as
// they are about it.
func (v *Verity) admits(p Partition) bool {
	for _, data := range []Designator{Root, Usr} {
		tree, signature := data.Verity()
		is := p.Kind().Designator
		if is != data && is != tree && is != signature {
			continue
		}
		if v == nil || v.of() != "" && v.of() != data {
			return is == data
		}
		switch {
		case v.Hash == nil:
			return true
		case is == data:
			return bytes.Equal(p.UUID[:], v.Hash[:16])
		case is == tree:
			return bytes.Equal(p.UUID[:], v.Hash[len(v.Hash)-16:])
		}
	}
	return true
}

// offer takes a partition when it is better than what there is of its kind.
func (c *Choice) offer(p Partition, k Kind, w Wanted) {
	old, found := c.Partitions[k.Designator]
	switch {
	case w.Unused != nil && w.Unused(k.Designator):
		c.Unused[k.Designator] = true
	case !found || better(p, k, old, w.Architecture):
		c.Partitions[k.Designator] = chosen(p, k)
	}
}

func better(p Partition, k Kind, old Chosen, native string) bool {
	if a, b := rank(k.Architecture, native), rank(old.Architecture, native); a != b {
		return a > b
	}
	switch k.Designator {
	case Root, RootVerity, RootVeritySig, Usr, UsrVerity, UsrVeritySig:
		return version.Compare(p.Label, old.Label) > 0
	}
	return false
}

func rank(architecture, native string) int {
	switch architecture {
	case native:
		return 2
	case SecondaryArchitecture(native):
		return 1
	}
	return 0
}

// chosen applies the attributes that are defined for the kind.
func chosen(p Partition, k Kind) Chosen {
	c := Chosen{Partition: p, Architecture: k.Architecture, Writable: true}
	switch k.Designator {
	case ESP, Swap:
	case RootVerity, RootVeritySig, UsrVerity, UsrVeritySig:
		c.Writable = false
	default:
		c.Writable = p.Attributes&ReadOnly == 0
		c.Grow = c.Writable && p.Attributes&GrowFS != 0
	}
	return c
}

// consistent refuses hash trees without data, signatures without hash trees, and
// a root and a usr of different architectures.
func (c *Choice) consistent() error {
	for _, data := range []Designator{Root, Usr} {
		tree, signature := data.Verity()
		for _, pair := range [][2]Designator{{tree, data}, {signature, data}, {signature, tree}} {
			if c.has(pair[0]) && !c.has(pair[1]) {
				return fmt.Errorf("%w: %s without %s", ErrMismatch, pair[0], pair[1])
			}
		}
	}
	if a, b := c.Partitions[Root].Architecture, c.Partitions[Usr].Architecture; c.has(Root) && c.has(Usr) && a != b {
		return fmt.Errorf("%w: root is for %s, usr for %s", ErrMismatch, a, b)
	}
	return nil
}

// takeGeneric makes the only Linux partition the root of an image that has
// neither root nor usr, unless a root hash decides for usr.
func (c *Choice) takeGeneric(list []Partition, w Wanted) error {
	if len(list) == 0 || c.has(Root) || c.has(Usr) || w.Verity != nil && w.Verity.Hash != nil && w.Verity.of() == Usr {
		return nil
	}
	if len(list) > 1 {
		return fmt.Errorf("%w: partitions %d and %d could both be root", ErrSeveral, list[0].Number, list[1].Number)
	}
	c.offer(list[0], Kind{Designator: Root}, w)
	return nil
}

// protect finds out what is verified, and makes that read-only.
func (c *Choice) protect(v *Verity) error {
	if c.has(RootVerity) && c.has(UsrVerity) {
		return fmt.Errorf("%w: hash trees of root and of usr", ErrSeveral)
	}
	if c.has(RootVerity) && c.has(Usr) {
		return fmt.Errorf("%w: a usr beside a root with a hash tree", ErrMismatch)
	}
	if v == nil {
		return nil
	}
	if v.Of != "" && !c.has(v.Of) {
		return fmt.Errorf("%w: no %s for the hash tree", ErrMismatch, v.Of)
	}
	for _, data := range []Designator{Usr, Root} {
		tree, signature := data.Verity()
		switch {
		case v.of() != "" && v.of() != data:
			continue
		case v.Hash != nil && !(c.has(data) && c.has(tree)):
			return fmt.Errorf("%w: no %s and %s with the root hash %x", ErrMismatch, data, tree, v.Hash)
		case v.Hash != nil || c.has(signature):
			p := c.Partitions[data]
			p.Writable, p.Grow = false, false
			c.Partitions[data], c.Protected = p, data
			return nil
		}
	}
	return nil
}
