package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/pkcs11"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/volume"
)

// unlockTries is how often the current passphrase is asked for.
const unlockTries = 4

type enrollOptions struct {
	password    bool
	recovery    bool
	tpm2        tpm2Flags
	fido2       fido2Flags
	pkcs11      pkcs11Flags
	wipe        volume.Selection
	unlock      unlockFlags
	listDevices bool
	// Ours.
	name   string
	force  bool
	dryRun bool
	backup string
	kdf    kdfFlags
	limits luks2.Limits
}

func (o *enrollOptions) bind(f *pflag.FlagSet, original bool) {
	onceVar(f, &o.password, "password", "enrol a passphrase")
	onceVar(f, &o.recovery, "recovery-key", "enrol a recovery key, which is printed")
	o.tpm2.bind(f)
	o.fido2.bind(f)
	o.pkcs11.bind(f, original)
	f.Var(selectionFlag{&o.wipe}, "wipe-slot", "wipe these keyslots afterwards: numbers, all, empty, password, recovery,\npkcs11, fido2, tpm2")
	o.unlock.bind(f)
	f.BoolVar(&o.listDevices, "list-devices", false, "list LUKS volumes and exit")
	f.Bool("no-pager", false, "has no effect: there is no pager")
	if original {
		return
	}
	f.StringVar(&o.name, "name", "", "`NAME` of the new keyslot (lockport's own)")
	f.BoolVar(&o.force, "force", false, "wipe even the last passphrase and recovery key (lockport's own)")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done (lockport's own)")
	f.StringVar(&o.backup, "header-backup-file", "", "back up the header to this new `FILE` first (lockport's own)")
	o.kdf.bind(f)
	limitFlags(f, &o.limits)
}

func (a *app) enrollCommand() *cobra.Command {
	o := &enrollOptions{}
	cmd := &cobra.Command{
		Use:   "enroll [OPTIONS] [DEVICE]",
		Short: "Add a keyslot to a volume, wipe keyslots, or list them",
		Long: `Adds a passphrase, a recovery key, a TPM2, a FIDO2 security key or a smartcard to a
LUKS2 volume, wipes keyslots, or, without an option, lists them. It takes the options of
systemd-cryptenroll.

DEVICE is a block device or an image file; without it, the volume that /var is
on is meant. The current passphrase is taken from --unlock-key-file=,
$PASSWORD, the credential cryptenroll.passphrase, or is asked for; a new one
from $NEWPASSWORD, the credential cryptenroll.new-passphrase, or is asked for.
The PIN of a TPM2 is taken from $NEWPIN, the credential
cryptenroll.new-tpm2-pin, or is asked for; that of a smartcard from $PIN, the
credential cryptenroll.pkcs11-pin, or is asked for.

A TPM2 keyslot opens while the PCRs hold what they held when it was enrolled,
what a key has signed, or what a pcrlock policy permits; see explain and refresh
for when they do not. One that is bound to nothing opens for everybody who
starts this machine, and has to be asked for with an empty --tpm2-pcrs=. A new
PIN takes the place of the one for the same policy; a keyslot with a name stays
if the new one is given another name.

A FIDO2 keyslot opens with the security key that it was made with, which needs
hmac-secret. The key is asked for its PIN and a touch unless options say otherwise;
what it can't do is left out, what it insists on is put in, and the keyslot says
what was agreed. The PIN is taken from the credential cryptenroll.fido2-pin, or is
asked for.

A smartcard, or another PKCS#11 token, needs a key pair that may decrypt (RSA)
or derive (elliptic curves P-256, P-384 and P-521, which systemd reads from 256
on), with its public key or a certificate. p11-kit loads the module. Where
several keys fit, the URI of one says which: with id= or object=.

A new keyslot is opened once from the disk before it counts. Slots are only
wiped after that. The exit status is 0 on success and 1 otherwise.`,
		Example: `  lockport enroll --recovery-key /dev/sda2
  lockport enroll --tpm2-device=auto --tpm2-with-pin=yes /dev/sda2
  lockport enroll --fido2-device=auto /dev/sda2
  lockport enroll --pkcs11-token-uri=auto /dev/sda2
  lockport enroll --password --name 'Ada at home' /dev/sda2
  lockport enroll --recovery-key --wipe-slot=recovery /dev/sda2`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.listDevices:
				return a.listDevices()
			case o.tpm2.device == "list":
				return a.listTPMs()
			case o.fido2.device == "list":
				return a.listKeys(cmd.Context())
			case o.pkcs11.uri == "list":
				return a.listTokens(cmd.Context(), &o.pkcs11)
			}
			return a.enroll(cmd.Context(), o, args)
		},
	}
	cmd.Flags().SortFlags = false
	o.bind(cmd.Flags(), a.original)
	return cmd
}

