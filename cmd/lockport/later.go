package main

import (
	"fmt"

	"github.com/spf13/pflag"
)

// A laterFlag is an option of the original that this release knows but does
// not do. Those that ask for something are refused by name; those that only
// shape another option are accepted, as the original does without that option.
type laterFlag struct {
	name    string
	matters bool
	check   func(string) error
	given   bool
}

// laterFlags lists them. It is to shrink.
var laterFlags = []struct {
	name    string
	matters bool
	check   func(string) error // what the original refuses at once; may be nil
}{
	{"pkcs11-token-uri", true, nil},
}

func (l *laterFlag) Set(text string) error {
	l.given = true
	if l.check == nil {
		return nil
	}
	return l.check(text)
}
func (l *laterFlag) Type() string   { return "string" }
func (l *laterFlag) String() string { return "" }

func bindLater(f *pflag.FlagSet) []*laterFlag {
	var list []*laterFlag
	for _, l := range laterFlags {
		flag := &laterFlag{name: l.name, matters: l.matters, check: l.check}
		list = append(list, flag)
		f.VarPF(flag, l.name, "", "not part of this release").Hidden = true
	}
	return list
}

func refuseLater(list []*laterFlag) error {
	for _, l := range list {
		if l.given && l.matters {
			return fmt.Errorf("--%s is %w", l.name, errNotBuilt)
		}
	}
	return nil
}
