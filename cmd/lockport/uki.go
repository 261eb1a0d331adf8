package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/tpm2/uki"
)

// predictUKI returns what PCR 11 will hold, in each bank, when this kernel image
// was booted and has come to a phase, and the signatures that it brings, nil for
// none.
func predictUKI(ctx context.Context, file, phase string) ([]tpm2.PCR, []byte, error) {
	img, err := uki.Open(file, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("kernel image %s: %w", file, err)
	}
	defer img.Close()
	var signatures []byte
	m, err := uki.Measure(ctx, img.Sections())
	if section := img.Section("pcrsig"); err == nil && section != nil {
		signatures, err = io.ReadAll(io.LimitReader(section, maxSignatures))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("kernel image %s: %w", file, err)
	}
	var list []tpm2.PCR
	for _, bank := range uki.Banks() {
		value, err := m.PCR11(bank, uki.ParsePhase(phase))
		if err != nil {
			return nil, nil, err
		}
		list = append(list, tpm2.PCR{Index: uki.PCR, Bank: bank, Value: value})
	}
	return list, bytes.TrimRight(signatures, "\x00"), nil
}
