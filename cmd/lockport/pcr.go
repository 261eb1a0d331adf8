package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockport/lockport/tpm2/uki"
)

func (a *app) pcrCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pcr",
		Short: "Read, predict or sign the values of PCRs",
		Args:  noSuchCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.pcrReadCommand(), a.pcrPredictCommand(), a.pcrSignCommand())
	return cmd
}

// bootOptions say what is booted, and how far. The names of the options are those
// of systemd-measure, except for --uki-profile.
type bootOptions struct {
	profile int
	files   map[string]*string // of sections, by name
	banks   []string
	phases  []string
}

// sectionUses says what the sections hold.
var sectionUses = map[string]string{"linux": "kernel", "osrel": "os-release", "cmdline": "kernel command line", "initrd": "initrd",
	"ucode": "microcode", "splash": "boot splash", "dtb": "device tree", "uname": "kernel release", "sbat": "revocation data",
	"pcrpkey": "public key for PCR signatures", "profile": "profile", "dtbauto": "device tree that suits the machine",
	"hwids": "hardware IDs"}

func (o *bootOptions) bind(f *pflag.FlagSet) {
	f.StringArrayVar(&o.banks, "bank", nil, "`BANK` of PCRs: "+strings.Join(uki.Banks(), ", ")+"; may be repeated (default: all of them)")
	f.StringArrayVar(&o.phases, "phase", nil, "`PHASE` of the boot, words joined by colons; may be repeated (default: from enter-initrd to ready)")
	f.IntVar(&o.profile, "uki-profile", 0, "`NUMBER` of the profile that is booted")
	o.files = map[string]*string{}
	for _, name := range uki.Names() {
		o.files[name] = f.String(name, "", "`FILE` with the section ."+name+": "+sectionUses[name])
	}
}

// check refuses calls in which it is not clear what is booted.
func (o *bootOptions) check(cmd *cobra.Command, args []string) error {
	apart := ""
	for _, name := range uki.Names() {
		if *o.files[name] != "" && apart == "" {
			apart = "--" + name
		}
	}
	switch {
	case len(args) > 0 && apart != "":
		return misused(cmd, "there is %s beside UKI, which has its sections in it", apart)
	case len(args) == 0 && apart == "":
		return misused(cmd, "UKI is missing")
	case len(args) == 0 && *o.files["linux"] == "":
		return misused(cmd, "--linux is missing")
	case len(args) == 0 && o.profile != 0:
		return misused(cmd, "--uki-profile is for a UKI; apart, give the profile's own sections")
	}
	return o.tidy()
}

// tidy fills and orders the lists as the original does: sorted, and nothing twice.
func (o *bootOptions) tidy() error {
	for i, b := range o.banks {
		if o.banks[i] = strings.ToLower(b); !slices.Contains(uki.Banks(), o.banks[i]) {
			return fmt.Errorf("--bank=%s: unknown, there are %s", b, strings.Join(uki.Banks(), ", "))
		}
	}
	if len(o.banks) == 0 {
		o.banks = uki.Banks()
	}
	for i, p := range o.phases {
		o.phases[i] = uki.ParsePhase(p).String()
	}
	if len(o.phases) == 0 {
		for _, p := range uki.DefaultPhases() {
			o.phases = append(o.phases, p.String())
		}
	}
	o.banks, o.phases = sortedOnce(o.banks), sortedOnce(o.phases)
	return nil
}

func sortedOnce(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// measure computes what the options say is booted.
func (o *bootOptions) measure(ctx context.Context, args []string) (*uki.Measurement, error) {
	if len(args) == 0 {
		return o.measureFiles(ctx)
	}
	img, err := uki.Open(args[0], o.profile)
	if err != nil {
		return nil, onDevice(args[0], err)
	}
	defer img.Close()
	m, err := uki.Measure(ctx, img.Sections(), o.banks...)
	return m, onDevice(args[0], err)
}

func (o *bootOptions) measureFiles(ctx context.Context) (*uki.Measurement, error) {
	var list []uki.Section
	for name, path := range o.files {
		if *path == "" {
			continue
		}
		f, err := os.Open(*path)
		if err != nil {
			return nil, onDevice(*path, err)
		}
		defer f.Close()
		list = append(list, uki.Section{Name: name, Content: f})
	}
	return uki.Measure(ctx, list, o.banks...)
}

// jsonFlag is --json[=MODE], whose modes are those of the originals.
type jsonFlag struct{ mode *string }

func (j jsonFlag) Set(text string) error {
	if !slices.Contains([]string{"off", "short", "pretty"}, text) {
		return errors.New("neither short, pretty nor off")
	}
	*j.mode = text
	return nil
}
func (j jsonFlag) Type() string   { return "MODE" }
func (j jsonFlag) String() string { return "" }

func bindJSON(f *pflag.FlagSet, mode *string) {
	f.VarPF(jsonFlag{mode}, "json", "", "print JSON, in one line if MODE is short, else pretty").NoOptDefVal = "pretty"
}

// printJSON prints in a mode.
func (a *app) printJSON(mode string, v any) error {
	e := json.NewEncoder(a.out)
	if mode == "pretty" {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}
