package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

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
	content      string
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
  lockport format --label=backup --header=usb/backup.header /dev/sdb
  lockport format --content=root.ext4 disk.img`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.format(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.Label, "label", "", "label of the volume: a `TEXT` of up to 47 bytes")
	f.StringVar(&o.Subsystem, "subsystem", "", "subsystem label: a `TEXT` of up to 47 bytes")
	f.StringVar(&o.UUID, "uuid", "", "`UUID` (default: random)")
	f.StringVarP(&o.Cipher, "cipher", "c", "aes-xts-plain64", "`CIPHER` of the data")
	f.IntVarP(&o.keyBits, "key-size", "s", 512, "`BITS` of the volume key")
	f.IntVar(&o.SectorSize, "sector-size", 0, "`BYTES` of an encryption sector (default: what suits the device)")
	f.Int64VarP(&o.offset, "offset", "o", 0, "start of the data in `SECTORS` of 512 bytes (default: 32768)")
	f.StringVar(&o.header, "header", "", "write the header to this `FILE` instead of the device")
	f.Var(sizeFlag{&o.metadataSize}, "luks2-metadata-size", "size of one copy of the header: 16K, 32K, 64K … 4M")
	keyFileFlag(f, &o.keyFile)
	f.StringVar(&o.content, "content", "", "encrypt this `FILE` into the volume, such as an image of a file system; no root\nis needed for it (lockport's own)")
	f.BoolVarP(&o.yes, "batch-mode", "q", false, "don't ask whether to overwrite what is there")
	f.StringVar(&o.name, "name", "", "`NAME` of the first keyslot (lockport's own)")
	o.kdf.bind(f)
	limitFlags(f, &o.Limits)
	return cmd
}

func (a *app) format(ctx context.Context, device string, o *formatOptions) error {
	data, err := openDevice(device, o.header != "" && o.content == "")
	if err != nil {
		return err
	}
	defer data.Close()
	if err := o.complete(data); err != nil {
		return onDevice(device, err)
	}
	content, err := o.openContent(data)
	if err != nil {
		return err
	}
	defer content.Close()
	if o.header == "" || o.content != "" {
		release, err := claim(data)
		if err != nil {
			return err
		}
		defer release()
	}
	if o.header == "" {
		return a.formatStore(ctx, device, data, content, data, o)
	}
	if o.content != "" {
		if err := a.confirmFormat(ctx, data, o.yes); err != nil {
			return err
		}
	}
	store, discard, err := createHeader(o)
	if err != nil {
		return err
	}
	err = a.formatStore(ctx, device, store, content, data, o)
	if err != nil {
		discard()
	}
	return errors.Join(err, store.Close())
}

// formatStore writes the header to where it is to be, and content, if there is
// any, into the data.
func (a *app) formatStore(ctx context.Context, device string, store *luks2.File, content io.Reader, data *luks2.File, o *formatOptions) error {
	if err := a.confirmFormat(ctx, store, o.yes); err != nil {
		return err
	}
	pass, err := a.newPassphraseFor(ctx, device, o.keyFile)
	if err != nil {
		return err
	}
	defer pass.Wipe()
	if pass.Len() == 0 {
		a.warn("%s: the passphrase is empty, which opens the volume to everybody", device)
	}
	if o.KDF, err = o.kdf.cost(ctx, o.Limits); err != nil {
		return err
	}
	o.Note = luks2.Note{Name: o.name, Created: a.now(), Method: "format"}
	h, key, err := luks2.Format(ctx, store, pass, o.FormatOptions)
	if err != nil {
		return onDevice(store.Name(), err)
	}
	defer key.Wipe()
	if o.content != "" {
		size, err := data.Size()
		if err == nil {
			_, err = h.Fill(ctx, data, size, key, content)
		}
		if err != nil {
			return onDevice(device, fmt.Errorf("a volume is made, but %s is not all in it: %w", o.content, err))
		}
	}
	a.say("LUKS2 volume %s made on %s.", h.UUID(), device)
	a.say("A passphrase can be forgotten: 'lockport enroll --recovery-key %s' makes a second key.", store.Name())
	return nil
}

// complete turns the flags into what luks2 takes.
func (o *formatOptions) complete(data *luks2.File) error {
	if o.keyBits%8 != 0 {
		return fmt.Errorf("--key-size=%d: not a multiple of 8", o.keyBits)
	}
	if err := luks2.CheckName(o.name); err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	if err := o.checkRoom(data); err != nil {
		return err
	}
	o.KeySize = o.keyBits / 8
	o.DataOffset = o.offset * 512
	o.HeaderSize = o.metadataSize
	o.Detached = o.header != ""
	if o.SectorSize == 0 {
		o.SectorSize = data.SectorSize()
	}
	return o.kdf.check()
}

// openContent opens what is to be in the volume: a file, or nothing. It refuses one
// that there is no room for.
func (o *formatOptions) openContent(data *luks2.File) (io.ReadCloser, error) {
	if o.content == "" {
		return io.NopCloser(strings.NewReader("")), nil
	}
	f, err := os.Open(o.content)
	if err != nil {
		return nil, fmt.Errorf("--content: %w", err)
	}
	info, err := f.Stat()
	var size int64
	if err == nil {
		size, err = data.Size()
	}
	room := size - o.start()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s: not a regular file", o.content)
	case sameFile(info, data.Name()):
		err = fmt.Errorf("%s: that is the device itself", o.content)
	case info.Size() > room-room%int64(o.SectorSize):
		err = fmt.Errorf("%s: it has %d bytes, and %s has room for %d", o.content, info.Size(), data.Name(), room-room%int64(o.SectorSize))
	}
	if err != nil {
		return nil, fmt.Errorf("--content: %w", errors.Join(err, f.Close()))
	}
	return f, nil
}

func sameFile(info fs.FileInfo, name string) bool {
	other, err := os.Stat(name)
	return err == nil && os.SameFile(info, other)
}

// claim keeps a block device for us alone; one that is mounted or mapped is in
// use already.
func claim(data *luks2.File) (release func(), err error) {
	if !data.Block() {
		return func() {}, nil
	}
	f, err := os.OpenFile(data.Name(), os.O_RDWR|os.O_EXCL, 0)
	switch {
	case errors.Is(err, syscall.EBUSY):
		return nil, marked{onDevice(data.Name(), errors.New("is in use")), errBusy}
	case err != nil:
		return nil, onDevice(data.Name(), err)
	}
	return func() { _ = f.Close() }, nil
}

// start is where the data begins, in bytes.
func (o *formatOptions) start() int64 {
	if o.offset == 0 && o.header == "" {
		return luks2.DefaultHeaderArea
	}
	return o.offset * 512
}

// checkRoom refuses a device that has no room for data behind the header.
func (o *formatOptions) checkRoom(data *luks2.File) error {
	start := o.start()
	size, err := data.Size()
	if err != nil {
		return err
	}
	if size <= start {
		return fmt.Errorf("%w: it has %d bytes, and the data would begin at %d", errTooSmall, size, start)
	}
	return nil
}

// createHeader makes the file for a detached header: as large as the place that
// cryptsetup keeps for a header in front of the data. discard removes a file
// that was not there before.
func createHeader(o *formatOptions) (store *luks2.File, discard func(), err error) {
	f, err := os.OpenFile(o.header, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	discard = func() { _ = os.Remove(o.header) }
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(o.header, os.O_RDWR, 0)
		discard = func() {}
	}
	if err != nil {
		return nil, nil, onDevice(o.header, err)
	}
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() && st.Size() < luks2.DefaultHeaderArea {
		err = f.Truncate(luks2.DefaultHeaderArea)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		store, err = openDevice(o.header, false)
	}
	if err != nil {
		discard()
	}
	return store, discard, err
}

// confirmFormat has a person agree to the loss of what a store holds.
func (a *app) confirmFormat(ctx context.Context, store *luks2.File, yes bool) error {
	what, err := luks2.Probe(store)
	if err != nil {
		return onDevice(store.Name(), err)
	}
	if what == "" || yes {
		return nil
	}
	if !isTerminal(os.Stdin) {
		return marked{onDevice(store.Name(), fmt.Errorf("holds %s", what)), errNotEmpty}
	}
	fmt.Fprintf(a.err, "%s holds %s, which will be lost. Type 'yes' to go on: ", store.Name(), what)
	line, err := readLine(ctx)
	if err != nil {
		fmt.Fprintln(a.err)
		return err
	}
	if line != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// readLine reads a line of standard input that is no secret.
func readLine(ctx context.Context) (string, error) {
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		line <- strings.TrimSpace(text)
	}()
	select {
	case text := <-line:
		return text, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// newPassphraseFor gets the passphrase of a new volume.
func (a *app) newPassphraseFor(ctx context.Context, device, keyFile string) (*secret.Bytes, error) {
	if keyFile != "" {
		return a.keySource(keyFile).Read(ctx)
	}
	ask := a.asker(asking{})
	pass, _, err := volume.PasswordEnroller{Question: newPassphrase(device)}.Enroll(ctx, ask)
	return pass, err
}
