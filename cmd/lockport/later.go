package main

import (
	"errors"
	"fmt"
	"slices"

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
	{"fido2-device", true, nil}, {"unlock-fido2-device", true, nil},
	{"fido2-credential-algorithm", false, checkAlgorithm}, {"fido2-with-client-pin", false, checkBool},
	{"fido2-with-user-presence", false, checkBool}, {"fido2-with-user-verification", false, checkBool},
	{"fido2-salt-file", false, nil}, {"fido2-parameters-in-header", false, checkBool},
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

func checkBool(text string) error {
	_, err := parseBool(text)
	return err
}

func checkAlgorithm(text string) error {
	if !slices.Contains([]string{"es256", "rs256", "eddsa"}, text) {
		return errors.New("unknown algorithm")
	}
	return nil
}
