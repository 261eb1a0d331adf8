package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

type formatOptions struct {
	luks2.FormatOptions
	keyBits      int
	offset       int64 // sectors
	keyFile      string
	header       string
	metadataSize int64
	yes          bool
	name         string
	kdf          kdfFlags
}

func (a *app) formatCommand() *cobra.Command {
	o := &formatOptions{}
	cmd := &cobra.Command{
		Use:   "format [OPTIONS] DEVICE",
		Short: "Make a new LUKS2 volume; what is on the device is lost",
		Long: `Makes a new LUKS2 volume with one passphrase, as 'cryptsetup luksFormat' does.
Everything on the device is lost. The options have the names that they have in
cryptsetup. The passphrase is taken from --key-file=, $NEWPASSWORD, the
credential cryptenroll.new-passphrase, or is asked for.`,
		Example: `  truncate -s 64M disk.img && lockport format disk.img
  lockport format --label=backup --header=usb/backup.header /dev/sdb`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.format(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.Label, "label", "", "label of the volume, up to 47 `BYTES`")
	f.StringVar(&o.Subsystem, "subsystem", "", "subsystem label, up to 47 `BYTES`")
	f.StringVar(&o.UUID, "uuid", "", "`UUID` (default: random)")
	f.StringVarP(&o.Cipher, "cipher", "c", "aes-xts-plain64", "`CIPHER` of the data")
	f.IntVarP(&o.keyBits, "key-size", "s", 512, "`BITS` of the volume key")
	f.IntVar(&o.SectorSize, "sector-size", 0, "`BYTES` of an encryption sector (default: what suits the device)")
	f.Int64VarP(&o.offset, "offset", "o", 0, "start of the data in `SECTORS` of 512 bytes (default: 32768)")
	f.StringVar(&o.header, "header", "", "write the header to this `FILE` instead of the device")
	f.Var(sizeFlag{&o.metadataSize}, "luks2-metadata-size", "size of one copy of the header, 16K to 4M")
	f.StringVar(&o.keyFile, "key-file", "", "`FILE` with the passphrase, every byte of it")
	f.BoolVarP(&o.yes, "batch-mode", "q", false, "don't ask whether to overwrite what is there")
	f.StringVar(&o.name, "name", "", "`NAME` of the first keyslot (lockport's own)")
	o.kdf.bind(f)
	limitFlags(f, &o.Limits)
	return cmd
}

func (a *app) format(ctx context.Context, device string, o *formatOptions) error {
	data, err := luks2.OpenFile(device, o.header != "")
	if err != nil {
		return err
	}
	defer data.Close()
	store := data
	if o.header != "" {
		if store, err = createHeader(o); err != nil {
			return err
		}
		defer store.Close()
	}
	if err := o.complete(ctx, data); err != nil {
		return err
	}
	if err := a.confirmFormat(device, store, o.yes); err != nil {
		return err
	}
	pass, err := a.newPassphraseFor(ctx, device, o.keyFile)
	if err != nil {
		return err
	}
	defer pass.Wipe()
	o.Note = luks2.Note{Name: o.name, Created: a.now(), Method: "format"}
	h, key, err := luks2.Format(ctx, store, pass, o.FormatOptions)
	if err != nil {
		return fmt.Errorf("%s: %w", store.Name(), err)
	}
	key.Wipe()
	a.say("LUKS2 volume %s made on %s.", h.UUID(), device)
	a.say("A passphrase can be forgotten: 'lockport enroll --recovery-key %s' makes a second key.", store.Name())
	return nil
}

// complete turns the flags into what luks2 takes.
func (o *formatOptions) complete(ctx context.Context, data *luks2.File) (err error) {
	o.KeySize = o.keyBits / 8
	o.DataOffset = o.offset * 512
	o.HeaderSize = o.metadataSize
	o.Detached = o.header != ""
	if o.SectorSize == 0 {
		o.SectorSize = data.SectorSize()
	}
	o.KDF, err = o.kdf.cost(ctx, o.Limits)
	return err
}

// createHeader makes the file for a detached header: as large as the place that
// cryptsetup keeps for a header in front of the data.
func createHeader(o *formatOptions) (*luks2.File, error) {
	f, err := os.OpenFile(o.header, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() && st.Size() < luks2.DefaultHeaderArea {
		err = f.Truncate(luks2.DefaultHeaderArea)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return luks2.OpenFile(o.header, false)
}

// confirmFormat has a person agree to the loss of what a device holds.
func (a *app) confirmFormat(device string, store *luks2.File, yes bool) error {
	what, err := luks2.Probe(store)
	if err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	if what == "" || yes {
		return nil
	}
	if !isTerminal(os.Stdin) {
		return fmt.Errorf("%s holds %s; to overwrite it, use --batch-mode", device, what)
	}
	fmt.Fprintf(a.err, "%s holds %s, which will be lost. Type 'yes' to go on: ", device, what)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// newPassphraseFor gets the passphrase of a new volume.
func (a *app) newPassphraseFor(ctx context.Context, device, keyFile string) (*secret.Bytes, error) {
	if keyFile != "" {
		return volume.KeySource{Path: keyFile, Warn: func(text string) { a.warn("%s", text) }}.Read(ctx)
	}
	ask := a.asker(false)
	pass, _, err := volume.PasswordEnroller{Question: newPassphrase(device)}.Enroll(ctx, ask)
	return pass, err
}

// cost returns the derivation that the flags ask for. Nothing is measured for
// costs that are given.
func (k *kdfFlags) cost(ctx context.Context, l luks2.Limits) (luks2.KDF, error) {
	if k.iterations == 0 {
		if k.kind == "" {
			// The flags don't exist under the original's name.
			return luks2.DefaultKDF(ctx, l)
		}
		return luks2.Benchmark(ctx, k.kind, time.Duration(k.iterTime)*time.Millisecond, l)
	}
	kdf := luks2.KDF{Type: k.kind, Hash: k.hash, Iterations: k.iterations}
	if k.kind != luks2.PBKDF2 {
		kdf = luks2.KDF{Type: k.kind, Time: k.iterations, Memory: k.memory, CPUs: max(k.parallel, 1)}
	}
	return kdf, nil
}
