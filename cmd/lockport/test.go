package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

type testOptions struct {
	slot    int
	keyFile string
	tpm2    string
	fido2   string
	pkcs11  pkcs11Choice
	limits  luks2.Limits
}

// bind adds the options that say what to unlock with.
func (o *testOptions) bind(f *pflag.FlagSet) {
	slotFlag(f, &o.slot)
	keyFileFlag(f, &o.keyFile)
	f.StringVar(&o.tpm2, "tpm2-device", "", "unlock with the TPM2: auto or a `DEVICE`")
	f.StringVar(&o.fido2, "fido2-device", "", "unlock with a FIDO2 security key: auto or a `DEVICE`")
	o.pkcs11.bind(f)
	limitFlags(f, &o.limits)
}

func (a *app) testCommand() *cobra.Command {
	o := &testOptions{}
	cmd := &cobra.Command{
		Use:   "test [OPTIONS] DEVICE",
		Short: "Try whether a passphrase, recovery key, key file or device opens a volume",
		Long: `Tries a passphrase, recovery key, key file, TPM2, security key or smartcard without
changing or attaching anything, and tells which keyslot it opens. The exit status is 0 if one
opens. The passphrase is taken from $PASSWORD, from the credential
cryptenroll.passphrase, or is asked for, and a PIN from $PIN, from
cryptenroll.tpm2-pin, cryptenroll.fido2-pin or cryptenroll.pkcs11-pin, or is asked for.`,
		Example: `  lockport test --key-slot=1 /dev/sda2
  lockport test --tpm2-device=auto /dev/sda2
  lockport test --fido2-device=auto /dev/sda2`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.test(cmd.Context(), args[0], o) },
	}
	o.bind(cmd.Flags())
	return cmd
}

func (a *app) test(ctx context.Context, device string, o *testOptions) error {
	f, h, err := a.openHeader(ctx, device, true, luks2.WithLimits(o.limits))
	if err != nil {
		return err
	}
	defer f.Close()
	key, err := a.unlockOnce(ctx, h, device, o)
	if err != nil {
		return onDevice(device, err)
	}
	key.Volume.Wipe()
	for _, s := range volume.List(h) {
		if s.ID == key.Keyslot {
			fmt.Fprintf(a.out, "keyslot %d opens (%s)\n", s.ID, s.Kind)
		}
	}
	return nil
}

// unlockOnce gets the volume key with one thing that a person gives.
func (a *app) unlockOnce(ctx context.Context, h *luks2.Header, device string, o *testOptions) (volume.Key, error) {
	if o.slot != luks2.AnySlot {
		if _, err := h.Keyslot(o.slot); err != nil {
			return volume.Key{}, err
		}
	}
	if count(o.keyFile != "", o.tpm2 != "", o.fido2 != "", o.pkcs11.uri != "") > 1 {
		return volume.Key{}, errors.New("only one way to unlock at a time: --key-file, --tpm2-device, --fido2-device or --pkcs11-uri")
	}
	ask := a.asker(asking{})
	method := volume.Passphrase{Keyslot: o.slot, Question: volume.Question{
		Message: "Please enter %s for disk " + device + ":", ID: "lockport-test:" + device,
		Env: "PASSWORD", Credential: "cryptenroll.passphrase",
	}}
	methods := []volume.Method{method}
	switch {
	case o.tpm2 != "":
		methods = a.unlockTPM(h, o.tpm2, device, o.slot)
	case o.fido2 != "":
		methods = a.unlockFIDO2(o.fido2, device, o.slot)
	case o.pkcs11.uri != "":
		var err error
		if methods, err = a.unlockPKCS11(o.pkcs11, device, o.slot); err != nil {
			return volume.Key{}, err
		}
	case o.keyFile != "":
		methods = []volume.Method{volume.KeyFile{Keyslot: o.slot, Source: a.keySource(o.keyFile)}}
	}
	return a.unlock(ctx, h, methods, ask, volume.UnlockOptions{Tries: 1})
}
