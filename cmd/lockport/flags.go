package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/volume"
)

// selectionFlag is --wipe-slot=: it may be given more than once and adds up.
type selectionFlag struct{ s *volume.Selection }

func (f selectionFlag) Set(text string) error { return f.s.ParseSelection(text) }
func (f selectionFlag) Type() string          { return "SLOT[,SLOT]" }
func (f selectionFlag) String() string        { return "" }

// onceVar adds a switch that is an error when it is given twice, as it is with
// the originals: it asks for one more keyslot.
func onceVar(f *pflag.FlagSet, p *bool, name, usage string) {
	f.VarPF(onceFlag{p}, name, "", usage).NoOptDefVal = "true"
}

type onceFlag struct{ on *bool }

func (f onceFlag) Set(text string) (err error) {
	if *f.on {
		return errors.New("given twice")
	}
	*f.on, err = strconv.ParseBool(text)
	return err
}
func (f onceFlag) Type() string   { return "bool" }
func (f onceFlag) String() string { return "false" }

// parseBool reads a boolean as systemd spells them.
func parseBool(text string) (bool, error) {
	text = strings.ToLower(text)
	on := slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, text)
	if !on && !slices.Contains([]string{"0", "no", "n", "false", "f", "off"}, text) {
		return false, errors.New("neither yes nor no")
	}
	return on, nil
}

// slotFlag adds --key-slot=, without which all keyslots are tried.
func slotFlag(f *pflag.FlagSet, slot *int) {
	*slot = luks2.AnySlot
	f.Var(slotNumber{slot}, "key-slot", "try only this keyslot")
}

type slotNumber struct{ n *int }

func (s slotNumber) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 31)
	*s.n = int(n)
	return err
}
func (s slotNumber) Type() string   { return "NUMBER" }
func (s slotNumber) String() string { return "" }

// keyFileFlag adds --key-file=, in which "-" stands for standard input as it
// does for cryptsetup.
func keyFileFlag(f *pflag.FlagSet, path *string) {
	f.StringVar(path, "key-file", "", "`FILE` or socket with the passphrase, every byte of it; - is standard input")
}

// keySource is what --key-file= names.
func (a *app) keySource(path string) volume.KeySource {
	if path == "-" {
		path = "/dev/stdin"
	}
	return volume.KeySource{Path: path, Warn: func(text string) { a.warn("%s", text) }}
}

// sizeFlag is a number of bytes with a binary suffix.
type sizeFlag struct{ n *int64 }

func (f sizeFlag) Set(text string) error {
	n, err := parseSize(text)
	*f.n = n
	return err
}
func (f sizeFlag) Type() string   { return "BYTES" }
func (f sizeFlag) String() string { return "" }

// parseSize reads "512", "64M" or "1G".
func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGTkmgt")
	shift := 0
	switch strings.ToUpper(text[len(digits):]) {
	case "":
	case "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	case "T":
		shift = 40
	default:
		return 0, fmt.Errorf("%q is not a size", text)
	}
	n, err := strconv.ParseInt(digits, 10, 63)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	return n << shift, nil
}

// limitFlags adds the bounds on what a header may cost.
func limitFlags(f *pflag.FlagSet, l *luks2.Limits) {
	f.Var(sizeFlag{&l.KDFMemory}, "kdf-memory-max", "most memory for one key derivation, such as 2G (default: what is free)")
}

// count returns how many of the conditions hold.
func count(given ...bool) int {
	n := 0
	for _, g := range given {
		if g {
			n++
		}
	}
	return n
}