// kinds counts what is to be enrolled.
func (o *enrollOptions) kinds() int {
	return count(o.password, o.recovery, o.tpm2.wanted(), o.fido2.wanted(), o.pkcs11.wanted())
}

// enroller returns what is to be enrolled, nil for nothing.
func (o *enrollOptions) enroller(ctx context.Context, a *app, device string) (volume.Enroller, error) {
	switch {
	case o.kinds() > 1:
		return nil, errors.New("only one keyslot is enrolled at a time: --password, --recovery-key, --tpm2-device, --fido2-device or --pkcs11-token-uri")
	case o.fido2.wanted():
		return o.fido2.enroller(ctx, a, device)
	case o.recovery:
		return volume.RecoveryEnroller{}, nil
	case o.password:
		return passwordEnroller{volume.PasswordEnroller{Question: newPassphrase(device)}, o.kdf, o.limits}, o.kdf.check()
	case o.tpm2.wanted():
		return o.tpm2.enroller(ctx, a)
	case o.pkcs11.wanted():
		return o.pkcs11.enroller(a, device)
	}
	return nil, nil
}

// ready tells an enroller of the volume and checks what can be known before anybody
// has to type.
func ready(ctx context.Context, with volume.Enroller, h *luks2.Header) error {
	switch e := with.(type) {
	case *tpm2.Enroller:
		e.Existing = h.Tokens()
		return e.Check(ctx)
	case *fido2.Enroller:
		e.UUID, e.Existing = h.UUID(), h.Tokens()
		return e.Check(ctx)
	case *pkcs11.Enroller:
		return e.Check(ctx)
	}
	return nil
}

func (a *app) enroll(ctx context.Context, o *enrollOptions, args []string) error {
	if err := o.unlock.check(); err != nil {
		return err
	}
	if o.name != "" && o.kinds() == 0 {
		return errors.New("--name is for a new keyslot: --password, --recovery-key, --tpm2-device, --fido2-device or --pkcs11-token-uri is missing")
	}
	if err := luks2.CheckName(o.name); err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	device, err := a.deviceOrVar(args, !o.wipe.None())
	if err != nil {
		return err
	}
	with, err := o.enroller(ctx, a, device)
	if err != nil {
		return err
	}
	if with == nil && o.wipe.None() {
		return a.slots(ctx, device, &slotsOptions{short: true})
	}
	f, h, err := a.openHeader(ctx, device, o.dryRun, luks2.WithLimits(o.limits), luks2.WithQueue())
	if err != nil {
		return err
	}
	defer f.Close()
	if err := ready(ctx, with, h); err != nil {
		return err
	}
	if c, ok := with.(interface{ Close(context.Context) }); ok {
		defer c.Close(ctx)
	}
	if err := a.enrollAndWipe(ctx, h, device, with, o); err != nil {
		return onDevice(device, err)
	}
	return nil
}

func (a *app) enrollAndWipe(ctx context.Context, h *luks2.Header, device string, with volume.Enroller, o *enrollOptions) error {
	if o.dryRun {
		return a.showEnroll(ctx, h, with, o)
	}
	// Planned once before anything is written: a refusal after the enrolment
	// would leave half of the work done.
	if err := a.checkWipe(ctx, h, with, o); err != nil {
		return err
	}
	if o.backup != "" {
		if err := a.backupHeader(ctx, h, o.backup); err != nil {
			return err
		}
	}
	var keep []int
	if with != nil {
		slot, err := a.enrollSlot(ctx, h, device, with, o)
		if err != nil {
			return err
		}
		keep = append(keep, slot)
	}
	if o.wipe.None() {
		return nil
	}
	return a.wipe(ctx, h, o.wipe, o.force, keep...)
}

// enrollSlot unlocks the volume and adds the keyslot.
func (a *app) enrollSlot(ctx context.Context, h *luks2.Header, device string, with volume.Enroller, o *enrollOptions) (int, error) {
	ask := a.asker(asking{})
	key, err := a.unlock(ctx, h, o.unlock.methods(h, device, a), ask, volume.UnlockOptions{Tries: unlockTries})
	if err != nil {
		return 0, err
	}
	defer key.Volume.Wipe()
	done, err := volume.Enroll(ctx, h, key.Volume, with, ask, volume.EnrollOptions{Name: o.name, Created: a.now()})
	var already *tpm2.AlreadyEnrolled
	if errors.As(err, &already) {
		return already.Keyslot, a.reuseTPM(ctx, h, already.Keyslot, key.Volume, o)
	}
	if err != nil {
		return 0, err
	}
	defer done.Pass.Wipe()
	if done.Kind == volume.Recovery {
		if err := a.printRecoveryKey(done.Pass); err != nil {
			// Nobody knows the key, so it must not stay.
			return 0, errors.Join(marked{fmt.Errorf("printing the recovery key: %w", err), errKeyLost},
				volume.Withdraw(context.WithoutCancel(ctx), h, done.Keyslot))
		}
	}
	if done.Kind == volume.Password && done.Pass.Len() == 0 {
		a.warn("%s: the new passphrase is empty, which opens the volume to everybody", device)
	}
	if err := a.printCredential(ctx, h, with, done.Keyslot); err != nil {
		return 0, err
	}
	a.say("New %s enrolled as key slot %d.", kindName(done.Kind), done.Keyslot)
	return done.Keyslot, a.replaceTPM(ctx, h, done.Keyslot, o)
}

