package tpm2

import (
	"bytes"
	"context"
)

// bestBank picks the bank for PCRs as systemd does: of SHA-256 and SHA-1, where
// they keep all PCRs, the first in which the firmware has measured something
// into the PCRs in question; else the first of the two that there is.
func (c *conn) bestBank(ctx context.Context, pcrs []int) (bank, error) {
	active, err := c.activeBanks(ctx)
	if err != nil {
		return bank{}, err
	}
	var first bank
	for _, name := range []string{"sha256", "sha1"} {
		b, err := bankByName(name)
		if err != nil {
			return bank{}, err
		}
		if len(active[b.alg]) <= maxPCR {
			continue
		}
		if first.name == "" {
			first = b
		}
		values, err := c.pcrRead(ctx, b, pcrs)
		if err != nil {
			return bank{}, err
		}
		for _, v := range values {
			if !bytes.Equal(v, bytes.Repeat([]byte{0}, b.size)) && !bytes.Equal(v, bytes.Repeat([]byte{0xff}, b.size)) {
				return b, nil
			}
		}
	}
	if first.name == "" {
		return bank{}, ErrBank
	}
	return first, nil
}
