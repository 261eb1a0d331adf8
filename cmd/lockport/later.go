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
	given   bool
}

// laterFlags lists them. It is to shrink.
var laterFlags = []struct {
	name    string
	matters bool
}{
	{"pkcs11-token-uri", true}, {"fido2-device", true}, {"tpm2-device", true}, {"tpm2-device-key", true},
	{"unlock-fido2-device", true}, {"unlock-tpm2-device", true}, {"unlock-headless", true},
	{"fido2-credential-algorithm", false}, {"fido2-with-client-pin", false}, {"fido2-with-user-presence", false},
	{"fido2-with-user-verification", false}, {"fido2-salt-file", false}, {"fido2-parameters-in-header", false},
	{"tpm2-seal-key-handle", false}, {"tpm2-pcrs", false}, {"tpm2-public-key", false}, {"tpm2-public-key-pcrs", false},
	{"tpm2-public-key-policyref", false}, {"tpm2-signature", false}, {"tpm2-pcrlock", false}, {"tpm2-with-pin", false},
	{"tpm2-argon2id-memory", false}, {"tpm2-argon2id-iterations", false}, {"tpm2-argon2id-parallelism", false},
	{"tpm2-argon2id-iter-time", false},
}

func (l *laterFlag) Set(string) error { l.given = true; return nil }
func (l *laterFlag) Type() string     { return "string" }
func (l *laterFlag) String() string   { return "" }

func bindLater(f *pflag.FlagSet) []*laterFlag {
	var list []*laterFlag
	for _, l := range laterFlags {
		flag := &laterFlag{name: l.name, matters: l.matters}
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