// reuseTPM takes a keyslot that is bound to the same for the new one. That is what
// its token says; before others are wiped in its favour it has to open, too.
func (a *app) reuseTPM(ctx context.Context, h *luks2.Header, slot int, key *secret.Bytes, o *enrollOptions) error {
	if !o.wipe.None() {
		state := tpmStateFlags{device: o.tpm2.device, signature: o.tpm2.signature, pcrLock: o.tpm2.pcrLock.text}
		got, err := a.unlock(ctx, h, tpmTokens(h, state.key(a), slot), nil, volume.UnlockOptions{Tries: 1})
		if err == nil && !got.Volume.Equal(key) {
			err = errors.New("it holds another key")
		}
		got.Volume.Wipe()
		if err != nil {
			return fmt.Errorf("key slot %d is bound to the same already but does not open, so nothing was wiped: %w", slot, err)
		}
	}
	a.say("Key slot %d is bound to the same already, nothing to do.", slot)
	return nil
}

// replaceTPM wipes the TPM2 keyslots that the new one replaces: those with the
// same policy and another PIN. Unless the new one was given a name it gets theirs;
// if it was, a keyslot of another name is another person's and stays.
func (a *app) replaceTPM(ctx context.Context, h *luks2.Header, slot int, o *enrollOptions) error {
	old := slices.DeleteFunc(tpm2.Replaced(h.Tokens(), slot), func(id int) bool {
		k, err := h.Keyslot(id)
		return err == nil && o.name != "" && k.Note.Name != "" && k.Note.Name != o.name
	})
	if len(old) == 0 {
		return nil
	}
	if k, err := h.Keyslot(old[0]); err == nil && o.name == "" && k.Note.Name != "" {
		if err := volume.SetName(h, slot, k.Note.Name); err != nil {
			return err
		}
	}
	return a.wipe(ctx, h, volume.Selection{Slots: old}, false, slot)
}

func currentPassphrase(device string) volume.Question {
	return volume.Question{
		Message: "Please enter current %s for disk " + device + ":", ID: "cryptenroll:" + device,
		Env: "PASSWORD", Credential: "cryptenroll.passphrase", Cache: "cryptenroll",
	}
}

func newPassphrase(device string) volume.Question {
	return volume.Question{
		Message: "Please enter new passphrase for disk " + device + ":",
		Confirm: "Please enter new passphrase for disk " + device + " (repeat):",
		ID:      "cryptenroll:" + device, Env: "NEWPASSWORD", Credential: "cryptenroll.new-passphrase",
	}
}

// kindName names a kind in a sentence.
func kindName(k volume.Kind) string {
	switch k {
	case volume.Recovery:
		return "recovery key"
	case volume.TPM2:
		return "TPM2 token"
	case volume.FIDO2:
		return "FIDO2 token"
	case volume.PKCS11:
		return "PKCS#11 token"
	}
	return string(k)
}

// checkWipe plans the wipe as if the new keyslot were there already.
func (a *app) checkWipe(ctx context.Context, h *luks2.Header, with volume.Enroller, o *enrollOptions) error {
	if o.wipe.None() || with == nil {
		return nil
	}
	s := o.wipe
	s.Adds = volume.KindOf(with)
	_, err := a.planWipe(ctx, h, s, o.force)
	return err
}

// showEnroll prints the plan of an enrolment.
func (a *app) showEnroll(ctx context.Context, h *luks2.Header, with volume.Enroller, o *enrollOptions) error {
	s := o.wipe
	if with != nil {
		slot, err := h.FreeSlot()
		if err != nil {
			return err
		}
		s.Adds = volume.KindOf(with)
		fmt.Fprintf(a.out, "add keyslot %d (%s)\n", slot, s.Adds)
	}
	if o.wipe.None() {
		return nil
	}
	plan, err := a.planWipe(ctx, h, s, o.force)
	if err != nil {
		return err
	}
	return a.showWipe(plan)
}
