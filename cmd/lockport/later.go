package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/crypttab"
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
	{"pkcs11-token-uri", true, nil}, {"fido2-device", true, nil}, {"tpm2-device", true, nil}, {"tpm2-device-key", true, nil},
	{"unlock-fido2-device", true, nil}, {"unlock-tpm2-device", true, nil}, {"unlock-headless", true, nil},
	{"fido2-credential-algorithm", false, checkAlgorithm}, {"fido2-with-client-pin", false, checkBool},
	{"fido2-with-user-presence", false, checkBool}, {"fido2-with-user-verification", false, checkBool},
	{"fido2-salt-file", false, nil}, {"fido2-parameters-in-header", false, checkBool},
	{"tpm2-seal-key-handle", false, nil}, {"tpm2-pcrs", false, checkPCRs}, {"tpm2-public-key", false, nil},
	{"tpm2-public-key-pcrs", false, checkPCRs}, {"tpm2-public-key-policyref", false, nil}, {"tpm2-signature", false, nil},
	{"tpm2-pcrlock", false, nil}, {"tpm2-with-pin", false, checkBool}, {"tpm2-argon2id-memory", false, nil},
	{"tpm2-argon2id-iterations", false, nil}, {"tpm2-argon2id-parallelism", false, nil}, {"tpm2-argon2id-iter-time", false, nil},
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
		bound := f.VarPF(flag, l.name, "", "not part of this release")
		bound.Hidden = true
		if l.name == "unlock-headless" {
			bound.NoOptDefVal = "yes"
		}
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
	words := strings.Fields("1 yes y true t on 0 no n false f off")
	if !slices.Contains(words, strings.ToLower(text)) {
		return errors.New("neither yes nor no")
	}
	return nil
}

func checkAlgorithm(text string) error {
	if !slices.Contains([]string{"es256", "rs256", "eddsa"}, text) {
		return errors.New("unknown algorithm")
	}
	return nil
}

// checkPCRs reads a list of PCRs as crypttab does, where a comma needs an escape.
func checkPCRs(text string) error {
	_, _, err := crypttab.ParseOptions("tpm2-pcrs=" + strings.ReplaceAll(text, ",", `\,`))
	return err
}
