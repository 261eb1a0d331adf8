package image

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockport/lockport/internal/gpt"
)

// Policy says which partitions an image may have and how they have to be
// protected: systemd.image-policy(7). A nil policy allows everything.
type Policy struct {
	text  string
	rules map[gpt.Designator]allowed
	other allowed // of partitions that have no rule
}

// String is the text that the policy was read from.
func (p *Policy) String() string { return p.text }

// allowed are the states that a partition may be in.
type allowed uint16

const (
	allowUnprotected allowed = 1 << iota
	allowVerity
	allowSigned
	allowEncrypted
	allowUnused
	allowAbsent
	allowWritable
	allowReadOnly
	allowFixedSize
	allowGrowing

	allowIgnored = allowUnused | allowAbsent
	allowOpen    = allowUnprotected | allowVerity | allowSigned | allowEncrypted | allowIgnored
	allowEither  = allowWritable | allowReadOnly
	allowSizes   = allowFixedSize | allowGrowing
)

var policyFlags = map[string]allowed{
	"unprotected": allowUnprotected, "verity": allowVerity, "signed": allowSigned, "encrypted": allowEncrypted,
	"unused": allowUnused, "absent": allowAbsent, "open": allowOpen, "ignore": allowIgnored,
	"read-only-off": allowWritable, "read-only-on": allowReadOnly, "growfs-off": allowFixedSize, "growfs-on": allowGrowing,
}

// policyDesignators are the partitions that a policy has rules for, in the order
// in which they are checked.
var policyDesignators = []gpt.Designator{
	gpt.Root, gpt.Usr, gpt.Home, gpt.Srv, gpt.ESP, gpt.XBOOTLDR, gpt.Swap, gpt.RootVerity, gpt.RootVeritySig, gpt.UsrVerity, gpt.UsrVeritySig, gpt.Tmp, gpt.Var,
}

// ParsePolicy reads the text form of a policy, such as root=verity+signed:=absent.
func ParsePolicy(text string) (*Policy, error) {
	p := &Policy{text: text, rules: map[gpt.Designator]allowed{}, other: complete(allowIgnored)}
	switch text {
	case "*":
		p.other = complete(allowOpen)
		return p, nil
	case "-":
		return p, nil
	case "~":
		p.other = complete(allowAbsent)
		return p, nil
	}
	seen := map[string]bool{}
	for rule := range strings.SplitSeq(text, ":") {
		name, flags, ok := strings.Cut(rule, "=")
		designator := gpt.Designator(name)
		switch {
		case !ok:
			return nil, fmt.Errorf("image policy: %q is no rule, such as root=verity", rule)
		case name != "" && !slices.Contains(policyDesignators, designator):
			return nil, fmt.Errorf("image policy: no partition is called %q", name)
		case seen[name]:
			return nil, fmt.Errorf("image policy: two rules for %q", name)
		}
		seen[name] = true
		a, err := parseFlags(flags)
		if err != nil {
			return nil, err
		}
		if name == "" {
			p.other = a
		} else {
			p.rules[designator] = a
		}
	}
	return p, nil
}

func parseFlags(text string) (allowed, error) {
	var a allowed
	for word := range strings.SplitSeq(text, "+") {
		flag, ok := policyFlags[strings.TrimSpace(word)]
		if !ok && text != "" {
			return 0, fmt.Errorf("image policy: nothing is called %q", word)
		}
		a |= flag
	}
	return complete(a), nil
}

// complete allows everything where nothing of a kind is said.
func complete(a allowed) allowed {
	for _, all := range []allowed{allowOpen, allowEither, allowSizes} {
		if a&all == 0 {
			a |= all
		}
	}
	return a
}

// rule is what is allowed of a partition. A hash tree or signature has to be
// there where the data needs it, and else is none of the policy's business.
func (p *Policy) rule(d gpt.Designator) allowed {
	if a, ok := p.rules[d]; ok {
		return a
	}
	data, guards := d.Guarded()
	if !guards {
		return p.other
	}
	needed := allowSigned
	if tree, _ := data.Verity(); d == tree {
		needed |= allowVerity
	}
	if p.rules[data]&needed != 0 {
		return complete(allowUnprotected)
	}
	return p.other
}

// unused tells whether a partition is to be left alone, should it be there.
func (p *Policy) unused(d gpt.Designator) bool {
	if p == nil {
		return false
	}
	a := p.rule(d)
	return a&allowUnused != 0 && a&allowOpen&^allowIgnored == 0
}

// check compares an image with the policy. Signed is what is signed by somebody
// who is trusted: a signature alone proves nothing.
func (p *Policy) check(l *Layout) error {
	if p == nil {
		return nil
	}
	for _, d := range policyDesignators {
		if _, guards := d.Guarded(); guards && l.Table == "" {
			continue // what protects a naked file system is no partition
		}
		if err := p.checkPart(l, d); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) checkPart(l *Layout, d gpt.Designator) error {
	a := p.rule(d)
	state, word := l.state(d)
	if a&state == 0 {
		return fmt.Errorf("%w: %s is %s", ErrPolicy, d, word)
	}
	part := l.part(string(d))
	if part == nil || part.Number == 0 {
		return nil
	}
	for _, f := range []struct {
		attribute gpt.Attributes
		off, on   allowed
		name      string
	}{
		{gpt.ReadOnly, allowWritable, allowReadOnly, "read-only"},
		{gpt.GrowFS, allowFixedSize, allowGrowing, "growfs"},
	} {
		switch set := part.attributes&f.attribute != 0; {
		case set && a&f.on == 0:
			return fmt.Errorf("%w: %s has the flag %s", ErrPolicy, d, f.name)
		case !set && a&f.off == 0:
			return fmt.Errorf("%w: %s has not the flag %s", ErrPolicy, d, f.name)
		}
	}
	return nil
}

// state is that of a partition, and the word for it.
func (l *Layout) state(d gpt.Designator) (allowed, string) {
	p := l.part(string(d))
	switch {
	case p == nil && slices.Contains(l.unused, string(d)):
		return allowUnused, "unused"
	case p == nil:
		return allowAbsent, "absent"
	case p.Protection == Signed && l.Verity.Signer == nil:
		return allowVerity, "signed by nobody who is trusted"
	}
	return policyFlags[string(p.Protection)], string(p.Protection)
}
