package main

import (
	"errors"
	"fmt"
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
