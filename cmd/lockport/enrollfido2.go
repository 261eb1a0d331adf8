package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

// fido2Flags are the --fido2-… options of an enrolment.
type fido2Flags struct {
	device      string
	algorithm   algorithmFlag
	pin, up, uv yesNoFlag
	saltFile    string
	inHeader    yesNoFlag
}

func (o *fido2Flags) bind(f *pflag.FlagSet) {
	o.pin, o.up, o.inHeader = true, true, true
	f.StringVar(&o.device, "fido2-device", "", "enrol a FIDO2 security key: auto, a `DEVICE`, or list to show them")
	f.Var(&o.algorithm, "fido2-credential-algorithm", "es256, rs256 or eddsa (default: es256)")
	f.Var(&o.pin, "fido2-with-client-pin", "ask for the key's PIN when unlocking: yes or no (default: yes)")
	f.Var(&o.up, "fido2-with-user-presence", "ask for a touch when unlocking: yes or no (default: yes)")
	f.Var(&o.uv, "fido2-with-user-verification", "have the key itself verify its user when unlocking, by a\nfingerprint for example: yes or no (default: no)")
	f.StringVar(&o.saltFile, "fido2-salt-file", "", "take the salt, 32 bytes, from this `FILE` or socket (default: a random one)")
	f.Var(&o.inHeader, "fido2-parameters-in-header", "store what unlocking needs in the header; no prints the credential for\nfido2-cid= in crypttab instead (default: yes)")
}

// wanted tells whether a security key is to be enrolled.
func (o *fido2Flags) wanted() bool { return o.device != "" }

// enroller returns what makes the keyslot; see ready.
func (o *fido2Flags) enroller(ctx context.Context, a *app, device string) (*fido2.Enroller, error) {
	if !o.inHeader && o.saltFile == "" {
		return nil, errors.New("--fido2-parameters-in-header=no wants a salt that is kept elsewhere: --fido2-salt-file is missing")
	}
	e := &fido2.Enroller{Port: a.keys, Device: o.device, Volume: device, Algorithm: fido2.Algorithm(o.algorithm),
		PIN: bool(o.pin), UP: bool(o.up), UV: bool(o.uv), NoToken: !bool(o.inHeader),
		Question: volume.Question{Message: "Please enter security token PIN:", ID: "cryptenroll-fido2-pin"},
		Touch:    a.askTouch(), Failed: func(err error) { a.warn("%v", err) }, Notice: func(text string) { a.say("%s.", sentence(text)) }}
	if o.saltFile == "" {
		return e, nil
	}
	var err error
	e.Salt, err = fido2.ReadSalt(ctx, volume.KeySource{Path: o.saltFile})
	return e, err
}

// printCredential writes the credential that a keyslot needs and the header does not
// have. Without it the keyslot is of no use.
func (a *app) printCredential(ctx context.Context, h *luks2.Header, with volume.Enroller, slot int) error {
	e, ok := with.(*fido2.Enroller)
	if !ok || !e.NoToken {
		return nil
	}
	_, err := fmt.Fprintln(a.out, base64.StdEncoding.EncodeToString(e.Made.Credential))
	if err == nil {
		return nil
	}
	return errors.Join(marked{fmt.Errorf("printing the credential: %w", err), errKeyLost}, volume.Withdraw(context.WithoutCancel(ctx), h, slot))
}

// yesNoFlag is a boolean as systemd spells them, which needs a value.
type yesNoFlag bool

func (y *yesNoFlag) Set(text string) error {
	on, err := parseBool(text)
	*y = yesNoFlag(on)
	return err
}
func (y *yesNoFlag) Type() string   { return "BOOL" }
func (y *yesNoFlag) String() string { return "" }

// algorithmFlag is the algorithm of a credential.
type algorithmFlag fido2.Algorithm

func (g *algorithmFlag) Set(text string) error {
	alg, err := fido2.ParseAlgorithm(text)
	*g = algorithmFlag(alg)
	return err
}
func (g *algorithmFlag) Type() string   { return "NAME" }
func (g *algorithmFlag) String() string { return "" }
