package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/tpm2"
)

// tpmDeviceFlag adds --tpm2-device=.
func tpmDeviceFlag(f *pflag.FlagSet, name *string) {
	f.StringVar(name, "tpm2-device", "auto", "`DEVICE` of the TPM, such as /dev/tpmrm0 or swtpm:path=SOCKET")
}

// openTPM opens a TPM by the name that a user gave it. As for the originals,
// SYSTEMD_TPM2_DEVICE says which one "auto" is. The caller closes it with
// [closeTPM].
func (a *app) openTPM(ctx context.Context, name string) (tpm2.Device, error) {
	if name == "" || name == "auto" {
		name = os.Getenv("SYSTEMD_TPM2_DEVICE")
	}
	dev, err := tpm2.Open(ctx, "/", name)
	if err != nil {
		return nil, fmt.Errorf("opening the TPM: %w", err)
	}
	return dev, nil
}

func closeTPM(dev tpm2.Device) {
	if c, ok := dev.(io.Closer); ok {
		_ = c.Close()
	}
}
