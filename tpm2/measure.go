package tpm2

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/lockport/lockport/secret"
)

// Measurement is what is told to a PCR about a volume that was opened.
type Measurement struct {
	PCR    int
	Banks  []string      // nil for all that the TPM keeps the PCR in
	Volume string        // name of the mapping
	UUID   string        // of the volume
	Key    *secret.Bytes // the volume key; stays the caller's
	Root   string        // under which systemd's log of measurements is added to; "" for no log
}

// word is what the volume key is the key of a hash over. Format: systemd,
// src/cryptsetup/cryptsetup.c, measure_volume_key.
func (m Measurement) word() string {
	var b strings.Builder
	b.WriteString("cryptsetup:")
	for _, c := range []byte(m.Volume) {
		if c < ' ' || c >= 0x7f || c == ':' || c == '\\' {
			fmt.Fprintf(&b, `\x%02x`, c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String() + ":" + m.UUID
}

func (b bank) hash() func() hash.Hash {
	switch b.alg {
	case algSHA1:
		return sha1.New
	case algSHA384:
		return sha512.New384
	case algSHA512:
		return sha512.New
	}
	return sha256.New
}

// Measure extends a PCR by a keyed hash that only who has the volume key can
// make. The bus shows that hash, never the key.
func Measure(ctx context.Context, dev Device, m Measurement) error {
	c := &conn{dev}
	banks, err := c.measuredBanks(ctx, m)
	if err != nil {
		return err
	}
	word := m.word()
	params, digests := put32(nil, uint32(len(banks))), make([]logDigest, 0, len(banks))
	for _, b := range banks {
		mac := hmac.New(b.hash(), m.Key.Reveal())
		mac.Write([]byte(word))
		sum := mac.Sum(nil)
		params = append(put16(params, b.alg), sum...)
		digests = append(digests, logDigest{b.name, sum})
	}
	if _, _, err = c.run(ctx, call{code: ccPCRExtend, handles: []object{fixed(uint32(m.PCR))}, auths: emptyAuth(), params: params}); err != nil {
		return err
	}
	if m.Root == "" {
		return nil
	}
	if err := appendLog(m.Root, m.PCR, word, digests); err != nil {
		return fmt.Errorf("measured, but not logged: %w", err)
	}
	return nil
}

// measuredBanks returns the banks to extend: those asked for, which have to be
// there, or all.
func (c *conn) measuredBanks(ctx context.Context, m Measurement) ([]bank, error) {
	active, err := c.activeBanks(ctx)
	if err != nil {
		return nil, err
	}
	var list []bank
	for _, name := range m.Banks {
		b, err := bankByName(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(active[b.alg], m.PCR) {
			return nil, fmt.Errorf("%w: %s", ErrBank, name)
		}
		if !slices.Contains(list, b) {
			list = append(list, b)
		}
	}
	if len(m.Banks) == 0 {
		// A bank that is left out would look as if nothing had been opened.
		for alg, pcrs := range active {
			if !slices.ContainsFunc(banks(), func(b bank) bool { return b.alg == alg }) && slices.Contains(pcrs, m.PCR) {
				return nil, fmt.Errorf("the TPM has a PCR bank of an algorithm that is not known: %#x", alg)
			}
		}
		list = slices.DeleteFunc(banks(), func(b bank) bool { return !slices.Contains(active[b.alg], m.PCR) })
	}
	if len(list) == 0 {
		return nil, errors.New("the TPM keeps this PCR in no bank")
	}
	return list, nil
}
