package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/crypttab"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

func (a *app) attachCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach NAME DEVICE [KEY-FILE|- [OPTION,...]]",
		Short: "Unlock a volume and make it available as /dev/mapper/NAME",
		Long: `Unlocks a LUKS2 volume and makes its content available as /dev/mapper/NAME.
DEVICE is a block device, UUID=…, LABEL=…, PARTUUID=…, PARTLABEL=…, or an image
file. OPTION,... is a list as in the fourth field of crypttab(5). Volumes that are
plain, swap, tmp, bitlk or tcrypt are not part of this release and refused by name.

With tpm2-device=auto, the TPM2 keyslots are tried first, and a TPM that is on
its way is waited for, up to token-timeout=. Without it and without KEY-FILE they
are tried too, but nothing is waited for. A PIN is taken from $PIN, the
credential cryptsetup.tpm2-pin, or is asked for. KEY-FILE with tpm2-device= is
what the TPM2 has sealed, not the key.

With fido2-device=auto or a path, every FIDO2 keyslot is tried with every security
key that is plugged in; a key that opens none is passed over without a touch, and
one that opens the volume is waited for, up to token-timeout=. Then come key file
and passphrase. Without the option nothing is waited for. The PIN of a key is taken
from $PIN, the credential cryptsetup.fido2-pin, or is asked for. With fido2-cid=
KEY-FILE is the salt of the credential, not the key.

With pkcs11-uri=auto, the smartcards and other PKCS#11 tokens that the header
names are tried, whichever is there, and they are waited for, up to
token-timeout=; without it and without KEY-FILE, those that are there are tried.
The PIN is taken from $PIN, the credential cryptsetup.pkcs11-pin, or is asked for,
and never shared between volumes. With pkcs11-uri=URI, KEY-FILE is what was
encrypted for that token; without KEY-FILE the URI takes the place of those in the
header.

Without KEY-FILE, /etc/cryptsetup-keys.d/NAME.key and
/run/cryptsetup-keys.d/NAME.key are tried; a key file may also be a socket that
hands out the key. Then the credential cryptsetup.passphrase is tried, and a
person is asked. A volume that is attached already is no error. The exit status
is 0 on success and 1 otherwise.`,
		Example: `  lockport attach data /dev/sdb1
  lockport attach data /dev/sdb1 /root/data.key discard,tries=1
  lockport attach data /dev/sdb1 - tpm2-device=auto
  lockport attach data /dev/sdb1 - fido2-device=auto,token-timeout=1min
  lockport attach data disk.img - read-only`,
		Args: arguments(2, 4),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := crypttab.CheckName(args[0]); err != nil {
				return misused(cmd, "%w", err)
			}
			args = append(args, "", "")
			return a.attach(cmd.Context(), args[0], args[1], args[2], args[3])
		},
	}
	var limits luks2.Limits
	if !a.original {
		limitFlags(cmd.Flags(), &limits)
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.limits = limits
			return run(cmd, args)
		}
	}
	return cmd
}

func (a *app) detachCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "detach NAME",
		Short: "Take /dev/mapper/NAME away and forget its key",
		Long: `Removes the mapping of an attached volume. A volume that is in use stays
attached and is an error; one that is not attached is not.`,
		Example: "  lockport detach data",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := crypttab.CheckName(args[0]); err != nil {
				return misused(cmd, "%w", err)
			}
			return a.detach(cmd.Context(), args[0])
		},
	}
}

// An attachment is one volume on its way to /dev/mapper.
type attachment struct {
	name    string
	device  string
	keyFile string
	options crypttab.Options
}

// parseAttachment reads the arguments, which have the meaning of the four
// fields of a line of crypttab.
func (a *app) parseAttachment(name, device, key, options string) (*attachment, error) {
	o, warnings, err := crypttab.ParseOptions(options)
	if err != nil {
		return nil, err
	}
	keyFile, keyDevice, more := crypttab.ParseKey(key)
	for _, w := range append(warnings, more...) {
		a.warn("%s", w)
	}
	if keyDevice != "" {
		// Only the units that the generator makes mount such a device; the
		// original too takes the whole text for the path here.
		keyFile = key
	}
	if missing := o.Unsupported(); len(missing) > 0 {
		return nil, fmt.Errorf("crypttab %s %s: %w", plural(len(missing), "option", "options"), strings.Join(missing, ", "), errNotBuilt)
	}
	return &attachment{name: name, device: crypttab.DeviceNode(device), keyFile: keyFile, options: o}, nil
}

func (a *app) attach(ctx context.Context, name, device, key, options string) error {
	a.lockMemory()
	at, err := a.parseAttachment(name, device, key, options)
	if err != nil {
		return fmt.Errorf("attaching %s: %w", name, err)
	}
	mapper := a.mapper()
	switch uuid, err := mapper.Mapped(ctx, name); {
	case err != nil:
		return err
	case uuid != "":
		a.say("Volume %s is already active.", name)
		return nil
	}
	return a.attachNew(ctx, mapper, at)
}

func (a *app) attachNew(ctx context.Context, mapper mapper, at *attachment) error {
	path := at.device
	if at.options.Header != "" {
		path = at.options.Header
	}
	f, h, err := a.openHeader(ctx, path, true, luks2.WithLimits(a.limits), luks2.WithQueue())
	if err != nil {
		return err
	}
	defer f.Close()
	// All that could refuse the volume is asked before anybody has to type.
	table, release, err := a.table(mapper, h, at)
	if err != nil {
		return err
	}
	defer release()
	ask := a.asker(asking{headless: at.options.Headless, cacheOnly: at.options.Cache == crypttab.CacheReadOnly})
	key, err := a.unlock(ctx, h, a.attachMethods(h, at), ask, volume.UnlockOptions{Tries: int(at.options.Tries)})
	if err != nil {
		return onDevice(path, err)
	}
	defer key.Volume.Wipe()
	table.KeySize = key.Volume.Len()
	if err := mapper.Map(ctx, at.name, table, key.Volume); err != nil {
		return err
	}
	a.measure(ctx, at, h.UUID(), key.Volume)
	return nil
}

