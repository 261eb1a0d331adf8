package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/volume"
)

// tpmDeviceFlag adds --tpm2-device= to a command that can't do without.
func tpmDeviceFlag(f *pflag.FlagSet, name *string) {
	f.StringVar(name, "tpm2-device", "auto", "`DEVICE` of the TPM, such as /dev/tpmrm0 or swtpm:path=SOCKET")
}

// tpmName is the device that is meant by "auto": the originals' variable, or
// the machine's only one.
func tpmName(name string) string {
	if set := os.Getenv("SYSTEMD_TPM2_DEVICE"); set != "" && (name == "" || name == "auto") {
		return set
	}
	return name
}

// openTPM opens a TPM. The caller closes it if it is an io.Closer.
func (a *app) openTPM(ctx context.Context, name string) (tpm2.Device, error) {
	return tpm2.Open(ctx, "/", tpmName(name))
}

// tpmFor returns what opens a TPM for one unlock, which may try several tokens
// in turn. It waits for one that is on its way, and does so once; wait 0 is not
// at all, forEver without end.
func (a *app) tpmFor(name string, wait time.Duration) func(context.Context) (tpm2.Device, error) {
	var absent error
	return func(ctx context.Context) (tpm2.Device, error) {
		if absent != nil {
			return nil, absent
		}
		dev, err := a.awaitTPM(ctx, name, wait)
		if errors.Is(err, tpm2.ErrNoTPM) {
			absent = err
		}
		return dev, err
	}
}

const forEver = -1 // as a time to wait

func (a *app) awaitTPM(ctx context.Context, name string, wait time.Duration) (tpm2.Device, error) {
	if wait == 0 {
		return a.openTPM(ctx, name)
	}
	if wait != forEver {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	return tpm2.Wait(ctx, "/", tpmName(name))
}

// tpmKey is what unlocks with a TPM, from the policy files where systemd looks
// for them.
func (a *app) tpmKey(name string, wait time.Duration) *tpm2.Key {
	return &tpm2.Key{Open: a.tpmFor(name, wait), Signatures: tpm2.SignatureFiles("/"),
		PCRLocks: append(tpm2.PCRLockFiles("/"), tpm2.PCRLockCredentials("/")...),
		Failed:   func(err error) { a.warn("%v", err) }}
}

// tpmTokens are the methods that open a volume with its TPM2 tokens: those
// without a PIN, which need nobody, and those with one.
func tpmTokens(h *luks2.Header, key *tpm2.Key, keyslot int) []volume.Method {
	silent := volume.Tokens{With: key, Device: "TPM2", Keyslot: keyslot, Use: func(t luks2.Token) bool { return !tpm2.WantsPIN(t.JSON) }}
	person := volume.Tokens{With: key, Device: "TPM2", Keyslot: keyslot, Use: func(t luks2.Token) bool { return tpm2.WantsPIN(t.JSON) }, Person: true}
	if len(person.Tokens(h)) == 0 {
		return []volume.Method{silent}
	}
	if len(silent.Tokens(h)) == 0 {
		return []volume.Method{person}
	}
	return []volume.Method{silent, person}
}

// closeTPM closes a TPM that was only read, or that has done its work.
func closeTPM(dev tpm2.Device) {
	if c, ok := dev.(io.Closer); ok {
		_ = c.Close()
	}
}

// measuredBoot tells whether the boot stub has measured the kernel image: it
// leaves the number of the PCR in a variable of the firmware. The environment
// can say so too, as with the originals.
func measuredBoot() bool {
	if on, err := parseBool(os.Getenv("SYSTEMD_FORCE_MEASURE")); err == nil {
		return on
	}
	_, err := os.Stat("/sys/firmware/efi/efivars/StubPcrKernelImage-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
	return err == nil
}

// listTPMs prints the table of --tpm2-device=list.
func (a *app) listTPMs() error {
	list, err := tpm2.List("/")
	if err != nil {
		return err
	}
	t := deviceTable{{"PATH", "DEVICE", "DRIVER"}}
	for _, f := range list {
		t = append(t, []string{f.Path, f.Device, f.Driver})
	}
	return a.printDevices(t, "No suitable TPM2 devices found.")
}
