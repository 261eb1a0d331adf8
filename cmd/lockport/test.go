package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

type testOptions struct {
	slot    int
	keyFile string
	limits  luks2.Limits
}

func (a *app) testCommand() *cobra.Command {
	o := &testOptions{}
	cmd := &cobra.Command{
		Use:   "test [OPTIONS] DEVICE",
		Short: "Try whether a passphrase, recovery key or key file opens a volume",
		Long: `Tries a passphrase, recovery key or key file without changing or attaching
anything, and tells which keyslot it opens. The exit status is 0 if one opens.
The passphrase is taken from $PASSWORD, from the credential
cryptenroll.passphrase, or is asked for.`,
		Example: "  lockport test --key-slot=1 /dev/sda2",
		Args:    arguments(1, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.test(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	slotFlag(f, &o.slot)
	keyFileFlag(f, &o.keyFile)
	limitFlags(f, &o.limits)
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
	ask := a.asker(asking{})
	var method volume.Method = volume.Passphrase{Keyslot: o.slot, Question: volume.Question{
		Message: "Please enter %s for disk " + device + ":", ID: "lockport-test:" + device,
		Env: "PASSWORD", Credential: "cryptenroll.passphrase",
	}}
	if o.keyFile != "" {
		method = volume.KeyFile{Keyslot: o.slot, Source: a.keySource(o.keyFile)}
	}
	return volume.Unlock(ctx, h, []volume.Method{method}, ask, volume.UnlockOptions{Tries: 1})
}
