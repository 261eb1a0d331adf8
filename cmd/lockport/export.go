package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/luks2"
)

// exportPiece is how much is decrypted at a time.
const exportPiece = 1 << 20

func (a *app) exportCommand() *cobra.Command {
	o := &testOptions{}
	var header string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] DEVICE",
		Short: "Write the decrypted content of a volume to standard output",
		Long: `Writes the plaintext of a LUKS2 volume to standard output, without the kernel's
help and without being root, as far as DEVICE can be read. Only volumes with
aes-xts-plain64, aes-cbc-essiv:sha256 or twofish-xts-plain64 can be read so.`,
		Example: "  lockport export disk.img > plain.img",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.export(cmd.Context(), args[0], header, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&header, "header", "", "`FILE` or device with the detached header")
	o.bind(f)
	return cmd
}

func (a *app) export(ctx context.Context, device, header string, o *testOptions) error {
	if isTerminal(a.out) {
		return errTerminal
	}
	f, h, err := a.openHeader(ctx, cmp.Or(header, device), true, luks2.WithLimits(o.limits))
	if err != nil {
		return err
	}
	defer f.Close()
	data := f
	if header != "" {
		if data, err = openDevice(device, true); err != nil {
			return err
		}
		defer data.Close()
	}
	r, err := a.reader(ctx, h, data, o)
	if err != nil {
		return onDevice(device, err)
	}
	return onDevice(device, r.CopyTo(ctx, a.out, exportPiece))
}

// reader unlocks the volume. The key is wiped when the cipher is set up.
func (a *app) reader(ctx context.Context, h *luks2.Header, data *luks2.File, o *testOptions) (*luks2.Reader, error) {
	size, err := data.Size()
	if err != nil {
		return nil, err
	}
	key, err := a.unlockOnce(ctx, h, data.Name(), o)
	if err != nil {
		return nil, err
	}
	defer key.Volume.Wipe()
	return h.NewReader(data, size, key.Volume)
}
