package main

import (
	"context"
	"strings"

	"github.com/lockport/lockport/crypttab"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/pkcs11"
	"github.com/lockport/lockport/volume"
)

// attachPKCS11 lists the ways to unlock with a security token. It is waited for
// only when an option asks for it; a header that names one is reason enough to try,
// if this system has what it takes.
func (a *app) attachPKCS11(h *luks2.Header, at *attachment) []volume.Method {
	o := at.options
	asked := o.PKCS11 != ""
	if !asked && (at.keyFile != "" || !hasPKCS11Token(h, o.KeySlot)) {
		return nil
	}
	l, err := a.library("")
	if err != nil {
		if !asked && noTokens(err) {
			return nil
		}
		return []volume.Method{broken{err}}
	}
	uri := o.PKCS11
	if !asked {
		uri = crypttab.Auto
	}
	k, err := a.tokenKey(l, uri)
	if err != nil {
		return []volume.Method{broken{err}}
	}
	k.Wait = tokenWait(asked, o.TokenTimeout)
	k.Waiting = func(tokens []string) {
		a.say("Waiting for security token %s, please plug it in.", strings.Join(tokens, " or "))
	}
	k.Question = volume.Question{Message: "Please enter PIN of security token %s for disk " + at.device + " (" + at.name + "):",
		Echo: o.Echo, Timeout: o.Timeout}
	if path := at.keyPath(); path != "" && at.namesToken() {
		return []volume.Method{pkcs11.Data{Key: k, Source: a.keyFileOf(at, path, "cryptsetup-pkcs11"), Keyslot: o.KeySlot}}
	}
	return []volume.Method{pkcs11.Slots{Key: k, Keyslot: o.KeySlot}}
}

// namesToken tells whether a security token is named by its URI. The key file, if
// there is one, is then what was encrypted for it.
func (at *attachment) namesToken() bool {
	return at.options.PKCS11 != "" && at.options.PKCS11 != crypttab.Auto
}

// broken is a way to unlock that was asked for and is not there. It lets the next
// one try, as a device that is absent does.
type broken struct{ err error }

var _ volume.Method = broken{}

func (broken) Name() string { return "PKCS#11" }
func (broken) Silent() bool { return true }
func (b broken) VolumeKey(context.Context, *luks2.Header, volume.Asker, int) (volume.Key, bool, error) {
	return volume.Key{}, true, volume.Free(b.err)
}
