package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/tpm2/uki"
)

func (a *app) pcrPredictCommand() *cobra.Command {
	o := &bootOptions{}
	mode := "off"
	cmd := &cobra.Command{
		Use:   "predict [OPTIONS] [UKI]",
		Short: "Compute what PCR 11 will be when a kernel image boots",
		Long: `Computes what PCR 11 will be when a unified kernel image (UKI) has booted to a
phase, as 'systemd-measure calculate' does. The image is a file as ukify makes
it, or its sections are given as files.

Each line of the output is PCR:BANK=VALUE, which --tpm2-pcrs of
systemd-cryptenroll takes. The phases are told on standard error.

Which sections a stub measures depends on its version, which a UKI tells.
Sections that are given as files all count.`,
		Example: `  lockport pcr predict --bank=sha256 /boot/EFI/Linux/debian.efi
  lockport pcr predict --linux=vmlinuz --initrd=initrd --cmdline=cmdline --phase=enter-initrd`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, args); err != nil {
				return err
			}
			return a.pcrPredict(cmd.Context(), args, o, mode)
		},
	}
	o.bind(cmd.Flags())
	bindJSON(cmd.Flags(), &mode)
	return cmd
}

type predictionJSON struct {
	Phase string `json:"phase,omitempty"`
	PCR   int    `json:"pcr"`
	Hash  string `json:"hash"`
}

func (a *app) pcrPredict(ctx context.Context, args []string, o *bootOptions, mode string) error {
	m, err := o.measure(ctx, args)
	if err != nil {
		return err
	}
	all := map[string][]predictionJSON{}
	for _, phase := range o.phases {
		if mode == "off" {
			fmt.Fprintf(a.err, "# PCR[%d] Phase <%s>\n", uki.PCR, or(phase, ":"))
		}
		for _, bank := range o.banks {
			value, err := m.PCR11(bank, uki.ParsePhase(phase))
			if err != nil {
				return err
			}
			p := predictionJSON{phase, uki.PCR, hex.EncodeToString(value)}
			all[bank] = append(all[bank], p)
			if mode == "off" {
				if _, err := fmt.Fprintf(a.out, "%d:%s=%s\n", p.PCR, bank, p.Hash); err != nil {
					return err
				}
			}
		}
	}
	if mode == "off" {
		return nil
	}
	return a.printJSON(mode, all)
}
