package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/tpm2"
)

type pcrReadOptions struct {
	device string
	banks  []string
	mode   string
}

func (a *app) pcrReadCommand() *cobra.Command {
	o := &pcrReadOptions{mode: "off"}
	cmd := &cobra.Command{
		Use:   "read [OPTIONS] [PCR+PCR…]",
		Short: "Show what the PCRs of the TPM hold",
		Long: `Shows what the PCRs of the TPM hold: number, name, bank and value. Without PCRs
all are shown; they are given by number or by name, joined by +.`,
		Example: `  lockport pcr read 7+kernel-boot
  lockport pcr read --bank=sha1 --json=short 0+2+4`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pcrs, err := pcrNumbers(args)
			if err != nil {
				return err
			}
			return a.pcrRead(cmd.Context(), pcrs, o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.banks, "bank", nil, "`BANK` of PCRs, such as sha256; may be repeated (default: sha256, or the first that the TPM has)")
	tpmDeviceFlag(f, &o.device)
	bindJSON(f, &o.mode)
	return cmd
}

// pcrNumbers reads the argument. No PCRs stand for all.
func pcrNumbers(args []string) ([]int, error) {
	if len(args) == 0 {
		return nil, nil
	}
	list, err := tpm2.ParsePCRs(args[0])
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, p := range list {
		if p.Bank != "" || p.Value != nil {
			return nil, fmt.Errorf("PCR %d comes with a bank or a value; what is read is said by number or name only", p.Index)
		}
		numbers = append(numbers, p.Index)
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("no PCR in %q", args[0])
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), nil
}

type pcrJSON struct {
	PCR  int    `json:"pcr"`
	Name string `json:"name,omitempty"`
	Hash string `json:"hash"`
}

func (a *app) pcrRead(ctx context.Context, pcrs []int, o *pcrReadOptions) error {
	dev, err := a.openTPM(ctx, o.device)
	if err != nil {
		return err
	}
	defer closeTPM(dev)
	have, err := tpm2.Banks(ctx, dev)
	if err != nil {
		return err
	}
	banks, err := chooseBanks(o.banks, have)
	if err != nil {
		return err
	}
	all := map[string][]pcrJSON{}
	for _, bank := range banks {
		wanted := pcrs
		if wanted == nil {
			wanted = have[bank]
		}
		values, err := tpm2.ReadPCRs(ctx, dev, bank, wanted)
		if err != nil {
			return err
		}
		for _, n := range wanted {
			all[bank] = append(all[bank], pcrJSON{n, tpm2.PCRName(n), hex.EncodeToString(values[n])})
		}
	}
	if o.mode != "off" {
		return a.printJSON(o.mode, all)
	}
	return a.printPCRs(banks, all)
}

// chooseBanks returns the banks to read, sorted.
func chooseBanks(wanted []string, have map[string][]int) ([]string, error) {
	names := slices.Sorted(maps.Keys(have))
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: it keeps no PCRs", tpm2.ErrBank)
	}
	if len(wanted) == 0 {
		if len(have["sha256"]) > 0 {
			return []string{"sha256"}, nil
		}
		return names[:1], nil
	}
	var chosen []string
	for _, name := range wanted {
		lower := strings.ToLower(name)
		if len(have[lower]) == 0 {
			return nil, fmt.Errorf("--bank=%s: %w, it has %s", name, tpm2.ErrBank, strings.Join(names, ", "))
		}
		chosen = append(chosen, lower)
	}
	return sortedOnce(chosen), nil
}

func (a *app) printPCRs(banks []string, all map[string][]pcrJSON) error {
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PCR\tNAME\tBANK\tVALUE")
	for _, bank := range banks {
		for _, p := range all[bank] {
			fmt.Fprintf(t, "%3d\t%s\t%s\t%s\n", p.PCR, or(p.Name, "-"), bank, p.Hash)
		}
	}
	return t.Flush()
}
