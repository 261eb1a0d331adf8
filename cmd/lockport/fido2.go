package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/lockport/lockport/crypttab"
	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

// fido2Key is what unlocks with security keys. Wait is as for [fido2.Key].
func (a *app) fido2Key(name string, wait time.Duration) *fido2.Key {
	return &fido2.Key{Port: a.keys, Device: name, Wait: wait, Touch: a.askTouch(),
		Waiting: func(reason error) { a.awaitKey(reason, wait) },
		Failed:  func(err error) { a.warn("%v", err) }}
}

// askTouch returns what tells a person that a key waits for them.
func (a *app) askTouch() func(key string) {
	told := map[string]bool{}
	return func(key string) {
		again := ""
		if told[key] {
			again = " again"
		}
		told[key] = true
		a.say("Please touch %s%s.", key, again)
	}
}

// awaitKey tells a person what to do for a volume that no key opens so far.
func (a *app) awaitKey(reason error, wait time.Duration) {
	limit := ""
	if wait > 0 {
		limit = fmt.Sprintf(" for up to %v", wait)
	}
	what := fmt.Sprintf("waiting%s for another one", limit)
	switch {
	case errors.Is(reason, fido2.ErrNoDevice):
		what = "plug one in; waiting" + limit
	case errors.Is(reason, fido2.StatusPINAuthBlocked), errors.Is(reason, fido2.StatusUVBlocked):
		what = "pull it out and plug it in again; waiting" + limit
	}
	a.say("%s; %s.", sentence(reason.Error()), what)
}

// sentence begins with a capital.
func sentence(text string) string {
	if text != "" && text[0] >= 'a' && text[0] <= 'z' {
		return string(text[0]-'a'+'A') + text[1:]
	}
	return text
}

// unlockFIDO2 opens a volume with the FIDO2 keyslots that it has.
func (a *app) unlockFIDO2(name, device string, keyslot int) []volume.Method {
	key := a.fido2Key(name, 0)
	key.Question = volume.Question{Message: "Please enter security token PIN for disk " + device + ":", ID: "cryptenroll:" + device,
		Credential: "cryptenroll.fido2-pin"}
	return []volume.Method{fido2.Method{Key: key, Keyslot: keyslot}}
}

// listKeys prints the table of --fido2-device=list. Each key is asked whether it can
// open volumes.
func (a *app) listKeys(ctx context.Context) error {
	list, err := a.keys.List()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		a.say("No FIDO2 devices found.")
		return nil
	}
	t := tabwriter.NewWriter(a.out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "PATH\tMANUFACTURER\tPRODUCT\tCOMPATIBLE")
	for _, f := range list {
		compatible := "yes"
		if err := fido2.Compatible(ctx, a.keys, f.Path); err != nil {
			compatible = "no"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Path, or(f.Manufacturer, "-"), or(f.Product, "-"), compatible)
	}
	return t.Flush()
}

// keyModel names the security key that a keyslot was enrolled with, if the token
// says so.
func keyModel(s volume.Slot) string {
	for _, t := range s.Tokens {
		if t.Type == fido2.TokenType {
			return fido2.ModelOf(t.JSON)
		}
	}
	return ""
}

// tokenWait is how long a device is waited for: only for one that was asked for.
func tokenWait(asked bool, timeout time.Duration) time.Duration {
	switch {
	case !asked:
		return 0
	case timeout == 0:
		return forEver
	}
	return timeout
}

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
	path := ""
	for _, path = range at.keyPaths() {
		break
	}
	return []volume.Method{fido2.Manual{Key: key, Salt: a.keyFileOf(at, path, "cryptsetup-fido2-salt"), Keyslot: o.KeySlot,
		Token: fido2.Token{Credential: o.FIDO2.CredentialID, RP: o.FIDO2.RelyingParty, PIN: o.FIDO2.PIN, UP: o.FIDO2.UP, UV: o.FIDO2.UV}}}
}

// keyThere tells whether a security key is plugged in.
func (a *app) keyThere() bool {
	list, err := a.keys.List()
	return err == nil && len(list) > 0
}

// saltGiven tells whether the key file is the salt of a credential, and not the key.
func (at *attachment) saltGiven() bool { return at.options.FIDO2.CredentialID != nil }
