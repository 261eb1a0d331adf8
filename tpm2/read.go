package tpm2

import (
	"context"
	"fmt"
)

// Banks returns which PCRs the TPM keeps, by the name of the bank. Banks without
// PCRs and those with an algorithm that no token can name are left out.
func Banks(ctx context.Context, dev Device) (map[string][]int, error) {
	active, err := (&conn{dev}).activeBanks(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the PCR banks: %w", err)
	}
	named := map[string][]int{}
	for _, b := range banks() {
		if list := active[b.alg]; len(list) > 0 {
			named[b.name] = list
		}
	}
	return named, nil
}

// ReadPCRs returns what PCRs hold in a bank, "sha256" for example. The error wraps
// [ErrBank] if the TPM does not keep them in that bank.
func ReadPCRs(ctx context.Context, dev Device, bankName string, pcrs []int) (map[int][]byte, error) {
	b, err := bankByName(bankName)
	if err != nil {
		return nil, err
	}
	for _, n := range pcrs {
		if n < 0 || n > maxPCR {
			return nil, fmt.Errorf("there is no PCR %d", n)
		}
	}
	values, err := (&conn{dev}).pcrRead(ctx, b, pcrs)
	if err != nil {
		return nil, fmt.Errorf("reading PCRs of bank %s: %w", bankName, err)
	}
	return values, nil
}