// table finds the data device, a loop device for an image, and what the kernel
// has to be told about it.
func (a *app) table(mapper mapper, h *luks2.Header, at *attachment) (luks2.Table, func(), error) {
	release := func() {}
	data, err := openDevice(at.device, true)
	if err != nil {
		return luks2.Table{}, release, err
	}
	defer data.Close()
	size, err := data.Size()
	if err != nil {
		return luks2.Table{}, release, err
	}
	device := at.device
	if !data.Block() {
		loop, undo, err := mapper.AttachLoop(at.device, at.options.Flags.ReadOnly)
		if err != nil {
			return luks2.Table{}, release, err
		}
		// The mapping holds the loop device from then on.
		device, release = loop, func() { _ = undo() }
	}
	t, err := h.Table(at.name, luks2.Activation{Device: device, Size: size, Flags: at.flags(),
		ReadOnly: at.options.Flags.ReadOnly, Detached: at.options.Header != ""})
	if err != nil {
		release()
		return t, func() {}, onDevice(at.device, err)
	}
	return t, release, nil
}

// flags returns the activation flags by the names that headers use.
func (at *attachment) flags() []string {
	f := at.options.Flags
	var list []string
	for _, flag := range []struct {
		on   bool
		name string
	}{
		{f.Discard, "allow-discards"},
		{f.SameCPUCrypt, "same-cpu-crypt"},
		{f.SubmitFromCryptCPUs, "submit-from-crypt-cpus"},
		{f.NoReadWorkqueue, "no-read-workqueue"},
		{f.NoWriteWorkqueue, "no-write-workqueue"},
	} {
		if flag.on {
			list = append(list, flag.name)
		}
	}
	return list
}

// keyFolders are where keys are found by the name of their volume.
var keyFolders = []string{"/etc/cryptsetup-keys.d", "/run/cryptsetup-keys.d"}

// attachMethods lists the ways to unlock in the order of systemd-cryptsetup.
func (a *app) attachMethods(h *luks2.Header, at *attachment) []volume.Method {
	slot := at.options.KeySlot
	var methods []volume.Method
	if at.keyFile == "" && volume.HasKeyring(h) {
		methods = append(methods, volume.Keyring{Lookup: a.keyringKey, Keyslot: slot})
	}
	methods = append(methods, a.attachTPM(h, at)...)
	methods = append(methods, a.attachFIDO2(h, at)...)
	methods = append(methods, a.attachPKCS11(h, at)...)
	if path := at.keyPath(); path != "" && !at.keyNeedsDevice() {
		methods = append(methods, volume.KeyFile{Keyslot: slot, Source: a.keyFileOf(at, path, "cryptsetup")})
	}
	if at.options.TryEmpty {
		methods = append(methods, volume.Empty{Keyslot: slot})
	}
	return append(methods, volume.Passphrase{Keyslot: slot, Question: at.question()})
}

// keyFileOf is where a key is read from; caller tells a key server what for.
func (a *app) keyFileOf(at *attachment, path, caller string) volume.KeySource {
	return volume.KeySource{
		Path: path, Offset: int64(at.options.KeyFileOffset), Size: int64(at.options.KeyFileSize),
		Caller: caller, Volume: at.name, Erase: at.options.KeyFileErase,
		Warn: func(text string) { a.warn("%s", text) },
	}
}

// keyNeedsDevice tells whether the key file is not the key, but what a device makes
// the key from: what the TPM2 sealed, the salt for a security key, or what was
// encrypted for a security token.
func (at *attachment) keyNeedsDevice() bool {
	return at.options.TPM2.Device != "" && at.keyFile != "" || at.options.FIDO2.CredentialID != nil || at.namesToken()
}

// keyPath returns the key file, or the first that is found by the volume's name, or "".
func (at *attachment) keyPath() string {
	if at.keyFile != "" {
		return at.keyFile
	}
	for _, folder := range keyFolders {
		path := filepath.Join(folder, at.name+".key")
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return path
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

func (at *attachment) question() volume.Question {
	q := volume.Question{
		Message:    "Please enter %s for disk " + at.device + " (" + at.name + "):",
		ID:         "cryptsetup:" + at.device,
		Credential: "cryptsetup.passphrase",
		Cache:      "cryptsetup",
		Echo:       at.options.Echo,
		Timeout:    at.options.Timeout,
	}
	if at.options.Verify {
		q.Confirm = "Please enter the same for disk " + at.device + " (" + at.name + ") again:"
	}
	if at.options.Cache == crypttab.CacheNo {
		q.Cache = ""
	}
	return q
}

// detach removes a mapping. One that is not there is as good as removed.
func (a *app) detach(ctx context.Context, name string) error {
	mapper := a.mapper()
	switch uuid, err := mapper.Mapped(ctx, name); {
	case err != nil:
		return err
	case uuid == "":
		a.say("Volume %s is already inactive.", name)
		return nil
	}
	return mapper.Unmap(ctx, name)
}

// keyringKey is a lookup for luks2-keyring tokens.
func (a *app) keyringKey(description string) (*secret.Bytes, error) { return kernelKey(description) }
