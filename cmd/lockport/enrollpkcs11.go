package main

import (
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/pkcs11"
	"github.com/lockport/lockport/volume"
)

// pkcs11Flags are the options of an enrolment with a security token.
type pkcs11Flags struct {
	uri     string
	module  string
	padding string
}

func (p *pkcs11Flags) bind(f *pflag.FlagSet, original bool) {
	f.StringVar(&p.uri, "pkcs11-token-uri", "", "enrol a smartcard or other PKCS#11 token: auto, its `URI`, or list to show them")
	if original {
		return
	}
	moduleFlag(f, &p.module)
	f.StringVar(&p.padding, "pkcs11-padding", "", "`KIND` of RSA padding: pkcs1, which all releases of systemd read, or oaep-sha1 or\noaep-sha256, which it reads from 261 on (lockport's own)")
}

// wanted tells whether a security token is to be enrolled.
func (p *pkcs11Flags) wanted() bool { return p.uri != "" }

// enroller returns what makes the keyslot.
func (p *pkcs11Flags) enroller(a *app, device string) (volume.Enroller, error) {
	paddings := []string{"", string(pkcs11.PKCS1), string(pkcs11.OAEPSHA1), string(pkcs11.OAEPSHA256)}
	if !slices.Contains(paddings, p.padding) {
		return nil, fmt.Errorf("--pkcs11-padding: %q is none of pkcs1, oaep-sha1 and oaep-sha256", p.padding)
	}
	e := &pkcs11.Enroller{Padding: pkcs11.Padding(p.padding), Failed: func(err error) { a.warn("%v", err) }, Touch: a.sayTouch,
		Question: volume.Question{Message: "Please enter PIN of security token %s to enrol it for disk " + device + ":"}}
	if p.uri != "auto" {
		u, err := pkcs11.ParseURI(p.uri)
		if err != nil {
			return nil, fmt.Errorf("--pkcs11-token-uri: %w", err)
		}
		e.URI = &u
	}
	l, err := a.library(p.module)
	e.Library = l
	return e, err
}
