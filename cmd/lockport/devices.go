package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
)

// deviceOrVar returns the device of the arguments or, without one, the volume
// that /var is on, which is where systemd-cryptenroll looks too. Wiping wants
// to be told which device is meant.
func (a *app) deviceOrVar(args []string, wipes bool) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	if wipes {
		return "", fmt.Errorf("%w, which wiping keyslots wants", errNoDevice)
	}
	device, err := a.mapper().Backing("/var")
	switch {
	case errors.Is(err, errNothingBehind):
		return "", fmt.Errorf("%w, and /var is not on a LUKS2 volume", errNoDevice)
	case err != nil:
		return "", fmt.Errorf("%w, and looking for one: %w", errNoDevice, err)
	}
	a.say("Using %s, which /var is on.", device)
	return device, nil
}

// listDevices prints LUKS volumes, each with its other names.
func (a *app) listDevices() error {
	list, err := a.mapper().LUKSDevices()
	if err != nil {
		return err
	}
	indent := ""
	if isTerminal(a.out) {
		indent = "    "
	}
	for _, d := range list {
		fmt.Fprintln(a.out, d.Node)
		for _, link := range d.Links {
			fmt.Fprintln(a.out, indent+link)
		}
	}
	return nil
}

// A deviceTable is what --…=list options print: the headings, and a row a device.
type deviceTable [][]string

// printDevices prints a table, with "-" for what is not known, or says that there is
// none.
func (a *app) printDevices(t deviceTable, none string) error {
	if len(t) == 1 {
		a.say("%s", none)
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 1, ' ', 0)
	for _, row := range t {
		for i := range row {
			row[i] = or(row[i], "-")
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
