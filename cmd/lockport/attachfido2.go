package main

import (
	"github.com/lockport/lockport/crypttab"
	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

// attachFIDO2 lists the ways to unlock with a security key. It is waited for only
// when an option asks for it; a header that has a token for it is reason enough to
// try one that is there.
func (a *app) attachFIDO2(h *luks2.Header, at *attachment) []volume.Method {
	o := at.options
	if o.FIDO2.Device == "" && (at.keyFile != "" || !fido2.Wanted(h) || !a.keyThere()) {
		return nil
	}
	key := a.fido2Key(o.FIDO2.Device, tokenWait(o.FIDO2.Device != "", o.TokenTimeout))
	key.NoCache, key.Headless = o.Cache == crypttab.CacheNo, o.Headless
	key.Question = volume.Question{Message: "Please enter security token PIN for disk " + at.device + " (" + at.name + "):",
		ID: "cryptsetup:" + at.device, Echo: o.Echo, Timeout: o.Timeout}
	if o.FIDO2.CredentialID == nil {
		return []volume.Method{fido2.Method{Key: key, Keyslot: o.KeySlot}}
	}
	return []volume.Method{fido2.Manual{Key: key, Salt: a.keyFileOf(at, at.keyPath(), "cryptsetup-fido2-salt"), Keyslot: o.KeySlot,
		Token: fido2.Token{Credential: o.FIDO2.CredentialID, RP: o.FIDO2.RelyingParty, PIN: o.FIDO2.PIN, UP: o.FIDO2.UP, UV: o.FIDO2.UV}}}
}

// keyThere tells whether a security key is plugged in.
func (a *app) keyThere() bool {
	list, err := a.keys.List()
	return err == nil && len(list) > 0
}
