package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockport/lockport/fido2"
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
	t := deviceTable{{"PATH", "MANUFACTURER", "PRODUCT", "COMPATIBLE"}}
	for _, f := range list {
		compatible := "yes"
		if err := fido2.Compatible(ctx, a.keys, f.Path); err != nil {
			compatible = "no"
		}
		t = append(t, []string{f.Path, f.Manufacturer, f.Product, compatible})
	}
	return a.printDevices(t, "No FIDO2 devices found.")
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
