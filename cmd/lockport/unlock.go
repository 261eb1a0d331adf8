package main

import (
	"errors"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/volume"
)

// unlockFlags are the --unlock-… options: how a volume is opened before its
// keyslots are changed.
type unlockFlags struct {
	keyFile  string
	tpm2     string
	fido2    string
	empty    bool
	headless bool
}

func (u *unlockFlags) bind(f *pflag.FlagSet) {
	f.StringVar(&u.keyFile, "unlock-key-file", "", "`FILE` or socket with the current passphrase, every byte of it")
	f.StringVar(&u.tpm2, "unlock-tpm2-device", "", "unlock with the TPM2: auto or a `DEVICE`")
	f.StringVar(&u.fido2, "unlock-fido2-device", "", "unlock with a FIDO2 security key: auto or a `DEVICE`")
	f.BoolVar(&u.empty, "unlock-empty", false, "unlock with the empty passphrase")
	f.BoolVar(&u.headless, "unlock-headless", false, "unlock with the TPM2 if there is one, else with the empty passphrase")
}

// check refuses more than one way: which one was meant?
func (u *unlockFlags) check() error {
	if count(u.keyFile != "", u.tpm2 != "", u.fido2 != "", u.empty, u.headless) > 1 {
		return errors.New("only one way to unlock at a time: --unlock-key-file, --unlock-tpm2-device, --unlock-fido2-device, --unlock-empty or --unlock-headless")
	}
	return nil
}

func (u *unlockFlags) methods(h *luks2.Header, device string, a *app) []volume.Method {
	switch {
	case u.keyFile != "":
		source := volume.KeySource{Path: u.keyFile, Warn: func(text string) { a.warn("%s", text) }}
		return []volume.Method{volume.KeyFile{Source: source, Keyslot: luks2.AnySlot}}
	case u.tpm2 != "":
		return a.unlockTPM(h, u.tpm2, device, luks2.AnySlot)
	case u.fido2 != "":
		return a.unlockFIDO2(u.fido2, device, luks2.AnySlot)
	case u.headless && hasTPMToken(h) && (tpmName("") != "" || tpm2.Present("/")):
		return a.unlockTPM(h, "auto", device, luks2.AnySlot)
	case u.empty, u.headless:
		return []volume.Method{volume.Empty{Keyslot: luks2.AnySlot}}
	}
	return []volume.Method{volume.Passphrase{Question: currentPassphrase(device), Keyslot: luks2.AnySlot}}
}

// unlockTPM opens a volume with the TPM2 keyslots that it has.
func (a *app) unlockTPM(h *luks2.Header, name, device string, keyslot int) []volume.Method {
	key := a.tpmKey(name, 0)
	key.Question = volume.Question{Message: "Please enter TPM2 PIN for disk " + device + ":", ID: "cryptenroll:" + device,
		Credential: "cryptenroll.tpm2-pin"}
	return tpmTokens(h, key, keyslot)
}
