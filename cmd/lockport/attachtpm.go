package main

import (
	"context"
	"slices"

	"github.com/lockport/lockport/crypttab"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/volume"
)

// attachTPM lists the ways to unlock with a TPM2. It is waited for only when an
// option asks for it; a header that has a token for it is reason enough to try.
func (a *app) attachTPM(h *luks2.Header, at *attachment) []volume.Method {
	o := at.options
	if o.TPM2.Device == "" && (at.keyFile != "" || !hasTPMToken(h)) {
		return nil
	}
	key := a.tpmKey(o.TPM2.Device, tokenWait(o.TPM2.Device != "", o.TokenTimeout))
	key.PCRs = pcrsOf(o.TPM2.PCRs)
	if o.TPM2.Signature != "" {
		key.Signatures = []string{o.TPM2.Signature}
	}
	if o.TPM2.PCRLock != "" {
		key.PCRLocks = []string{o.TPM2.PCRLock}
	}
	key.NoCache = o.Cache == crypttab.CacheNo
	key.Question = volume.Question{Message: "Please enter TPM2 PIN for disk " + at.device + " (" + at.name + "):",
		ID: "cryptsetup:" + at.device, Echo: o.Echo, Timeout: o.Timeout}
	if o.TPM2.Device != "" && at.keyFile != "" {
		return []volume.Method{tpm2.Blob{Key: key, Source: a.keyFileOf(at, at.keyFile, "cryptsetup-tpm2"), PIN: o.TPM2.PIN, Keyslot: o.KeySlot}}
	}
	return tpmTokens(h, key, o.KeySlot)
}

func hasTPMToken(h *luks2.Header) bool {
	return slices.ContainsFunc(h.Tokens(), func(t luks2.Token) bool { return t.Type == tpm2.TokenType })
}

// pcrsOf lists the PCRs of a mask, nil for no mask.
func pcrsOf(mask *uint32) []int {
	if mask == nil {
		return nil
	}
	list := []int{}
	for n := range 32 {
		if *mask&(1<<n) != 0 {
			list = append(list, n)
		}
	}
	return list
}

// measure extends a PCR by a keyed hash of the volume key, if that is asked for,
// so that software started later can tell which volumes were opened. As with
// the original it is done only where a measured kernel image was booted, and a
// failure does not close the volume again.
func (a *app) measure(ctx context.Context, at *attachment, uuid string, key *secret.Bytes) {
	o := at.options.TPM2
	if o.MeasurePCR < 0 {
		return
	}
	if !measuredBoot() {
		a.warn("the volume key is not measured to PCR %d: this boot was not that of a measured kernel image", o.MeasurePCR)
		return
	}
	dev, err := a.awaitTPM(ctx, o.Device, at.options.TokenTimeout)
	if err == nil {
		defer closeTPM(dev)
		err = tpm2.Measure(ctx, dev, tpm2.Measurement{PCR: o.MeasurePCR, Banks: o.MeasureBank, Volume: at.name, UUID: uuid, Key: key, Root: "/"})
	}
	if err != nil {
		a.warn("measuring the volume key to PCR %d: %v", o.MeasurePCR, err)
	}
}
