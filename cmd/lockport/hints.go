package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/tpm2/uki"
	"github.com/lockport/lockport/volume"
)

// advice says what to try after an error. The first match counts, so the
// particular stands before the general. DEVICE becomes the device that the
// error is about.
var advice = []struct {
	cause error
	text  string
}{
	{errNotBuilt, "use a passphrase, recovery key or key file, or systemd's own tool for this volume"},
	{errTerminal, "redirect it to a file or a pipe"},
	{errNoDevice, "name it, or find it with 'lockport enroll --list-devices'"},
	{errNoVolume, "check the path; 'lockport enroll --list-devices' lists LUKS volumes"},
	{errLUKS1, "back up its header, then 'cryptsetup convert --type luks2 DEVICE' makes it one"},
	{errTooSmall, "take a larger device, let the data begin sooner with --offset, or keep the header elsewhere with --header"},
	{errNotEmpty, "look at it with 'lsblk -f DEVICE'; --batch-mode overwrites it"},
	{errCosts, "leave out the --pbkdf options, and the costs are measured"},
	{errSwapped, "the volume comes first, then the backup; if it is right so, say --force"},
	{errUnlike, "if the backup is that of this very volume, restore it with --force"},
	{errSigningKey, "make one with 'openssl genrsa -out FILE 2048'"},
	{tpm2.ErrEncryptedKey, "decrypt it with 'openssl pkey -in FILE -out PLAIN', to a file in memory"},
	{tpm2.ErrOtherKey, "leave it out, or name the private key that it belongs to"},
	{tpm2.ErrNoTPM, "name it with --tpm2-device, /dev/tpmrm0 for example"},
	{uki.ErrNotUKI, "name a file as ukify makes it, or give the sections one by one: --linux, --initrd and so on"},
	{uki.ErrUnsupported, "give the sections that this machine uses one by one: --linux, --initrd and so on"},
	{volume.ErrLastHuman, "enrol a recovery key first ('lockport enroll --recovery-key DEVICE'), or say --force if you mean it"},
	{volume.ErrLastSlot, "enrol another keyslot first, 'lockport enroll --recovery-key DEVICE' for example"},
	{volume.ErrHomed, "use homectl for this volume"},
	{luks2.ErrAmbiguous, "look with 'blkid -p DEVICE' what it is; if the LUKS2 volume is what counts, 'lockport header repair --force DEVICE'"},
	{luks2.ErrChanged, "nothing was written; run the command again"},
	{luks2.ErrLimit, "if you trust this header, allow more memory with --kdf-memory-max"},
	{luks2.ErrDamaged, "restore a backup of the header with 'lockport header restore DEVICE FILE'"},
	{luks2.ErrNotLUKS2, "'lsblk -f' shows what is where"},
	{luks2.ErrFull, "remove a keyslot that is not used any more; 'lockport slots DEVICE' shows them"},
	{luks2.ErrNoKeyslot, "'lockport slots DEVICE' shows which keyslots there are"},
	{luks2.ErrPassphrase, "'lockport slots DEVICE' shows what the volume can be opened with"},
	{volume.ErrNoAnswer, "run it at a terminal, or give the secret as a credential or key file"},
	{errBusy, "close or unmount what uses the volume; 'lsblk' and 'fuser -vm' show it"},
	{errMapped, "choose another name, or 'lockport detach NAME' first"},
	{errNoMapping, "load the modules dm_mod and dm_crypt; without them 'lockport export' still reads the data"},
	{syscall.ENOMEM, "close other programs, or limit the derivation with --kdf-memory-max"},
	{fs.ErrExist, "choose another name: nothing is overwritten"},
	{fs.ErrPermission, "run it as root"},
	{fs.ErrNotExist, "check the path"},
}

// hint returns the advice for an error, "" for none.
func hint(err error) string {
	if errors.Is(err, context.Canceled) {
		return ""
	}
	var m *misuse
	if errors.As(err, &m) {
		return m.advice
	}
	for _, a := range advice {
		if errors.Is(err, a.cause) {
			return forDevice(a.text, err)
		}
	}
	return ""
}

// forDevice makes an advice one that can be copied into a shell.
func forDevice(text string, err error) string {
	var d *deviceError
	if !errors.As(err, &d) || strings.ContainsAny(d.device, " '\"\\$`") {
		return text
	}
	return strings.ReplaceAll(text, "DEVICE", d.device)
}
