package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/lockport/lockport/build"
	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/image"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/pkcs11"
	"github.com/lockport/lockport/portable"
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
	{errElsewhere, "run lockport on that system itself, through ssh or machinectl shell for example"},
	{errNeedsManager, "leave --now, --enable and --clean out, or leave --root out if the running system is meant"},
	{errCopyMode, "take auto, copy, symlink or mixed"},
	{errOutside, "move the image into the tree, or give its path from the top of the tree, beginning with /"},
	{errNotBuilt, "use a passphrase, recovery key or key file, or systemd's own tool for this volume"},
	{pkcs11.ErrNoP11Kit, "install the package p11-kit, which loads the modules of smartcards and other tokens"},
	{pkcs11.ErrNoModules, "install the package with the module of your token, opensc-pkcs11 for most smartcards, or name the module with --pkcs11-module"},
	{pkcs11.ErrTooOld, "install a newer p11-kit, or enrol an RSA key"},
	{pkcs11.ErrLocked, "unlock it with its PUK and its maker's program; a passphrase or recovery key still opens the volume"},
	{pkcs11.ErrPIN, "after a few wrong PINs the token locks; a passphrase or recovery key still opens the volume"},
	{pkcs11.ErrSeveral, "name the one that is meant: --pkcs11-token-uri=URI"},
	{pkcs11.ErrNoKey, "'pkcs11-tool --login --list-objects' shows what is on it; a key has to be there that may decrypt or derive"},
	{pkcs11.ErrNoToken, "plug it in; 'lockport enroll --pkcs11-token-uri=list' shows what is there"},
	{pkcs11.ErrPINInURI, "leave pin-value= out; the PIN is asked for, or taken from $PIN"},
	{pkcs11.ErrURI, "'lockport enroll --pkcs11-token-uri=list' shows how URIs look"},
	{tpm2.ErrUnproven, "look with 'lockport explain DEVICE' what it is bound to; if that is your own doing, add --adopt"},
	{errStale, "if that state is as it should be, 'lockport refresh DEVICE' binds the keyslot to it"},
	{errNoTPMSlot, "'lockport enroll --tpm2-device=auto DEVICE' makes one"},
	{tpm2.ErrKernelPCR, "give the value with --tpm2-pcrs=N:sha256=VALUE, or run 'lockport refresh DEVICE' after booting the new kernel"},
	{tpm2.ErrOtherTPM, "'lockport explain DEVICE' tells what the keyslot is bound to; after the TPM was replaced or cleared, 'lockport refresh --replace-tpm DEVICE' binds it to the one here"},
	{tpm2.ErrBank, "'lockport doctor' shows the PCR banks; switch the missing one on in the firmware's setup, or 'lockport refresh DEVICE' binds to another"},
	{tpm2.ErrNoSignature, "give the file of signatures with tpm2-signature=, or boot a kernel image that has them; 'lockport explain DEVICE' shows what was looked for"},
	{tpm2.ErrPolicy, "'lockport explain DEVICE' shows what has changed; if that is as it should be, 'lockport refresh DEVICE' binds the keyslot to it"},
	{tpm2.ErrPIN, "each wrong PIN counts, and too many lock the TPM for a while; a passphrase or recovery key still opens the volume"},
	{tpm2.ErrNoTPM, "'lockport doctor' tells what is there of a TPM"},
	{tpm2.ErrFull, "remove what is not needed from the TPM; 'lockport doctor' shows how much room there is"},
	{tpm2.ErrOwnerAuth, "have its owner make a storage key, and name it with --tpm2-seal-key-handle"},
	{tpm2.ErrChanging, "something measures to these PCRs all the time; bind to others"},
	{tpm2.ErrBusy, "try again in a minute; the TPM may be testing itself"},
	{fido2.ErrGone, "plug it in, and leave it there until the end"},
	{fido2.ErrNoDevice, "plug it in; 'lockport enroll --fido2-device=list' shows which are there"},
	{fido2.ErrSeveral, "name one of them with --fido2-device, or leave only one plugged in"},
	{fido2.ErrOtherKey, "'lockport slots DEVICE' shows what the keyslots were enrolled with, as far as it is known"},
	{fido2.ErrNoHMACSecret, "take a security key that supports hmac-secret, as nearly all with FIDO2 do"},
	{fido2.ErrNotFIDO2, "'lockport enroll --fido2-device=list' shows the security keys that are there"},
	{fido2.StatusPINBlocked, "the key has to be reset, which its keyslot does not survive; a passphrase or recovery key still opens the volume"},
	{fido2.StatusPINAuthBlocked, "pull the security key out and plug it in again"},
	{fido2.StatusPINInvalid, "after 8 wrong PINs the key blocks for good, and its keyslot is lost"},
	{fido2.ErrPIN, "give the PIN of the security key, not that of something else"},
	{fido2.ErrNoPIN, "set a PIN on it again, with 'fido2-token -S' for example"},
	{fido2.StatusUserActionTimeout, "run it again, and touch the key when asked to"},
	{fido2.StatusUnsupportedAlg, "choose another with --fido2-credential-algorithm"},
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
	{uki.ErrNotUKI, "name a file as ukify makes it, or give the sections one by one: --linux, --initrd and so on"},
	{uki.ErrUnsupported, "give the sections that this machine uses one by one: --linux, --initrd and so on"},
	{volume.ErrLastHuman, "enrol a recovery key first ('lockport enroll --recovery-key DEVICE'), or say --force if you mean it"},
	{volume.ErrLastSlot, "enrol another keyslot first, 'lockport enroll --recovery-key DEVICE' for example"},
	{volume.ErrHomed, "use homectl for this volume"},
	{portable.ErrUnfinished, "look at the file, then undo the rest with 'lockport portable repair --force'"},
	{portable.ErrAttached, "'lockport portable detach' detaches it"},
	{image.ErrVendor, "they belong to packages of the system; its package manager removes them"},
	{image.ErrBusy, "another program works on it; try again when that has ended"},
	{image.ErrMounted, "unmount what is there first; 'findmnt' lists it"},
	{image.ErrNoLimit, "make it with 'btrfs subvolume create', on a btrfs file system"},
	{portable.ErrUnitActive, "stop it first, which detach --now does, or go on while it runs with --force"},
	{portable.ErrNoManager, "work on a tree of files with --root=DIR; where no systemd runs, --force --no-reload does without"},
	{portable.ErrNotAttached, "'lockport portable list' shows what is attached"},
	{portable.ErrUnitExists, "detach or remove that unit first, take other units with PREFIX, or replace it with --force"},
	{portable.ErrNoProfile, "choose one of these with --profile"},
	{portable.ErrArchitecture, "give it as in systemd's ConditionArchitecture=: x86-64, arm64 and so on"},
	{portable.ErrNoUnits, "'lockport portable inspect IMAGE -' lists all units of the image; name their PREFIX behind IMAGE"},
	{portable.ErrPrefix, "name one that it allows behind IMAGE"},
	{portable.ErrBadPrefix, "name the PREFIX of the units behind IMAGE"},
	{portable.ErrMismatch, "take the extension that was built for this image"},
	{portable.ErrRelease, "whoever builds the image has to mend this file"},
	{errNoSpec, "name the specification, or say what is in the image with options; 'lockport portable new NAME' writes an example"},
	{build.ErrSpec, "'lockport portable build --help' shows what can be said of an image"},
	{image.ErrNotFound, "'lockport portable list' shows the images that are found by name; a path begins with / or ./"},
	{image.ErrUnsupported, "unpack it to a directory of the tree and attach that"},
	{image.ErrEncrypted, "a service has nobody to ask for a key: attach an image that is not encrypted"},
	{image.ErrNoVerity, "an image needs a hash tree and its root hash for that: a partition of its own, or NAME.verity and NAME.roothash beside it"},
	{image.ErrPolicy, "take an image that is protected as the policy wants it, or another policy"},
	{image.ErrNotImage, "an image is a directory, a block device, or a file NAME.raw with a file system or partitions"},
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
func hint(err error, now time.Time) string {
	if errors.Is(err, context.Canceled) {
		return ""
	}
	var locked *tpm2.LockedOut
	if errors.As(err, &locked) {
		return lockedHint(locked, now)
	}
	var job *portable.JobError
	if errors.As(err, &job) {
		return "'systemctl status " + job.Unit + "' tells more"
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

// lockedHint says when a PIN will be taken again.
func lockedHint(l *tpm2.LockedOut, now time.Time) string {
	const otherwise = "; until then a passphrase or recovery key opens the volume"
	if l.Wait == 0 {
		return "try again later" + otherwise
	}
	until := now.Add(l.Wait).Local()
	form := "15:04"
	if l.Wait > 12*time.Hour {
		form = "15:04 on Monday, 2 January"
	}
	return "locked out until about " + until.Format(form) + otherwise
}

// forDevice makes an advice one that can be copied into a shell.
func forDevice(text string, err error) string {
	var d *deviceError
	if !errors.As(err, &d) || strings.ContainsAny(d.device, " '\"\\$`") {
		return text
	}
	return strings.ReplaceAll(text, "DEVICE", d.device)
}
