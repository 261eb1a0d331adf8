package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/pkcs11"
	"github.com/lockport/lockport/volume"
)

// pkcs11Choice says which security token is to unlock, and by which module.
type pkcs11Choice struct {
	uri    string // "" for none, "auto" for what the header names
	module string // "" for the configured ones
}

func (c *pkcs11Choice) bind(f *pflag.FlagSet) {
	f.StringVar(&c.uri, "pkcs11-uri", "", "unlock with a security token: auto or its PKCS#11 `URI`")
	moduleFlag(f, &c.module)
}

// moduleFlag adds what is an option of ours.
func moduleFlag(f *pflag.FlagSet, module *string) {
	f.StringVar(module, "pkcs11-module", "", "PKCS#11 `FILE` to use instead of those configured for p11-kit (lockport's own)")
}

// library is what reaches security tokens. The error wraps pkcs11.ErrNoP11Kit or
// pkcs11.ErrNoModules.
func (a *app) library(module string) (*pkcs11.Library, error) {
	dial, err := pkcs11.Remote(moduleEnvironment(os.Environ()))
	if err != nil {
		return nil, err
	}
	if module != "" {
		return &pkcs11.Library{Modules: []pkcs11.Module{{Path: module}}, Dial: dial}, nil
	}
	config := pkcs11.Config{Root: "/", User: userConfig(), Programs: []string{"lockport", a.name}}
	list, err := config.Modules()
	if err != nil {
		a.warn("%v", err)
	}
	if len(list) == 0 {
		return nil, pkcs11.ErrNoModules
	}
	return &pkcs11.Library{Modules: list, Dial: dial}, nil
}

// userConfig is where a person configures p11-kit. What root runs has none.
func userConfig() string {
	if os.Getuid() == 0 {
		return ""
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "pkcs11")
}

// kept from modules are secrets, and what would have them take part in what is only
// between the service manager and us.
var keptFromModules = []string{"PIN", "NEWPIN", "PASSWORD", "NEWPASSWORD", "CREDENTIALS_DIRECTORY", "ENCRYPTED_CREDENTIALS_DIRECTORY",
	"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}

// moduleEnvironment is what modules may know of our environment. Many are configured
// by variables of their own, so it is everything but what they must not know.
func moduleEnvironment(all []string) []string {
	var list []string
	for _, v := range all {
		name, _, _ := strings.Cut(v, "=")
		kept := false
		for _, k := range keptFromModules {
			kept = kept || name == k
		}
		if !kept {
			list = append(list, v)
		}
	}
	return list
}

// tokenKey is what unlocks with a security token. uri may be "auto".
func (a *app) tokenKey(l *pkcs11.Library, uri string) (*pkcs11.Key, error) {
	k := &pkcs11.Key{Library: l, Failed: func(err error) { a.warn("%v", err) }, Touch: a.sayTouch}
	if uri != "auto" {
		u, err := pkcs11.ParseURI(uri)
		if err != nil {
			return nil, err
		}
		k.URI = &u
	}
	return k, nil
}

func (a *app) sayTouch(token string) { a.say("Log in at security token %s.", token) }

// unlockPKCS11 opens a volume with the security token that a person chose.
func (a *app) unlockPKCS11(c pkcs11Choice, device string, keyslot int) ([]volume.Method, error) {
	l, err := a.library(c.module)
	if err != nil {
		return nil, err
	}
	k, err := a.tokenKey(l, c.uri)
	if err != nil {
		return nil, err
	}
	k.Question = volume.Question{Message: "Please enter PIN of security token %s for disk " + device + ":", Credential: "cryptenroll.pkcs11-pin"}
	return []volume.Method{pkcs11.Slots{Key: k, Keyslot: keyslot}}, nil
}

// listTokens prints the table of --pkcs11-token-uri=list. The original leaves out
// what is no hardware.
func (a *app) listTokens(ctx context.Context, p *pkcs11Flags) error {
	l, err := a.library(p.module)
	if err != nil {
		return err
	}
	list, err := l.List(ctx)
	if err != nil {
		a.warn("%v", err)
	}
	t := deviceTable{{"URI", "LABEL", "MANUFACTURER", "MODEL"}}
	for _, f := range list {
		if a.original && !f.Hardware {
			continue
		}
		t = append(t, []string{f.URI, f.Label, f.Manufacturer, f.Model})
	}
	return a.printDevices(t, "No suitable PKCS#11 tokens found.")
}

// hasPKCS11Token tells whether the header names a security token.
func hasPKCS11Token(h *luks2.Header, keyslot int) bool {
	return len((volume.Tokens{With: &pkcs11.Key{}, Keyslot: keyslot}).Tokens(h)) > 0
}

// noTokens tells errors that mean that this system has no way to security tokens.
func noTokens(err error) bool {
	return errors.Is(err, pkcs11.ErrNoP11Kit) || errors.Is(err, pkcs11.ErrNoModules)
}
